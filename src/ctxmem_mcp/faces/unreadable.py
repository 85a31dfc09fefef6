"""Messages that the SDK can't read, answered. It drops them, and over stdio their sender would wait for ever.

The one that happens: half of a surrogate pair (a text cut inside an emoji), which JavaScript writes into JSON as an
escape and which is no Unicode. Storing another character in its place would not be lossless, so it is refused.
"""

from __future__ import annotations

import contextvars
import json
from types import TracebackType
from typing import Any

from mcp.shared.message import SessionMessage
from mcp.types import PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

REFUSAL = (
    "The message is JSON but not Unicode: it holds half of a surrogate pair, such as an emoji cut in two. Nothing was "
    "done. Replace it (by U+FFFD) and send the message again."
)


class Answered:
    """The incoming messages, without those that are answered here."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        self._incoming, self._outgoing = incoming, outgoing

    @property
    def last_context(self) -> contextvars.Context | None:
        found: contextvars.Context | None = getattr(self._incoming, "last_context", None)
        return found

    async def receive(self) -> SessionMessage | Exception:
        return await anext(self)

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            item: SessionMessage | Exception = await anext(self._incoming)
            answer = answer_to(item) if isinstance(item, ValidationError) else None
            if answer is None:
                return item
            await self._outgoing.send(SessionMessage(answer))

    def __aiter__(self) -> Answered:
        return self

    async def aclose(self) -> None:
        await self._incoming.aclose()

    async def __aenter__(self) -> Answered:
        await self._incoming.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        done: bool | None = await self._incoming.__aexit__(kind, error, trace)
        return done


def answer_to(error: ValidationError) -> JSONRPCError | None:
    """The answer to a request that is JSON for everybody but the SDK; None where that is not what is wrong."""
    fault = error.errors(include_url=False)[0]
    if fault["type"] != "json_invalid":
        return None
    try:
        message = json.loads(fault["input"])
    except ValueError:
        return None
    asked = message.get("id") if isinstance(message, dict) else None
    if not isinstance(asked, int | str) or isinstance(asked, bool) or not _holds_half_a_pair(message):
        return None
    return JSONRPCError(jsonrpc="2.0", id=asked, error=ErrorData(code=PARSE_ERROR, message=REFUSAL))


def _holds_half_a_pair(message: object) -> bool:
    try:
        json.dumps(message, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
