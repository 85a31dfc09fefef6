"""Conversations with questions whose evidence is known, read from where anyone can get them.

conversations(path) reads a file or a folder; its kind is told by what is in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from bench.data import beam, locomo, longmemeval, native, sessions
from bench.data.models import Conversation

__all__ = ["at_hand", "conversations"]


class _Kind(Protocol):
    def looks_like(self, head: str) -> bool: ...

    def read(self, path: Path) -> Iterator[Conversation]: ...


# A file's kind shows in its beginning.
LOOKED_AT_CHARS = 4_000
_FILES: tuple[_Kind, ...] = (native, longmemeval, locomo)


def find_data(named: Sequence[Path] = ()) -> list[Path]:
    """The data that was named, or all that lies in the folder CTXMEM_EVAL_DIR names."""
    if named:
        return list(named)
    try:
        folder = Path(os.environ["CTXMEM_EVAL_DIR"], "data")
    except KeyError:
        raise SystemExit("Name files or folders of data, or set CTXMEM_EVAL_DIR (README: 'Measured')") from None
    return sorted(folder.glob("*.jsonl.gz"))


def conversations(path: Path, seed: int = 1) -> Iterator[Conversation]:
    """The conversations in it, one after the other; those without a question left out.

    seed: for the questions that are made by rule, of folders of sessions.
    """
    yield from (conversation for conversation in _read(path, seed) if conversation.questions)


def _read(path: Path, seed: int) -> Iterator[Conversation]:
    if path.is_dir():
        return beam.read(path) if beam.looks_like(path) else sessions.read(path, seed)
    with native.opened(path) as text:
        head = text.read(LOOKED_AT_CHARS)
    for kind in _FILES:
        if kind.looks_like(head):
            return kind.read(path)
    raise SystemExit(
        f"{path}: is in no form that is known. Takes *.jsonl.gz in this project's form (README: 'Measured'), LoCoMo's "
        "locomo10.json, LongMemEval's json, a folder of BEAM, a folder of sessions."
    )
