"""Decides what has expired for good, so that a wrong clock deletes nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from ctxmem_mcp.stores.records import State

DAY = 86_400
# As the time at which a conversation is loaded: load it even if it has expired.
ANY_TIME = float("-inf")

# A clock that is wrong for a moment, as after a start without a battery, is corrected within this time.
CONFIRM_SECONDS = 60.0


def extended(state: State, now: float, retention_days: int | None = None) -> State:
    """Returns the state after something was stored.

    If the clock is behind a stored time, the stored time counts, so that no clock brings an expiry forward.

    Args:
        state: The state before.
        now: Seconds since 1970.
        retention_days: Days to keep the conversation from now; None: as many as before.
    """
    updated = max(now, state.updated)
    expires = max(state.expires, updated + state.retention_days * DAY)
    return with_retention(replace(state, updated=updated, expires=expires), retention_days)


def with_retention(state: State, retention_days: int | None) -> State:
    """Returns the state with another number of days from the last append to expiry; None or the same: no change."""
    if retention_days in (None, state.retention_days):
        return state
    return replace(state, retention_days=retention_days, expires=state.updated + retention_days * DAY)


class ExpiryWatch:
    """Requires two readings of the clock, CONFIRM_SECONDS of monotonic time apart, before anything is deleted.

    Time during which the machine is suspended may not count, and does not have to: the readings after it decide.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Creates a watch. monotonic: returns seconds that only increase, even if the clock is set back."""
        self._monotonic = monotonic
        # For each expired thing: its time of expiry, and the monotonic time of the first reading that found it expired.
        self._first: dict[str, tuple[float, float]] = {}
        self._is_waiting = self._is_due = False

    def confirm(self, expired: Mapping[str, float]) -> dict[str, float]:
        """Takes one reading.

        Args:
            expired: What has expired by this reading, each with its time of expiry (seconds since 1970).

        Returns:
            What an earlier reading called expired as well, with the same time of expiry. Readings in between agreed.
        """
        now = self._monotonic()
        before, self._first = self._first, {}
        for name, expires in expired.items():
            known = before.get(name)
            self._first[name] = known if known is not None and known[0] == expires else (expires, now)
        confirmed = {name: at for name, (at, first) in self._first.items() if now - first >= CONFIRM_SECONDS}
        self._is_waiting, self._is_due = len(confirmed) < len(expired), bool(confirmed)
        return confirmed

    @property
    def is_waiting(self) -> bool:
        """Whether the last reading called something expired that no earlier one has confirmed."""
        return self._is_waiting

    @property
    def is_due(self) -> bool:
        """Whether the last reading confirmed that something has expired."""
        return self._is_due
