"""Reads an agent's context from the end of its transcript: the rows since the last compaction."""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# How far back the transcript is read.
TAIL_BYTES = 400_000
_COMPACTIONS = (b"isCompactSummary", b"compact_boundary", b'"type":"compacted"', b'"type": "compacted"')
# The role of a recap here, whose text is about turns before the context.
RECAP = "recap"
_HOST_ROLES = ("developer", "system", RECAP)
_CONTENT_KEYS = ("text", "content", "output", "thinking", "input", "arguments")


class Text:
    """A text of a context. row: the number of its row; role: its speaker's, RECAP, or empty for a call or a result."""

    __slots__ = ("role", "row", "text")

    def __init__(self, row: int, role: str, text: str) -> None:
        self.row, self.role, self.text = row, role, text


class Tail:
    """The texts of a context.

    Attributes:
        text: all of it that was read.
        spoken: the texts of users and agents, and the recap.
        chars: the characters of the texts that the host did not write, and of no recap.
        is_whole: whether the texts reach back to the session's start or its last compaction.
    """

    __slots__ = ("chars", "is_whole", "spoken", "text")

    def __init__(self, texts: list[Text], is_whole: bool) -> None:
        self.text = "\n".join(one.text for one in texts)
        self.spoken = [one for one in texts if one.role in ("user", "assistant", RECAP)]
        self.chars = sum(len(one.text) for one in texts if one.role not in _HOST_ROLES)
        self.is_whole = is_whole

    def prompts(self) -> int:
        """Returns how many prompts of the user are in the context: rows with words of the user."""
        by_user = [one for one in self.spoken if one.role == "user" and one.text.strip()]
        if not by_user:
            return 0
        from ctxmem_mcp.text.host_text import is_host_text  # takes several milliseconds, and most hooks don't need it

        return len({one.row for one in by_user if not is_host_text(one.text)})


def read_tail(path: str) -> Tail:
    """Reads the end of a transcript of Claude Code or Codex. No file is an empty context."""
    try:
        with open(path, "rb") as file:
            start = max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES)
            file.seek(start)
            rows = file.read(TAIL_BYTES).split(b"\n")[1 if start else 0 :]
    except OSError:
        return Tail([], True)
    compacted = max((at for at, row in enumerate(rows) if any(mark in row for mark in _COMPACTIONS)), default=None)
    texts = [Text(at, *one) for at, row in enumerate(rows[compacted or 0 :]) for one in _texts(row)]
    return Tail(texts, not start or compacted is not None)


def _texts(raw: bytes) -> Iterator[tuple[str, str]]:
    """Yields the texts of a row, each with its speaker's role; without one if it is a call or a result."""
    try:
        row = json.loads(raw)
    except (ValueError, RecursionError):
        return
    message = (row.get("message") or row.get("payload") or row.get("attachment")) if isinstance(row, dict) else None
    if not isinstance(message, dict):
        return
    is_recap = row.get("isCompactSummary") or row.get("type") == "compacted"
    role = RECAP if is_recap else str(message.get("role", ""))
    content = message.get("content", message.get("output", message.get("message")))
    for block in content if isinstance(content, list) else [content]:
        if isinstance(block, str):
            yield role, block
        elif isinstance(block, dict):
            is_words = block.get("type") in ("text", "input_text", "output_text")
            for text in _strings(block):
                yield role if is_words else "", text


def _strings(block: dict[str, Any]) -> Iterator[str]:
    for key in _CONTENT_KEYS:
        value = block.get(key)
        if isinstance(value, str):
            yield value
        elif value is not None:
            yield json.dumps(value, ensure_ascii=False)
