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
_RECAP = "recap"
_HOST_ROLES = ("developer", "system", _RECAP)
# A user's message that begins so is the host's.
_HOST_STARTS = ("<", "Caveat: ", "[Request interrupted", "[ctxmem-mcp")
_CONTENT_KEYS = ("text", "content", "output", "thinking", "input", "arguments")


class Tail:
    """The texts of a context.

    Attributes:
        text: all of it that was read.
        spoken: the role and the words of each turn that is no call or result; a recap is the user's.
        chars: the characters of the texts that the host did not write, and of no recap.
        is_whole: whether the texts reach back to the session's start or its last compaction.
        recaps: the texts of recaps in it.
    """

    __slots__ = ("chars", "is_whole", "recaps", "spoken", "text")

    def __init__(self, texts: list[tuple[str, str]], is_whole: bool) -> None:
        self.text = "\n".join(text for _, text in texts)
        self.spoken = [
            ("user" if role == _RECAP else role, text) for role, text in texts if role in ("user", "assistant", _RECAP)
        ]
        self.chars = sum(len(text) for role, text in texts if role not in _HOST_ROLES)
        self.is_whole = is_whole
        self.recaps = [text for role, text in texts if role == _RECAP]

    def prompts(self) -> int:
        """Returns how many prompts of the user are in the context."""
        return sum(
            role == "user" and text not in self.recaps and not text.lstrip().startswith(_HOST_STARTS)
            for role, text in self.spoken
        )


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
    texts = [text for row in rows[compacted or 0 :] for text in _texts(row)]
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
    role = _RECAP if row.get("isCompactSummary") else str(message.get("role", ""))
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
