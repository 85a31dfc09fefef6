"""The text that was there before ours, byte for byte, where that can be known.

Taking ours out of a text gives what it says without us, but not always what it was: `{}` and `{ }` and no file at all
look the same once we are in them. So the possible texts before are tried: put ours, as it stands, into each of them,
and the one that gives the present text is what was there. The backups are the first to be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.errors import CannotEdit


def original_text(edit: ConfigEdit, text: str, backups: Sequence[str]) -> str | None:
    """The text without ours; None where there was no file. Raises Unfit."""
    if not edit.find(text):
        return text
    for before in _candidates(edit, text, backups):
        if _reproduces(edit, before, text):
            return before
    return edit.remove(text, prune=True)


def is_exact(edit: ConfigEdit, text: str, before: str | None) -> bool:
    """Whether nothing but ours is lost on the way from `text` to `before`."""
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
