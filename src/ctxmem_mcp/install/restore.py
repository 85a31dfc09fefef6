"""Finds the text from before our entries, byte for byte if possible.

Removing our entries gives an equivalent text, but not always the same one: `{}`, `{ }` and no file at all look alike
once our entries are in them. So candidates are tried, the backups first: the one to which our entries, copied as they
are, add up to the present text is what was there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ctxmem_mcp.install.config_edits import FoundEntry
from ctxmem_mcp.install.errors import CannotEdit


class OurEntries(Protocol):
    """Our entries in a file: those of one `ConfigEdit`, or all (`FileEdits`)."""

    def find(self, text: str | None) -> list[FoundEntry]: ...

    def copy(self, text: str | None, source: str) -> str: ...

    def remove(self, text: str, *, prune: bool) -> str | None: ...


def original_text(entries: OurEntries, text: str, backups: Sequence[str]) -> str | None:
    """Returns the text without our entries; None if there was no entries.

    Args:
        entries: how our entries are found in the entries.
        text: the present text.
        backups: the texts of the file's copies, newest first.

    Raises:
        CannotEdit: the file is not what it should be.
    """
    if not entries.find(text):
        return text
    for before in _candidates(entries, text, backups):
        if _reproduces(entries, before, text):
            return before
    return entries.remove(text, prune=True)


def is_exact(entries: OurEntries, text: str, before: str | None) -> bool:
    """Whether going from `text` back to `before` removes our entries and nothing else."""
    return _reproduces(entries, before, text)


def _candidates(entries: OurEntries, text: str, backups: Sequence[str]) -> Iterator[str | None]:
    yield from backups
    yield None
    yield entries.remove(text, prune=True)
    yield entries.remove(text, prune=False)


def _reproduces(entries: OurEntries, before: str | None, text: str) -> bool:
    try:
        return not entries.find(before) and entries.copy(before, text) == text
    except CannotEdit:
        return False
