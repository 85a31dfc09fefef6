"""Messages that the SDK can't read, answered. It drops them, and over stdio their sender would wait for ever.

The one that happens: half of a surrogate pair (a text cut inside an emoji), which JavaScript writes into JSON as an
escape and which is no Unicode. Storing another character in its place would not be lossless, so it is refused.
"""

from __future__ import annotations

import json
from typing import Any

from mcp.shared.message import SessionMessage
from mcp.types import PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import ValidationError

from ctxmem_mcp.mcp_server.stdio_streams import Stream

REFUSAL = (
    "The message is JSON but not Unicode: it holds half of a surrogate pair, such as an emoji cut in two. Nothing was "
    "done. Replace it (by U+FFFD) and send the message again."
)


class Answered(Stream):
    """The incoming messages, without those that are answered here."""

    def __init__(self, incoming: Any, outgoing: Any) -> None:
        super().__init__(incoming)
        self._outgoing = outgoing

    async def __anext__(self) -> SessionMessage | Exception:
        while True:
            item = await super().__anext__()
            answer = answer_to(item) if isinstance(item, ValidationError) else None
            if answer is None:
                return item
            await self._outgoing.send(SessionMessage(answer))


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
