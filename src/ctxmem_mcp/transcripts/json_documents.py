"""Reads one JSON document as other programs leave it: if it is cut off or broken, everything before the break."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import ParseLog
from ctxmem_mcp.transcripts.json_lines import NumberedRow, parse_json

_TOKEN = lazy_regex(r'"(?:[^"\\]|\\.)*"|["\[\]{},]', re.DOTALL)
_CLOSING = {"{": "}", "[": "]"}
# No agent nests this deep; a document that does is broken.
_MAX_DEPTH = 100


def read_document(text: str, log: ParseLog) -> Any:
    """Returns the document's value.

    A broken document is cut after the last complete value before the break and its open brackets are closed, with a
    warning. Returns None if nothing can be read.
    """
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        end, reason = error.pos, error.msg
    except RecursionError:
        end, reason = len(text), "nested too deeply"
    repaired = _close(text, end)
    log.add_warning(text.count("\n", 0, end) + 1, f"broken JSON ({reason}); only the part before it was read")
    try:
        return parse_json(repaired)
    except (ValueError, RecursionError):
        return None


# Every format of documents looks at the head of a file.
@lru_cache(maxsize=2)
def read_head(head: str) -> Any:
    """Returns the value of a file's beginning, which is cut off as `read_document` does it. Callers don't change it."""
    return read_document(head.lstrip("\ufeff \t\r\n"), ParseLog())


def numbered_objects(values: object, log: ParseLog) -> Iterator[NumberedRow]:
    """Yields the objects in a list of messages, each with its place from 1; anything else is skipped with a warning."""
    for number, value in enumerate(values if isinstance(values, list) else [], 1):
        if isinstance(value, dict):
            yield number, value
        else:
            log.warnings.append(f"message {number}: skipped, not an object")


def _close(text: str, end: int) -> str:
    """Cuts the text after its last complete value before `end`, and closes its open brackets."""
    stack: list[str] = []
    stop, closing = 0, ""
    for token in _TOKEN.finditer(text, 0, end):
        mark = token[0]
        if mark == '"' or len(stack) > _MAX_DEPTH:
            break
        if mark in _CLOSING:
            stack.append(_CLOSING[mark])
            stop = token.end()
        elif mark in ("]", "}"):
            if not stack or stack.pop() != mark:
                break
            stop = token.end()
        elif mark == ",":
            stop = token.start()
        else:
            continue
        closing = "".join(reversed(stack))
    return text[:stop] + closing
