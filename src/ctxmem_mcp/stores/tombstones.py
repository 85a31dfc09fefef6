"""Tombstones: they keep what was said in a forgotten conversation from being stored again.

A tombstone is a few marks, keyed hashes of the conversation's id and of how each of its branches begins. They reveal
nothing without the key, which belongs to one store and is never exported. Marks are only ever added; a later record may
lift one, if a user imports the conversation again.

An id alone does not do: a client that sends its whole history names none. Nor does the first message: many
conversations begin with the same one. So each branch has two kinds of marks, one for each message up to the first
request, and one for the message after it, with which a beginning becomes distinct. System messages are left out, since
a system prompt often contains the date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from ctxmem_mcp.models import NewTurn, Turn
from ctxmem_mcp.tree import turn_digest

MARK_BYTES, KEY_BYTES = 15, 32
# A record: whether the mark is set or lifted, then the mark.
RECORD_BYTES = 1 + MARK_BYTES
SET, LIFTED = 1, 2
# How many messages up to the first request are looked at, and how many turns in all.
OPENING_MESSAGES, BEGINNING_TURNS = 16, 64
BRANCHES_MARKED = 32
_ID, _OPENING, _DISTINCT = b"id", b"opening", b"distinct"


@dataclass(frozen=True, slots=True)
class ForgetGuard:
    """What a write must not bring back.

    Attributes:
        since: The number of records there were when the writer got its turns; a tombstone of the conversation's id that
            is younger refuses them. 0: any tombstone does, since the turns come from a recording.
        beginning: The turns, if they begin the conversation and may have been sent before. Otherwise empty.
        known: How many of them are stored already.
        has_id: Whether the writer named the conversation.
    """

    since: int = 0
    beginning: Sequence[NewTurn] = ()
    known: int = 0
    has_id: bool = True


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first messages of a branch.

    Attributes:
        digests: The hash of each message and all before it; system messages are left out.
        places: The index of each message among the turns.
        opening: How many of them lead up to the first request, with it.
    """

    digests: list[bytes]
    places: list[int]
    opening: int

    @property
    def is_distinct(self) -> bool:
        return len(self.digests) > self.opening


class Tombstones:
    """The marks of one store."""

    def __init__(self, key: bytes) -> None:
        """Creates an empty set. key: KEY_BYTES random bytes."""
        self._key = key
        self.count = 0
        # The number of the last record of each mark that is set, from 1.
        self._set: dict[bytes, int] = {}

    def add(self, records: Iterable[bytes]) -> None:
        """Takes in records, in the order in which they were written."""
        for record in records:
            self.count += 1
            mark = record[1:]
            if record[0] == SET:
                self._set[mark] = self.count
            else:
                self._set.pop(mark, None)

    def records_to_set(self, conversation_id: str, branches: Iterable[Sequence[Turn]]) -> list[bytes]:
        """Returns the records of a conversation that is being forgotten. branches: the first turns of each."""
        marks = {self._mark(_ID, conversation_id.encode()): None}
        for turns in branches:
            marks |= dict.fromkeys(self._marks(self._beginning(turns)))
        return [bytes([SET]) + mark for mark in marks]

    def records_to_lift(self, conversation_id: str | None, branches: Iterable[Sequence[NewTurn]]) -> list[bytes]:
        """Returns the records that allow a conversation, and those that begin like these, to be stored again."""
        marks = {mark: None for turns in branches for mark in self._marks(self._beginning(turns))}
        if conversation_id is not None:
            marks[self._mark(_ID, conversation_id.encode())] = None
        return [bytes([LIFTED]) + mark for mark in marks if mark in self._set]

    def refuse(self, conversation_id: str, guard: ForgetGuard | None) -> bool:
        """Returns whether a write would bring back something forgotten."""
        if guard is None or not self._set:
            return False
        forgotten = self._set.get(self._mark(_ID, conversation_id.encode()), 0)
        return forgotten > guard.since or (bool(guard.beginning) and self._resends(guard, is_forgotten=forgotten > 0))

    def _resends(self, guard: ForgetGuard, *, is_forgotten: bool) -> bool:
        begin = self._beginning(guard.beginning)
        new = [digest for digest, place in zip(begin.digests, begin.places, strict=True) if place >= guard.known]
        if any(self._mark(_DISTINCT, digest) in self._set for digest in new):
            return True
        if is_forgotten:
            return any(self._mark(_OPENING, digest) in self._set for digest in new)
        # Nothing but an opening: whether it goes on like the forgotten one is not known yet, and it will be sent again.
        is_only_opening = not guard.has_id and not begin.is_distinct and bool(new)
        return is_only_opening and self._mark(_OPENING, new[-1]) in self._set

    def _marks(self, begin: _Beginning) -> list[bytes]:
        marks = [self._mark(_OPENING, digest) for digest in begin.digests[: begin.opening]]
        return marks + [self._mark(_DISTINCT, digest) for digest in begin.digests[begin.opening :]]

    def _beginning(self, turns: Sequence[NewTurn | Turn]) -> _Beginning:
        begin, digest = _Beginning([], [], OPENING_MESSAGES), b""
        for place, turn in enumerate(turns[:BEGINNING_TURNS]):
            if turn.role == "system":
                continue
            digest = turn_digest(digest, turn.role, turn.name, turn.call_id, turn.content, self._key)
            begin.digests.append(digest)
            begin.places.append(place)
            if len(begin.digests) > begin.opening:
                break
            if turn.role == "user" and begin.opening == OPENING_MESSAGES:
                begin = _Beginning(begin.digests, begin.places, len(begin.digests))
        return begin

    def _mark(self, kind: bytes, data: bytes) -> bytes:
        return hashlib.blake2b(data, digest_size=MARK_BYTES, key=self._key, person=kind).digest()


def first_turns(children_of: Callable[[int], Sequence[int]], read: Callable[[int], Turn]) -> Iterator[list[Turn]]:
    """Yields the first turns of each branch, as far as `Tombstones` looks at them.

    Args:
        children_of: Returns the seqs of the turns that follow a turn (0: the first turns of the conversation).
        read: Returns a turn by its seq.
    """
    count, paths = 0, [[seq] for seq in reversed(children_of(0))]
    turns: dict[int, Turn] = {}
    while paths and count < BRANCHES_MARKED:
        path = paths.pop()
        turns.setdefault(path[-1], read(path[-1]))
        following = [] if _is_enough([turns[seq] for seq in path]) else children_of(path[-1])
        if not following:
            count += 1
            yield [turns[seq] for seq in path]
        paths += [[*path, seq] for seq in reversed(following)]


def _is_enough(turns: Sequence[Turn]) -> bool:
    messages = [turn.role for turn in turns if turn.role != "system"]
    opening = messages.index("user") + 1 if "user" in messages else OPENING_MESSAGES
    return len(messages) > opening or len(turns) >= BEGINNING_TURNS
