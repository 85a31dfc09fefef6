"""Reads conversations with questions whose evidence is known, from publicly available data sets.

conversations(path) reads a file or a folder; the format is detected from its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from bench.data import beam, locomo, longmemeval, native, people, sessions
from bench.data.models import Conversation, eval_folder

__all__ = ["at_hand", "conversations"]


class _Format(Protocol):
    def looks_like(self, head: str) -> bool: ...

    def read(self, path: Path) -> Iterator[Conversation]: ...


# The beginning of a file that its format is detected in.
HEAD_CHARS = 4_000
_FILES: tuple[_Format, ...] = (native, people, longmemeval, locomo)


def find_data(paths: Sequence[Path] = ()) -> list[Path]:
    """Returns the given paths, or all data files in the folder named by CTXMEM_EVAL_DIR.

    Raises:
        SystemExit: No path is given and CTXMEM_EVAL_DIR is not set.
    """
    if paths:
        return list(paths)
    folder = eval_folder() / "data"
    return sorted(folder.glob("*.jsonl.gz"))


def conversations(path: Path, seed: int = 1) -> Iterator[Conversation]:
    """Yields the conversations of a file or folder, except those without questions.

    Args:
        path: The file or folder.
        seed: Seed of the generated questions, for folders of sessions.

    Raises:
        SystemExit: The format of the file is unknown.
    """
    yield from (conversation for conversation in _read(path, seed) if conversation.questions)


def _read(path: Path, seed: int) -> Iterator[Conversation]:
    if path.is_dir():
        return beam.read(path) if beam.looks_like(path) else sessions.read(path, seed)
    with native.open_text(path) as text:
        head = text.read(HEAD_CHARS)
    for kind in _FILES:
        if kind.looks_like(head):
            return kind.read(path)
    raise SystemExit(
        f"{path}: unknown format. Supported are *.jsonl.gz in this project's format (README: 'Measured'), LoCoMo's "
        "locomo10.json, LongMemEval's JSON, a BEAM folder and a folder of sessions."
    )
