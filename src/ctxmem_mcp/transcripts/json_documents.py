"""Reading one JSON document as other programs leave it: of one that is cut off or broken, all that stands before."""

from __future__ import annotations

import json
import re
from typing import Any

from ctxmem_mcp.transcripts.base import Notes

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|["\[\]{},]', re.DOTALL)
_CLOSER = {"{": "}", "[": "]"}
# No agent nests this deep; what does is broken.
_DEEPEST = 100


def document(text: str, notes: Notes) -> Any:
    """The document's value; where it is broken, the part before the break with everything open closed, and a warning.
    None where nothing stands before it."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        broken, reason = error.pos, error.msg
    except RecursionError:
        broken, reason = len(text), "nested too deeply"
    kept = _closed(text, broken)
    notes.warn(text.count("\n", 0, broken) + 1, f"is broken JSON ({reason}); what stands before it was read")
    try:
        return json.loads(kept)
    except (ValueError, RecursionError):
        return None


def _closed(text: str, broken: int) -> str:
    """The text up to the last value that is whole, then what closes all that is open there."""
    stack: list[str] = []
    end, closers = 0, ""
    for token in _TOKEN.finditer(text, 0, broken):
        mark = token[0]
        if mark == '"' or len(stack) > _DEEPEST:
            break
        if mark in _CLOSER:
            stack.append(_CLOSER[mark])
            end = token.end()
        elif mark in ("]", "}"):
            if not stack or stack.pop() != mark:
                break
            end = token.end()
        elif mark == ",":
            end = token.start()
        else:
            continue
        closers = "".join(reversed(stack))
    return text[:end] + closers
