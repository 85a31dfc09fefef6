"""Which stored turns the parts of a request are. Pure.

In each function, `turn_ids` are those of the stored conversation, and `positions` has the index in it of each turn of
the request, below 0 for one that is not stored.
"""

from __future__ import annotations

from collections.abc import Sequence


def ends(turn_ids: Sequence[str], positions: Sequence[int], turns: int) -> tuple[str, str]:
    """Returns the first and the last stored turn among the request's last `turns`; empty texts if none is stored."""
    stored = [at for at in positions[len(positions) - turns :] if at >= 0]
    return (turn_ids[stored[0]], turn_ids[stored[-1]]) if stored else ("", "")


def turn_before(turn_ids: Sequence[str], positions: Sequence[int], turns: int) -> str:
    """Returns the turn before the request's last `turns`; an empty text if it is not stored."""
    at = positions[len(positions) - turns - 1]
    return turn_ids[at] if at >= 0 else ""
