"""Finds the text from before our entries, byte for byte if possible.

Removing our entries gives an equivalent text, but not always the same one: `{}`, `{ }` and no file at all look alike
once our entries are in them. So candidates are tried, the backups first: the one to which our entries, copied as they
are, add up to the present text is what was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.errors import CannotEdit


def original_text(edit: ConfigEdit, text: str, backups: Sequence[str]) -> str | None:
    """Returns the text without our entries; None if there was no file.

    Args:
        edit: how our entries are found in the file.
        text: the present text.
        backups: the texts of the file's copies, newest first.

    Raises:
        CannotEdit: the file is not what it should be.
    """
    if not edit.find(text):
        return text
    for before in _candidates(edit, text, backups):
        if _reproduces(edit, before, text):
            return before
    return edit.remove(text, prune=True)


def is_exact(edit: ConfigEdit, text: str, before: str | None) -> bool:
    """Whether going from `text` back to `before` removes our entries and nothing else."""
    return _reproduces(edit, before, text)


def _candidates(edit: ConfigEdit, text: str, backups: Sequence[str]) -> Iterator[str | None]:
    yield from backups
    yield None
    yield edit.remove(text, prune=True)
    yield edit.remove(text, prune=False)


def _reproduces(edit: ConfigEdit, before: str | None, text: str) -> bool:
    try:
        return not edit.find(before) and edit.copy(before, text) == text
    except CannotEdit:
        return False
