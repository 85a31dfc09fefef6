"""What the gateway needs of a provider's API: parsing requests and responses, compacting a request. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import and_
from typing import TYPE_CHECKING, Any, Protocol

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.gateway.conversation import is_user, join_user_messages
from ctxmem_mcp.http_api.gateway.prefix import PrefixCache
from ctxmem_mcp.http_api.gateway.sse import ArrayParser, EventParser
from ctxmem_mcp.models import NewTurn

if TYPE_CHECKING:
    from ctxmem_mcp.http_api.gateway.conversation import Head, ParsedRequest, TokenCounter
    from ctxmem_mcp.http_api.gateway.cut_point import Cut


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts reported by the upstream; None if it reported none.

    Attributes:
        tokens_in: input tokens, including cached ones.
        tokens_out: output tokens.
        cached: input tokens served from the upstream's cache.
    """

    tokens_in: int | None = None
    tokens_out: int | None = None
    cached: int | None = None


class AnswerAssembler(Protocol):
    """Assembles the model's answer from the events of a streamed response."""

    def add(self, event: Any) -> None:
        """Adds the JSON data of an event."""
        ...

    def turns(self) -> list[NewTurn]:
        """Returns the answer's turns; none until the answer is complete."""
        ...

    def usage(self) -> Usage:
        """Returns the usage reported so far."""
        ...

    def complete(self) -> Any:
        """Returns the complete response, if the API streams one; else None."""
        ...


class Provider(Protocol):
    """A provider's API: the formats of its requests and responses."""

    def parse_request(self, body: Mapping[str, Any], tokens: TokenCounter) -> ParsedRequest:
        """Returns the conversation of a request. Raises InvalidArgument if its messages are malformed."""
        ...

    def compact_request(self, body: Mapping[str, Any], cut: Cut, head: Head) -> dict[str, Any]:
        """Returns the request with the messages before the cut replaced by a head."""
        ...

    def parse_response(self, response: Any) -> list[NewTurn]:
        """Returns the turns of a complete response's answer, or none if it is malformed."""
        ...

    def parse_usage(self, response: Any) -> Usage:
        """Returns the usage that a response reports."""
        ...

    def annotate_usage(self, response: Any, saved: int) -> bool:
        """Adds to a response's usage the input tokens without compaction. Returns False if it reports no usage."""
        ...

    def assembler(self) -> AnswerAssembler:
        """Returns an assembler for one streamed response."""
        ...

    def previous_response(self, body: Mapping[str, Any]) -> str | None:
        """Returns the id of the response that the request continues without repeating what was before, or None."""
        ...

    def with_messages_before(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        """Returns the request with the messages before a response that it continues."""
        ...

    def messages(self, body: Mapping[str, Any]) -> list[Any]:
        """Returns the messages of a request as the API has them. Raises InvalidArgument if there are none."""
        ...

    def with_messages(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        """Returns the request with these messages in place of its own."""
        ...

    def messages_after(self, body: Mapping[str, Any], response: Any) -> tuple[str, tuple[Any, ...]] | None:
        """Returns a response's id and all messages up to it, if a request may refer to it instead of repeating it."""
        ...

    def max_output_tokens(self, body: Mapping[str, Any]) -> int | None:
        """Returns the request's limit of output tokens, or None."""
        ...

    def has_tools(self, body: Mapping[str, Any]) -> bool:
        """Returns whether the request offers tools."""
        ...

    def as_in_transcript(self, turn: NewTurn) -> NewTurn:
        """Returns a turn of a request as the transcripts of the agents that use this API have it."""
        ...

    def error_body(self, status: int, message: str) -> dict[str, Any]:
        """Returns the body of an error response of this server, in the provider's format."""
        ...


class TopLevelTools:
    """The methods of an API whose requests have their tools in `tools`, and whose turns are those of transcripts."""

    def as_in_transcript(self, turn: NewTurn) -> NewTurn:
        return turn

    def has_tools(self, body: Mapping[str, Any]) -> bool:
        return bool(body.get("tools"))


class RepeatsConversation(TopLevelTools):
    """The methods of an API whose every request repeats the whole conversation, in `messages`."""

    def __init__(self) -> None:
        self._users: PrefixCache[bool] = PrefixCache()

    def _with_joined_users(self, before: Sequence[Any], messages: Sequence[Any]) -> list[Any]:
        """Returns messages with neighbours of the user joined, unless the client's own list has such neighbours.

        Args:
            before: the client's messages.
            messages: the messages to send.
        """
        users = self._users.map(before, lambda i: is_user(before[i]))
        return list(messages) if any(map(and_, users, users[1:])) else join_user_messages(messages)

    def previous_response(self, body: Mapping[str, Any]) -> None:
        return None

    def with_messages_before(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        return dict(body)

    def messages(self, body: Mapping[str, Any]) -> list[Any]:
        return messages_of(body)

    def with_messages(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        return {**body, "messages": list(messages)}

    def messages_after(self, body: Mapping[str, Any], response: Any) -> None:
        return None


def openai_error(status: int, message: str) -> dict[str, Any]:
    """Returns the body of an error response in the format of OpenAI's APIs."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def messages_of(body: Mapping[str, Any]) -> list[Any]:
    """Returns the messages of a request's body. Raises InvalidArgument if there are none."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidArgument("messages", "must be a non-empty array")
    return messages


def count_or_none(value: object) -> int | None:
    """Returns the value if it is a non-negative integer."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


@dataclass(slots=True)
class StreamRecorder:
    """Records the answer of a stream while it is relayed.

    After an error nothing more is recorded, because the answer would have a hole; relaying is not affected.

    Attributes:
        assembler: collects the answer.
        parser: parses the stream.
        error: the name of the error that ended the recording, or None.
    """

    assembler: AnswerAssembler
    parser: EventParser | ArrayParser = field(default_factory=EventParser)
    error: str | None = None

    def feed(self, chunk: bytes) -> None:
        """Records a chunk of the stream."""
        self._add(self.parser.feed(chunk))

    def finish(self) -> list[NewTurn]:
        """Returns the answer's turns, or none if it is incomplete."""
        self._add(self.parser.finish())
        if self.error is None:
            try:
                return self.assembler.turns()
            except Exception as error:
                self.error = type(error).__name__
        return []

    def _add(self, events: Iterator[Any]) -> None:
        if self.error is not None:
            return
        try:
            for event in events:
                self.assembler.add(event)
        except Exception as error:
            self.error = type(error).__name__
