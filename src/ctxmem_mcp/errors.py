"""The errors that a caller can understand and act on.

CtxmemError
├── NotFound       UnknownConversation · UnknownTurn · UnknownNode
├── Refused        Forgotten (ForgottenBranch) · InvalidArgument · BudgetTooSmall · NotConfirmed · AmbiguousId ·
│                  ConfigRefused
├── AccessDenied
├── LimitReached
├── Conflict       HeadMoved
├── Unavailable    StoreUnavailable (StoreReadOnly) · NewerFormat · ModelUnavailable (ModelMisconfigured) ·
│                  ModelCallFailed · SummaryRejected
└── Corrupt        BrokenHistory (DamagedConversation)

Each error has a message of one sentence that names what is wrong, and a hint that says what to do next.
Errors know no protocol: each adapter maps the second level of this tree to its own codes.
"""

from __future__ import annotations


class CtxmemError(Exception):
    """The base of all errors that a caller can understand and act on.

    Attributes:
        message: What is wrong, in one sentence.
        hint: What to do next; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class NotFound(CtxmemError):
    """The named thing does not exist: it never existed, has expired or was forgotten."""


class UnknownConversation(NotFound):
    """No conversation has this id."""

    def __init__(self, conversation_id: str) -> None:
        super().__init__(
            f"No conversation {conversation_id!r}: it never existed, has expired or was forgotten.",
            "Call list_conversations for the ids, or append_turn to start a conversation.",
        )


class UnknownTurn(NotFound):
    """No turn of the conversation has this id."""

    def __init__(self, turn_id: str, conversation_id: str) -> None:
        super().__init__(
            f"No turn {turn_id!r} in conversation {conversation_id!r}.",
            "Take the id from get_context or search_turns, e.g. 't41-837'.",
        )


class UnknownNode(NotFound):
    """No node of the conversation has this id."""

    def __init__(self, node_id: str, conversation_id: str) -> None:
        super().__init__(
            f"No node {node_id!r} in conversation {conversation_id!r}.",
            "Take the id from get_context: 'n40-55-213' is a node, 't41-837' a turn, 't42-t47' a span of turns.",
        )


class Refused(CtxmemError):
    """The request breaks a rule; nothing was changed."""


class Forgotten(Refused):
    """Raised for turns of a forgotten conversation, which are not stored again.

    Attributes:
        conversation_id: The conversation.
        during_call: It was forgotten after the turns were said: they belong to it, although it never had them.
    """

    def __init__(self, conversation_id: str, *, during_call: bool = False) -> None:
        self.conversation_id, self.during_call = conversation_id, during_call
        super().__init__(
            f"Conversation {conversation_id!r} holds what was forgotten, or was forgotten during this call; "
            "nothing was stored.",
            "Send only what is new, under a new conversation_id. `ctxmem-mcp import --again FILE` brings back what a "
            "transcript still has.",
        )


class ForgottenBranch(Forgotten):
    """Raised for turns of a forgotten branch, which are not stored again; the other branches can be continued."""

    def __init__(self, conversation_id: str) -> None:
        self.conversation_id, self.during_call = conversation_id, False
        CtxmemError.__init__(
            self,
            f"A branch of conversation {conversation_id!r} was forgotten, and the turns are part of it or were sent "
            "before; nothing was stored.",
            "Send only what is new, after a turn of another branch.",
        )


class InvalidArgument(Refused):
    """An argument breaks a rule.

    Args:
        argument: Its name, as the caller writes it.
        rule: The rule it breaks, as the rest of a sentence without a full stop.
        remedy: What to pass instead.
    """

    def __init__(self, argument: str, rule: str, remedy: str = "") -> None:
        super().__init__(f"{argument}: {rule}.", remedy)
        self.argument = argument


class BudgetTooSmall(Refused):
    """No view fits the token budget. floor: tokens of the smallest view."""

    def __init__(self, token_budget: int, floor: int) -> None:
        super().__init__(
            f"token_budget: {token_budget} tokens are too few; the smallest view of this conversation takes {floor}.",
            f"Call again with token_budget >= {floor}.",
        )
        self.floor = floor


class NotConfirmed(Refused):
    """A conversation is not forgotten unless `confirm` repeats its id."""

    def __init__(self, conversation_id: str, other_branches: int = 0) -> None:
        """other_branches: how many branches besides the head's would go with it."""
        others = f", with {other_branches} other {'branch' if other_branches == 1 else 'branches'}"
        super().__init__(
            f"confirm: must repeat the conversation_id to forget {conversation_id!r}"
            f"{others if other_branches else ''}; nothing was removed.",
            f"Call again with confirm={conversation_id!r}. Forgetting can't be undone."
            + (" With turn_id, only that turn's branch is forgotten." if other_branches else ""),
        )


class AmbiguousId(Refused):
    """A shortened id matches more than one thing."""

    def __init__(self, given: str, candidates: list[str]) -> None:
        super().__init__(f"{given!r} matches more than one id: {', '.join(candidates)}.", "Pass one of these in full.")


class ConfigRefused(Refused):
    """An agent's config file can't be edited: it is broken, or contains something that must not be overwritten."""

    def __init__(self, path: str, why: str, hint: str = "") -> None:
        super().__init__(f"{path} {why}.", hint or "It was not changed; correct it, then run this again.")


class AccessDenied(CtxmemError):
    """A principal may not do this in a space that is shared with it; nothing was changed."""

    def __init__(self, space: str, needed: str, right: str) -> None:
        super().__init__(
            f"This needs the right {needed!r} in the space {space!r}; you have the right {right!r}.",
            "Ask a principal that manages the space.",
        )


class LimitReached(CtxmemError):
    """A memory is as large as it may be; nothing was stored."""

    def __init__(self, stored: str, setting: str) -> None:
        """stored: what is stored, in words. setting: the environment variable with the limit."""
        super().__init__(
            f"This memory stores {stored}, which is its limit ({setting}); nothing was stored.",
            "Forget conversations that are no longer needed, or ask the server's operator.",
        )


class Conflict(CtxmemError):
    """Another writer was faster; read again and retry."""


class HeadMoved(Conflict):
    """The conversation changed between reading its head and committing to it."""

    def __init__(self, conversation_id: str) -> None:
        super().__init__(
            f"Conversation {conversation_id!r} was changed by another writer.", "Read its head again and retry."
        )


class Unavailable(CtxmemError):
    """The store can't serve the request at the moment, or can't serve this file at all."""


class StoreUnavailable(Unavailable):
    """The disk is full, the folder is not writable, or the file was locked for too long."""


class StoreReadOnly(StoreUnavailable):
    """The store can't be written: the disk is full, or a file or folder is read-only. What is stored can be read."""


class NewerFormat(Unavailable):
    """A file was written by a newer version of ctxmem-mcp."""

    def __init__(self, path: str, version: int, known: int) -> None:
        super().__init__(
            f"{path} has format {version}, but this ctxmem-mcp reads formats up to {known}; the file was not changed.",
            "Upgrade ctxmem-mcp.",
        )


class ModelUnavailable(Unavailable):
    """The configured model can't be called at the moment; the call cost nothing.

    Attributes:
        retry_after: Seconds to wait before the next call, if the endpoint stated them.
    """

    def __init__(self, message: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(message, hint)
        self.retry_after = retry_after


class ModelMisconfigured(ModelUnavailable):
    """The endpoint rejects the address, the key or the model; a retry would fail as well."""


class ModelCallFailed(Unavailable):
    """A request was sent, but no chat completion came back; it may have been billed."""


class SummaryRejected(Unavailable):
    """A model responded, but not with a summary of the record it was sent."""


class Corrupt(CtxmemError):
    """Stored bytes do not match their hash. Corruption is reported, never repaired silently."""


class BrokenHistory(Corrupt):
    """Stored data is not what was written: a checksum, a hash, a type or a row that should be there."""


class DamagedConversation(BrokenHistory):
    """Something that is stored of a conversation can't be read. what: a sentence that names the row."""

    def __init__(self, conversation_id: str, what: str) -> None:
        super().__init__(
            f"Conversation {conversation_id!r} is damaged: {what.rstrip('.')}.",
            f"Run ctxmem-mcp verify {conversation_id} to see what is damaged, and ctxmem-mcp repair {conversation_id} "
            "to save all that can be read.",
        )


def with_name(name: str, reason: str) -> str:
    """Returns a reason with the name of the file or conversation that it is about, once."""
    return reason if name in reason else f"{name}: {reason}"
