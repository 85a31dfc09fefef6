"""Drains the spool: what agents' hooks left there goes into the memory, each turn once, in order.

An event of an agent that keeps a transcript says that there is something new in it. The words it carries itself are
compared: those the transcript has are done with; those it has not yet wait a little, then they are stored where the
conversation stands. If the transcript tells them later, these are the same turns; if it tells more before them, the
conversation goes the transcript's way, and the other one is a branch that was left. Events of an agent whose transcript
has less than they, or is not to be found, are stored as they are.

A file leaves the spool after the commit. Where a commit is not known again by what it stores (a turn on the head), the
file's name says first which turn it follows: taken in again after a kill, it is the same turn and stored no second
time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture import locations, spool
from ctxmem_mcp.capture.cursor_backfill import take_before
from ctxmem_mcp.capture.events import Event, read_event
from ctxmem_mcp.capture.file_lock import alone
from ctxmem_mcp.capture.importer import conversation_id_for
from ctxmem_mcp.capture.redaction import OPENING, redaction
from ctxmem_mcp.capture.spool import Spooled
from ctxmem_mcp.capture.sync_state import Ledger
from ctxmem_mcp.capture.transcript_sync import Followed, Follower, complete, holds
from ctxmem_mcp.errors import CtxmemError, NotFound, Refused
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn

# So long after an event its transcript is expected to have what was said in it.
PATIENCE_SECONDS = 2.0
LOCK_SECONDS = 5.0
_LOCK = "lock"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Drained:
    """new: turns stored. waiting: events that stay in the spool for now. failed: sessions that could not be read in."""

    new: int = 0
    waiting: int = 0
    failed: int = 0


async def drain(memory: Memory, data_dir: Path, *, patient: bool = False) -> Drained:
    """Takes in what waits. patient: for who reads next: waits for another drainer, and for words that may be late."""
    if not spool.waiting(str(data_dir)):
        return Drained()
    async with alone(data_dir / spool.FOLDER / _LOCK, LOCK_SECONDS if patient else 0) as held:
        if not held:
            return Drained()
        drainer = _Drainer(memory, data_dir)
        new, young = await drainer.drain()
        if patient and young:
            await asyncio.sleep(max(0.0, max(young) + PATIENCE_SECONDS - time.time()))
            more, young = await drainer.drain()
            new += more
        return Drained(new, len(young), drainer.failed)


_Waiting = tuple[Spooled, Event]


class _Drainer:
    def __init__(self, memory: Memory, data_dir: Path) -> None:
        self._memory, self._data_dir = memory, data_dir
        self._follower = Follower(memory, data_dir)
        self._ledger = Ledger(data_dir)
        self.failed = 0

    async def drain(self) -> tuple[int, list[float]]:
        """Takes in all that can be; gives the new turns, and the times of the events that wait on."""
        new, young = 0, list[float]()
        self.failed = 0
        for (agent, session, _), group in self._groups().items():
            try:
                added, waits = await self._take(group)
            except Exception as error:
                # Nothing is lost: the events stay, and the next drainer tries again.
                known = isinstance(error, CtxmemError)
                _log.error("Events of %s, session %s, wait: %s", agent, session, error, exc_info=not known)
                self.failed += 1
                continue
            new, young = new + added, young + waits
        return new, young

    def _groups(self) -> dict[tuple[str, str, str | None], list[_Waiting]]:
        """What waits, by the session and the transcript it is taken from. The one with the newest event comes last, so
        that it is the last active."""
        groups: dict[tuple[str, str, str | None], list[_Waiting]] = {}
        for spooled in spool.waiting(str(self._data_dir)):
            try:
                agent, raw, _ = spooled.read()
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                _log.warning("An event was left out: %s", error)
                spooled.done()
                continue
            event = read_event(agent, raw, spooled.at)
            if event is None:
                _log.warning("An event of %s was left out: it is nothing that can be read.", agent)
                spooled.done()
                continue
            transcript = event.transcript if event.has_transcript else None
            groups.setdefault((agent, event.session_id, transcript), []).append((spooled, event))
        return dict(sorted(groups.items(), key=lambda item: item[1][-1][0].at))

    async def _take(self, group: list[_Waiting]) -> tuple[int, list[float]]:
        event = group[0][1]
        if not event.has_transcript:
            await self._begin_told(event, group)
            return await self._take_words(event, [(spooled, each.words) for spooled, each in group]), []
        file = _file_of(event)
        ended = any(each.ends for _, each in group)
        followed = None if file is None else await self._follower.follow(file, as_it_is=ended)
        if followed is not None and followed.young:
            return 0, [time.time()]
        if followed is not None and followed.gone:
            for spooled, _ in group:
                spooled.done()
            return 0, []
        if file is None:
            return await self._take_words(event, [(spooled, each.words) for spooled, each in group]), []
        return await self._take_late(file, followed or Followed(), group)

    async def _begin_told(self, event: Event, group: list[_Waiting]) -> None:
        """Once for each session that events tell: takes in what was said before them."""
        conversation = conversation_id_for(event.session_id)
        first = next((spooled for spooled, each in group if each.words), None)
        if conversation is None or first is None:
            return
        known = self._ledger.of_events(conversation)
        if known.by_events:
            return
        file = None if known.gone else _file_of(event)
        if file is not None and file.is_file() and first.after is None:
            words = [turn for _, each in group for turn in each.words]
            first.goes_after(await take_before(self._memory, file, words))
        self._ledger.told_by_events(conversation)

    async def _take_late(self, file: Path, followed: Followed, group: list[_Waiting]) -> tuple[int, list[float]]:
        """Words that the transcript does not have: stored when it has had its time."""
        spoken = any(event.spoken for _, event in group)
        raw = await asyncio.to_thread(_text_of, file, _has_placeholder(group)) if spoken else b""
        ended = any(event.ends for _, event in group)
        new, young = followed.new, list[float]()
        for spooled, event in group:
            late = tuple(turn for turn in event.spoken if not holds(raw, turn))
            if late and not ended and (young or _is_young(spooled)):
                young.append(spooled.at)
                continue
            if spooled.after is None and late:
                late = await self._without_last(late, followed.conversation or conversation_id_for(event.session_id))
            new += await self._take_words(event, [(spooled, late)], followed.conversation)
        return new, young

    async def _take_words(
        self, event: Event, told: Sequence[tuple[Spooled, Sequence[NewTurn]]], conversation: str = ""
    ) -> int:
        """Stores words on the head, each event's noted first and struck off afterwards."""
        conversation = conversation or conversation_id_for(event.session_id) or ""
        new = 0
        for spooled, words in told:
            if words and conversation:
                try:
                    new += await self._store(spooled, words, conversation, event.cwd)
                except (Refused, NotFound) as error:
                    _log.warning("An event of %s was left out: %s", event.agent, error)
            spooled.done()
        return new

    async def _store(self, spooled: Spooled, words: Sequence[NewTurn], conversation: str, cwd: str | None) -> int:
        if spooled.after is None:
            spooled.goes_after(await self._head(conversation))
        done = await self._memory.sync(words, conversation_id=conversation, after=spooled.after or None, space=cwd)
        return done.appended

    async def _without_last(self, late: tuple[NewTurn, ...], conversation: str | None) -> tuple[NewTurn, ...]:
        """Without the turn said last, which two events of one instant may both tell."""
        try:
            head = await self._memory.head(conversation or "")
        except NotFound:
            return late
        same = [turn for turn in late if (turn.role, turn.content) == (head.role, head.content)]
        return late[late.index(same[-1]) + 1 :] if same else late

    async def _head(self, conversation: str) -> str:
        try:
            return (await self._memory.head(conversation)).id
        except NotFound:
            return ""


def _is_young(spooled: Spooled) -> bool:
    """Whether its transcript may still be late. One that lies far ahead came before the clock was set back."""
    return abs(time.time() - spooled.at) < PATIENCE_SECONDS


def _file_of(event: Event) -> Path | None:
    if event.transcript:
        return Path(event.transcript).expanduser()
    return locations.transcript_of(event.agent, event.session_id)


def _has_placeholder(group: list[_Waiting]) -> bool:
    """Whether words were redacted before they were spooled."""
    return any(OPENING in turn.content for _, event in group for turn in event.spoken)


def _text_of(file: Path, redacted: bool) -> bytes:
    try:
        raw = complete(file)
    except OSError:
        return b""
    return redaction()(raw.decode("utf-8", "replace")).encode() if redacted else raw
