"""The errors of a team store, the same in each."""

from __future__ import annotations

from ctxmem_mcp.errors import InvalidArgument, NotFound


def check_addition(name: str, is_known: bool, is_removed: bool, restore: bool) -> None:
    """Raises InvalidArgument if a principal can't be added.

    Args:
        name: the principal's name.
        is_known: there is or was one of this name.
        is_removed: it was removed.
        restore: a removed one is given its memory back.
    """
    if is_known and not is_removed:
        raise InvalidArgument(
            "NAME", f"{name} exists already", f"Make a new token: ctxmem-mcp principals rotate {name}."
        )
    if is_known and not restore:
        rule = f"{name} was removed, and the memory of that principal is still there"
        raise InvalidArgument("NAME", rule, "Add --restore to give it back, or take another name.")


def known_space_name(name: str) -> InvalidArgument:
    """Returns the error for adding a space that exists."""
    return InvalidArgument("SPACE", f"{name} exists already", "Take another name.")


def unknown_principal(name: str) -> NotFound:
    return NotFound(f"No principal {name!r}.", "`ctxmem-mcp principals list` prints them.")


def unknown_space(name: str) -> NotFound:
    return NotFound(f"No space {name!r}.", "`ctxmem-mcp spaces list` prints them.")
