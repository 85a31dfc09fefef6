"""Everything that can go wrong, and what to do next.

CtxmemError
├── NotFound       UnknownConversation · UnknownTurn · UnknownNode
├── Refused        InvalidArgument · BudgetTooSmall · NotConfirmed · AmbiguousId · ConfigRefused
├── Conflict       HeadMoved · ConversationForgotten
├── Unavailable    StoreUnavailable · NewerFormat · ModelUnavailable (ModelMisconfigured) · ModelSilent · AnswerUnusable
└── Corrupt        BrokenHistory

Every error is one sentence that names what was wrong, and a hint that says what to do next.
Errors know no protocol: each face has its own table over the second level of this tree.
"""

from __future__ import annotations


class CtxmemError(Exception):
    """Something that the caller can understand and act on."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NotFound(CtxmemError):
    """The thing that was named is not there (never was, expired, or was forgotten)."""


class UnknownConversation(NotFound):
    def __init__(self, conversation_id: str) -> None:
        super().__init__(
            f"No conversation {conversation_id!r}: it never existed, has expired or was forgotten.",
            "Call list_conversations for the ones there are, or append_turn to begin one.",
        )


class UnknownTurn(NotFound):
    def __init__(self, turn_id: str, conversation_id: str) -> None:
        super().__init__(
            f"No turn {turn_id!r} in conversation {conversation_id!r}.",
            "Take the id from get_context or search_turns, e.g. 't41-837'.",
        )


class UnknownNode(NotFound):
    def __init__(self, node_id: str, conversation_id: str) -> None:
        super().__init__(
            f"No node {node_id!r} in conversation {conversation_id!r}.",
            "Take the id from get_context: 'n40-55-213' is a node, 't41-837' a turn, 't42-t47' a span of turns.",
        )


class Refused(CtxmemError):
    """The request breaks a rule; nothing was changed."""


class InvalidArgument(Refused):
    """An argument that breaks its rule: names the argument, the rule and the remedy."""

    def __init__(self, argument: str, rule: str, remedy: str = "") -> None:
        super().__init__(f"{argument}: {rule}.", remedy)
        self.argument = argument


class BudgetTooSmall(Refused):
    def __init__(self, token_budget: int, floor: int) -> None:
        super().__init__(
            f"token_budget: {token_budget} tokens hold no view of this conversation; the smallest takes {floor}.",
            f"Ask again with token_budget >= {floor}.",
        )
        self.floor = floor


class NotConfirmed(Refused):
    def __init__(self, conversation_id: str) -> None:
        super().__init__(
            f"confirm: must repeat the conversation_id to forget {conversation_id!r}; nothing was removed.",
            f"Call again with confirm={conversation_id!r}. Forgetting can't be undone.",
        )


class AmbiguousId(Refused):
    def __init__(self, given: str, candidates: list[str]) -> None:
        super().__init__(f"{given!r} fits more than one: {', '.join(candidates)}.", "Give one of these in full.")


class ConfigRefused(Refused):
    """An agent's config file that can't be edited: it is broken, or says something that must not be overwritten."""

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        super().__init__(f"{path} {why}.", hint or "It was not touched; put that right, then run this again.")


class Conflict(CtxmemError):
    """Somebody else was faster; the caller reads again and retries."""


class HeadMoved(Conflict):
    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation {conversation_id!r} changed meanwhile.", "Read its head again and retry.")


class ConversationForgotten(Conflict):
    def __init__(self, conversation_id: str) -> None:
        super().__init__(f"Conversation {conversation_id!r} was forgotten meanwhile.", "Begin a new one.")


class Unavailable(CtxmemError):
    """The store can't serve just now, or can't serve this file at all."""


class StoreUnavailable(Unavailable):
    """The disk is full, the folder is not writable, or the file is locked for too long."""


class NewerFormat(Unavailable):
    def __init__(self, path: str, version: int, known: int) -> None:
        super().__init__(
            f"{path} has format {version}; this ctxmem-mcp knows up to {known}. The file was not touched.",
            "Upgrade ctxmem-mcp.",
        )


class ModelUnavailable(Unavailable):
    """The configured model does not answer just now; nothing was spent. retry_after: seconds, where it said so."""

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ModelMisconfigured(ModelUnavailable):
    """The endpoint refuses the address, the key or the model: trying again changes nothing."""


class ModelCallFailed(Unavailable):
    """A request went out and no chat completion came back; it may have been paid for."""


class SummaryRejected(Unavailable):
    """A model answered, and the answer is no summary of what it was asked about."""


class Corrupt(CtxmemError):
    """Stored bytes do not give the hash they had: detected and said, never repaired silently."""


class BrokenHistory(Corrupt):
    """A stored turn or node does not hash to its id."""
