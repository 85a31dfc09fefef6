"""The text that was there before ours, byte for byte, where that can be known.

Taking ours out of a text gives what it says without us, but not always what it was: `{}` and `{ }` and no file at all
look the same once we are in them. So the possible texts before are tried: put ours, as it stands, into each of them,
and the one that gives the present text is what was there. The backups are the first to be tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ctxmem_mcp.install.config_edits import Part
from ctxmem_mcp.install.errors import Unfit


def undone(part: Part, text: str, backups: Sequence[str]) -> str | None:
    """The text without ours; None where there was no file. Raises Unfit."""
    if not part.found(text):
        return text
    for before in _candidates(part, text, backups):
        if _would_give(part, before, text):
            return before
    return part.without(text, prune=True)


def is_exact(part: Part, text: str, before: str | None) -> bool:
    """Whether nothing but ours is lost on the way from `text` to `before`."""
    return _would_give(part, before, text)


def _candidates(part: Part, text: str, backups: Sequence[str]) -> Iterator[str | None]:
    yield from backups
    yield None
    yield part.without(text, prune=True)
    yield part.without(text, prune=False)


def _would_give(part: Part, before: str | None, text: str) -> bool:
    try:
        return not part.found(before) and part.carry(before, text) == text
    except Unfit:
        return False
