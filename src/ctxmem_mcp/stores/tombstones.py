"""Tombstones: they keep the turns of a forgotten conversation or branch from being stored again.

A tombstone is a few marks, keyed hashes of the conversation's id and of how each of its branches begins. They reveal
nothing without the key, which belongs to one store and is never exported. Marks are only ever added; a later record may
lift one, if a user imports the conversation again.

An id alone does not do: a client that sends its whole history names none. Nor does the first message: many
conversations begin with the same one. So each branch has two kinds of marks, one for each message up to the first
request, and one for the message after it, with which a beginning becomes distinct. System messages are left out, since
a system prompt often contains the date; reasoning too, since clients drop it. A tool call's arguments count as JSON
values, since clients serialise them again.

A single branch that was forgotten has marks of the first message that only it had: one as above, with all messages
before it, and one of the turn's digest, for turns that are sent without those before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from ctxmem_mcp.errors import Forgotten, ForgottenBranch, StoreUnavailable
from ctxmem_mcp.models import THINKING, NewTurn, Turn, is_tool_call
from ctxmem_mcp.text.json_values import canonical_json
from ctxmem_mcp.tree import turn_digest

MARK_BYTES, KEY_BYTES = 15, 32
# A record: whether the mark, or the mark of a branch, is set or lifted, then the mark.
RECORD_BYTES = 1 + MARK_BYTES
SET, LIFTED, SET_OF_BRANCH, SET_OF_REDACTION = 1, 2, 3, 4
# How many messages up to the first request are looked at, and how many turns in all.
OPENING_MESSAGES, BEGINNING_TURNS = 16, 64
BRANCHES_MARKED = 32
_ID, _OPENING, _DISTINCT, _ROOT = b"id", b"opening", b"distinct", b"root"
_HEAD, _DEPARTURE, _TURN = b"head", b"departure", b"turn"
_REDACTED, _CONTENT, _PAIR, _TITLE = b"redacted", b"content", b"pair", b"title"


@dataclass(frozen=True, slots=True)
class ForgetGuard:
    """What a write must not bring back.

    Attributes:
        since: How many records there were when the writer got its turns. What was forgotten later refuses them.
        is_recording: The turns come from a recording: any tombstone of the conversation's id refuses them.
        beginning: The turns, if they begin the conversation and may have been sent before. Otherwise empty.
        known: How many of them are stored already.
        has_id: Whether the writer named the conversation.
        new_digests: The digests of the turns that are not stored yet.
        may_repeat: They may repeat what was forgotten earlier, since they are said now.
        follows_head: They were said after the head, whichever that was.
    """

    since: int = 0
    is_recording: bool = True
    beginning: Sequence[NewTurn] = ()
    known: int = 0
    has_id: bool = True
    new_digests: Sequence[bytes] = ()
    may_repeat: bool = False
    follows_head: bool = False


@dataclass(frozen=True, slots=True)
class RemovedBranch:
    """What identifies a branch that is being forgotten.

    Attributes:
        path: The turns from the first one to the first message that only this branch has; empty if it has none.
        digest: The digest of the first turn that only this branch has.
        had_head: Whether the conversation's head was one of them.
    """

    path: Sequence[Turn]
    digest: bytes
    had_head: bool


@dataclass(frozen=True, slots=True)
class RedactedTurn:
    """What identifies a turn that is being redacted.

    Attributes:
        turn: The turn, with its content.
        before: The message before it; None if it is the first one.
    """

    turn: Turn
    before: Turn | None


@dataclass(frozen=True, slots=True)
class TombstoneRecords:
    """All tombstones of a store, as they are moved to another one. key: empty if the store has none yet."""

    key: bytes
    records: Sequence[bytes]

    def missing_in(self, own: TombstoneRecords, where: str) -> list[bytes]:
        """Returns the records to add to a store that has its own, or none.

        Both may have forgotten something since it took over earlier ones. Nothing that either has forgotten is lifted.

        Raises:
            StoreUnavailable: It has forgotten conversations on its own, so that the two can't be one.
        """
        if own.records and own.key != self.key:
            raise StoreUnavailable(
                f"{where} has forgotten conversations on its own.", "Name a new folder, or a principal without any."
            )
        both = zip(self.records, own.records, strict=False)
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
        since = own.records[shared:]
        taken, marks = Counter(since), {record[1:] for record in since}
        missing = []
        for record in self.records[shared:]:
            if taken[record]:
                taken[record] -= 1
            elif record[0] != LIFTED or record[1:] not in marks:
                missing.append(record)
        return missing


@dataclass(frozen=True, slots=True)
class _Beginning:
    """The first messages of a branch.

    Attributes:
        digests: The hash of each message and all before it; see `_messages`.
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
        self._set_of_branches: dict[bytes, int] = {}
        self._set_of_redactions: set[bytes] = set()

    def add(self, records: Iterable[bytes]) -> None:
        """Takes in records, in the order in which they were written."""
        for record in records:
            self.count += 1
            mark = record[1:]
            if record[0] == SET:
                self._set[mark] = self.count
            elif record[0] == SET_OF_BRANCH:
                self._set_of_branches[mark] = self.count
            elif record[0] == SET_OF_REDACTION:
                self._set_of_redactions.add(mark)
            else:
                self._set.pop(mark, None)
                self._set_of_branches.pop(mark, None)

    def records_to_set(self, conversation_id: str, branches: Iterable[Sequence[NewTurn | Turn]]) -> list[bytes]:
        """Returns the records of a conversation that is being forgotten. branches: the first turns of each."""
        marks = {self._mark(_ID, conversation_id.encode()): None}
        for turns in branches:
            marks |= dict.fromkeys(self._marks(self._beginning(turns)))
            if turns and isinstance(turns[0], Turn):
                marks[self._mark_of_root(conversation_id, turns[0].digest)] = None
        return [bytes([SET]) + mark for mark in marks]

    def records_of_branch(self, conversation_id: str, branch: RemovedBranch) -> list[bytes]:
        """Returns the records of a branch that is being forgotten."""
        marks = [self._mark(_DEPARTURE, digest) for _, digest in list(self._messages(branch.path))[-1:]]
        marks += [self._mark(_TURN, branch.digest)]
        if branch.had_head:
            marks.append(self._mark(_HEAD, conversation_id.encode()))
        return [bytes([SET_OF_BRANCH]) + mark for mark in marks]

    def records_of_redaction(
        self, turns: Iterable[RedactedTurn], marks: Mapping[bytes, bytes], titles: Iterable[str] = ()
    ) -> list[bytes]:
        """Returns the records of turns that are being redacted.

        Args:
            turns: The turns.
            marks: `mark_of_content` of turns that were redacted earlier, by their digests.
            titles: Titles that quoted them.
        """
        found = dict.fromkeys(self._mark(_TITLE, title.encode()) for title in titles)
        for redacted in turns:
            turn, before = redacted.turn, redacted.before
            found[self._mark(_REDACTED, turn.digest)] = None
            previous: bytes | None = b""
            if before is not None:
                previous = marks.get(before.digest) if before.is_redacted else self.mark_of_content(before)
            if previous is not None and counts(turn):
                found[self._mark(_PAIR, previous + self.mark_of_content(turn))] = None
        return [bytes([SET_OF_REDACTION]) + mark for mark in found]

    def is_redacted_title(self, title: str) -> bool:
        """Returns whether a conversation had this title, and it quoted a turn that was redacted."""
        return bool(self._set_of_redactions) and self._mark(_TITLE, title.encode()) in self._set_of_redactions

    def mark_of_content(self, turn: NewTurn | Turn) -> bytes:
        """Returns the keyed hash of a turn's role, name and content, whatever it follows."""
        return turn_digest(_CONTENT, turn.role, turn.name, None, _content(turn), self._key)

    def encode_marks(self, earlier: Mapping[bytes, bytes], turns: Iterable[RedactedTurn]) -> bytes:
        """Returns the marks to store with a conversation after these turns are redacted.

        Args:
            earlier: `mark_of_content` of turns that were redacted earlier, by their digests.
            turns: The turns.
        """
        marks = {**earlier, **{one.turn.digest: self.mark_of_content(one.turn) for one in turns}}
        pairs = {digest.hex(): mark.hex() for digest, mark in marks.items()}
        return json.dumps(pairs, separators=(",", ":")).encode()

    def find_redacted(self, turns: Sequence[NewTurn], digests: Sequence[bytes], *, at_start: bool) -> list[int]:
        """Returns the indexes of those turns that were redacted and are sent again.

        Args:
            turns: The turns, each following the one before.
            digests: Their digests.
            at_start: They begin a conversation.
        """
        if not (marks := self._set_of_redactions):
            return []
        found, before = [], b"" if at_start else None
        for i, (turn, digest) in enumerate(zip(turns, digests, strict=True)):
            content = self.mark_of_content(turn)
            is_pair = before is not None and counts(turn) and self._mark(_PAIR, before + content) in marks
            if not turn.is_redacted and (is_pair or self._mark(_REDACTED, digest) in marks):
                found.append(i)
            if counts(turn):
                before = None if turn.is_redacted else content
        return found

    def records_to_lift(
        self,
        conversation_id: str | None,
        branches: Iterable[Sequence[NewTurn]],
        digests: Iterable[bytes] = (),
    ) -> list[bytes]:
        """Returns the records that allow a conversation, and those that begin like these, to be stored again.

        Args:
            conversation_id: The conversation's id, if it is known.
            branches: The turns of each branch.
            digests: The digests of these turns.
        """
        marks = {mark: None for turns in branches for mark in self._marks(self._beginning(turns))}
        if conversation_id is not None:
            marks[self._mark(_ID, conversation_id.encode())] = None
            digests = list(digests)
            marks |= dict.fromkeys(self._mark_of_root(conversation_id, digest) for digest in digests)
        if self._set_of_branches:
            departures = (digest for turns in branches for _, digest in self._messages(turns))
            marks |= dict.fromkeys(self._mark(_DEPARTURE, digest) for digest in departures)
            marks |= dict.fromkeys(self._mark(_TURN, digest) for digest in digests)
        return [bytes([LIFTED]) + mark for mark in marks if mark in self._set or mark in self._set_of_branches]

    def check(self, conversation_id: str, guard: ForgetGuard | None) -> None:
        """Checks a write.

        Raises:
            Forgotten: It would bring back something forgotten.
        """
        if guard is None:
            return
        if self._set:
            self._check_conversation(conversation_id, guard)
        if self._set_of_branches and self._refuse_branch(conversation_id, guard):
            raise ForgottenBranch(conversation_id)

    def has_id(self, conversation_id: str) -> bool:
        """Returns whether a conversation with this id was forgotten."""
        return self._mark(_ID, conversation_id.encode()) in self._set

    def _check_conversation(self, conversation_id: str, guard: ForgetGuard) -> None:
        forgotten = self._set.get(self._mark(_ID, conversation_id.encode()), 0)
        begin = self._beginning(guard.beginning)
        new = [digest for digest, place in zip(begin.digests, begin.places, strict=True) if place >= guard.known]
        openings = [self._set.get(self._mark(_OPENING, digest), 0) for digest in new]
        # One that begins alike was forgotten since the turns were sent: they were said before the receipt. A recording
        # always names its conversation.
        is_young = max(forgotten, *(() if guard.is_recording else openings), 0) > guard.since
        if is_young or (forgotten and guard.is_recording):
            raise Forgotten(conversation_id, during_call=is_young)
        is_resent = any(self._mark(_DISTINCT, digest) in self._set for digest in new)
        # Nothing but an opening: whether it goes on like the forgotten one is not known yet, and it will be sent again.
        is_only_opening = not guard.has_id and not begin.is_distinct and bool(new) and openings[-1] > 0
        if is_resent or is_only_opening or (forgotten and (any(openings) or self._has_root(conversation_id, guard))):
            raise Forgotten(conversation_id)

    def _has_root(self, conversation_id: str, guard: ForgetGuard) -> bool:
        """Whether turns of which some were redacted elsewhere begin with a forgotten turn: how they began before can't
        be told from their contents."""
        if guard.known or not any(turn.is_redacted for turn in guard.beginning):
            return False
        return self._mark_of_root(conversation_id, guard.new_digests[0]) in self._set

    def _mark_of_root(self, conversation_id: str, digest: bytes) -> bytes:
        return self._mark(_ROOT, conversation_id.encode() + b"\0" + digest)

    def _refuse_branch(self, conversation_id: str, guard: ForgetGuard) -> bool:
        marks = self._set_of_branches
        if guard.follows_head and marks.get(self._mark(_HEAD, conversation_id.encode()), 0) > guard.since:
            return True
        since = guard.since if guard.may_repeat else 0
        if any(marks.get(self._mark(_TURN, digest), 0) > since for digest in guard.new_digests):
            return True
        messages = self._messages(guard.beginning)
        return any(place >= guard.known and self._mark(_DEPARTURE, digest) in marks for place, digest in messages)

    def _marks(self, begin: _Beginning) -> list[bytes]:
        marks = [self._mark(_OPENING, digest) for digest in begin.digests[: begin.opening]]
        return marks + [self._mark(_DISTINCT, digest) for digest in begin.digests[begin.opening :]]

    def _beginning(self, turns: Sequence[NewTurn | Turn]) -> _Beginning:
        begin = _Beginning([], [], OPENING_MESSAGES)
        for place, digest in self._messages(turns[:BEGINNING_TURNS]):
            begin.digests.append(digest)
            begin.places.append(place)
            if len(begin.digests) > begin.opening:
                break
            if turns[place].role == "user" and begin.opening == OPENING_MESSAGES:
                begin = _Beginning(begin.digests, begin.places, len(begin.digests))
        return begin

    def _messages(self, turns: Sequence[NewTurn | Turn]) -> Iterator[tuple[int, bytes]]:
        """Yields the index of each turn that counts, and the hash of it and of those before it."""
        digest = b""
        for place, turn in enumerate(turns):
            if not counts(turn):
                continue
            digest = turn_digest(digest, turn.role, turn.name, turn.call_id, _content(turn), self._key)
            yield place, digest

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


def counts(turn: NewTurn | Turn) -> bool:
    """Returns whether clients send a turn again as it was: not the system prompt, and not the model's reasoning."""
    return turn.role != "system" and turn.name != THINKING


def decode_marks(encoded: bytes | None) -> dict[bytes, bytes]:
    """Returns the marks that `Tombstones.encode_marks` has encoded, by the turns' digests."""
    pairs = json.loads(encoded) if encoded else {}
    return {bytes.fromhex(digest): bytes.fromhex(mark) for digest, mark in pairs.items()}


def _content(turn: NewTurn | Turn) -> str:
    """The content as it counts for marks."""
    if (digest := turn.redacted_digest) is not None:  # the notes in place of two redacted turns may be the same
        return f"[redacted {digest.hex()}]"
    return (canonical_json(turn.content) if is_tool_call(turn) else None) or turn.content


def _is_enough(turns: Sequence[Turn]) -> bool:
    messages = [turn.role for turn in turns if counts(turn)]
    opening = messages.index("user") + 1 if "user" in messages else OPENING_MESSAGES
    return len(messages) > opening or len(turns) >= BEGINNING_TURNS
