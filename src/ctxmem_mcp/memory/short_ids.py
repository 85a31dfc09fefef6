"""Shortens conversations' ids, as Git does its hashes, and finds what a shortened one means.

In a project's view a UUID takes 25 tokens for each session, its first eight digits take 5. The ids of a session's
sub-agents begin with the session's own, which is the one that a common beginning means.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from ctxmem_mcp.models import OF_AGENT

# A shortened id has at least so many characters: others that are stored soon hardly begin alike. Ids of up to
# WHOLE_CHARS_MAX are shown in full; many of these are names.
SHORT_CHARS_MIN, WHOLE_CHARS_MAX = 8, 16
_AFTER_AGENTS = chr(ord(OF_AGENT) + 1)


class ShortIds:
    """The ids of all conversations."""

    def __init__(self, ids: Iterable[str]) -> None:
        self._ids = sorted(ids)

    def shorten(self, conversation_id: str) -> str:
        """Returns the shortest beginning of an id that means no other conversation."""
        if len(conversation_id) <= WHOLE_CHARS_MAX:
            return conversation_id
        at = bisect_left(self._ids, conversation_id)
        following = bisect_left(self._ids, conversation_id + _AFTER_AGENTS)
        beside = self._ids[max(0, at - 1) : at] + self._ids[following : following + 1]
        if at + 1 < following:  # an id that continues this one without being a sub-agent's may be among its sub-agents'
            beside += [one for one in self._ids[at + 1 : following] if not one.startswith(conversation_id + OF_AGENT)]
        length = 1 + max((_common(conversation_id, one) for one in beside), default=0)
        # The beginning of a sub-agent's id names its session: without it, it would mean the session once that is gone.
        length = max(length, SHORT_CHARS_MIN, conversation_id.rfind(OF_AGENT) + 2)
        while length < len(conversation_id) and not conversation_id[length - 1].isalnum():
            length += 1
        return conversation_id[:length]

    def matching(self, beginning: str) -> list[str]:
        """Returns the conversations that the beginning of an id may mean."""
        found = [one for one in self._ids if one.startswith(beginning)]
        return [
            one for one in found if all(other.startswith(one + OF_AGENT) for other in found if other != one)
        ] or found

    def matching_shortened(self, shortened: str) -> list[str]:
        """Returns the conversations that an id as `shorten` returns it may mean; none if it never returns such a one.

        It leaves out ids that views show in full: after "task-1" was forgotten, "task-1" does not mean "task-10".
        """
        found = self.matching(shortened)
        if len(shortened) < SHORT_CHARS_MIN or not any(_is_shortened(shortened, one) for one in found):
            return []
        return found


def _is_shortened(shortened: str, conversation_id: str) -> bool:
    return len(conversation_id) > WHOLE_CHARS_MAX and OF_AGENT not in conversation_id[len(shortened) :]


def _common(one: str, other: str) -> int:
    """Returns how many characters two ids begin with in common."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
