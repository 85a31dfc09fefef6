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
from ctxmem_mcp.capture.cursor_backfill import backfill
from ctxmem_mcp.capture.events import Event, parse_event
from ctxmem_mcp.capture.importer import conversation_id_for
from ctxmem_mcp.capture.redaction import PLACEHOLDER_START, load_redactor
from ctxmem_mcp.capture.spool import SpooledEvent
from ctxmem_mcp.capture.sync_state import SyncRecords
from ctxmem_mcp.capture.transcript_sync import SyncResult, TranscriptSync, contains_text, read_whole_lines
from ctxmem_mcp.errors import CtxmemError, NotFound, Refused
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn

# So long after an event its transcript is expected to have what was said in it.
TRANSCRIPT_LAG_SECONDS = 2.0
LOCK_SECONDS = 5.0
_LOCK = "lock"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DrainResult:
    """new: turns stored. waiting: events that stay in the spool for now. failed: sessions that could not be read in."""

    new: int = 0
    pending: int = 0
    failed: int = 0


async def drain(memory: Memory, data_dir: Path, *, wait: bool = False) -> DrainResult:
    """Takes in what waits. wait: for who reads next: waits for another drainer, and for words that may be late."""
    if not spool.pending(str(data_dir)):
        return DrainResult()
    from filelock import AsyncFileLock, Timeout  # takes 30 ms, and most often nothing is pending

    lock = AsyncFileLock(
        data_dir / spool.FOLDER / _LOCK, LOCK_SECONDS if wait else 0, 0o600, poll_interval=0.02, run_in_executor=False
    )
    try:
        async with lock:
            return await _drain(_Drainer(memory, data_dir), wait)
    except Timeout:
        return DrainResult()


async def _drain(drainer: _Drainer, wait: bool) -> DrainResult:
    new, recent = await drainer.drain()
    if wait and recent:
        await asyncio.sleep(max(0.0, max(recent) + TRANSCRIPT_LAG_SECONDS - time.time()))
        more, recent = await drainer.drain()
        new += more
    return DrainResult(new, len(recent), drainer.failed)


_Waiting = tuple[SpooledEvent, Event]


class _Drainer:
    def __init__(self, memory: Memory, data_dir: Path) -> None:
        self._memory, self._data_dir = memory, data_dir
        self._sync = TranscriptSync(memory, data_dir)
        self._records = SyncRecords(data_dir)
        self.failed = 0

    async def drain(self) -> tuple[int, list[float]]:
        """Takes in all that can be; gives the new turns, and the times of the events that wait on."""
        new, recent = 0, list[float]()
        self.failed = 0
        for (agent, session, _), group in self._groups().items():
            try:
                added, waits = await self._process(group)
            except Exception as error:
                # Nothing is lost: the events stay, and the next drainer tries again.
                known = isinstance(error, CtxmemError)
                _log.error("Events of %s, session %s, wait: %s", agent, session, error, exc_info=not known)
                self.failed += 1
                continue
            new, recent = new + added, recent + waits
        return new, recent

    def _groups(self) -> dict[tuple[str, str, str | None], list[_Waiting]]:
        """What waits, by the session and the transcript it is taken from. The one with the newest event comes last, so
        that it is the last active."""
        groups: dict[tuple[str, str, str | None], list[_Waiting]] = {}
        for spooled in spool.pending(str(self._data_dir)):
            try:
                agent, raw, _ = spooled.read()
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                _log.warning("An event was left out: %s", error)
                spooled.remove()
                continue
            event = parse_event(agent, raw, spooled.at)
            if event is None:
                _log.warning("An event of %s was left out: it is nothing that can be read.", agent)
                spooled.remove()
                continue
            transcript = event.transcript if event.has_transcript else None
            groups.setdefault((agent, event.session_id, transcript), []).append((spooled, event))
        return dict(sorted(groups.items(), key=lambda item: item[1][-1][0].at))

    async def _process(self, group: list[_Waiting]) -> tuple[int, list[float]]:
        event = group[0][1]
        if not event.has_transcript:
            await self._start_from_events(event, group)
            return await self._store_events(event, [(spooled, each.turns) for spooled, each in group]), []
        file = _transcript_file(event)
        ended = any(each.ends_session for _, each in group)
        result = None if file is None else await self._sync.sync_file(file, even_if_recent=ended)
        if result is not None and result.recent:
            return 0, [time.time()]
        if result is not None and result.gone:
            for spooled, _ in group:
                spooled.remove()
            return 0, []
        if file is None:
            return await self._store_events(event, [(spooled, each.turns) for spooled, each in group]), []
        return await self._store_missing(file, result or SyncResult(), group)

    async def _start_from_events(self, event: Event, group: list[_Waiting]) -> None:
        """Once for each session that events tell: takes in what was said before them."""
        conversation = conversation_id_for(event.session_id)
        first = next((spooled for spooled, each in group if each.turns), None)
        if conversation is None or first is None:
            return
        known = self._records.of_conversation(conversation)
        if known.by_events:
            return
        file = None if known.gone else _transcript_file(event)
        if file is not None and file.is_file() and first.after is None:
            words = [turn for _, each in group for turn in each.turns]
            first.set_after(await backfill(self._memory, file, words))
        self._records.mark_by_events(conversation)

    async def _store_missing(self, file: Path, result: SyncResult, group: list[_Waiting]) -> tuple[int, list[float]]:
        """Words that the transcript does not have: stored when it has had its time."""
        spoken = any(event.messages for _, event in group)
        raw = await asyncio.to_thread(_read_redacted, file, _has_placeholder(group)) if spoken else b""
        ended = any(event.ends_session for _, event in group)
        new, recent = result.new, list[float]()
        for spooled, event in group:
            late = tuple(turn for turn in event.messages if not contains_text(raw, turn))
            if late and not ended and (recent or _is_recent(spooled)):
                recent.append(spooled.at)
                continue
            if spooled.after is None and late:
                late = await self._without_repeated_head(
                    late, result.conversation or conversation_id_for(event.session_id)
                )
            new += await self._store_events(event, [(spooled, late)], result.conversation)
        return new, recent

    async def _store_events(
        self, event: Event, spooled_turns: Sequence[tuple[SpooledEvent, Sequence[NewTurn]]], conversation: str = ""
    ) -> int:
        """Stores words on the head, each event's noted first and struck off afterwards."""
        conversation = conversation or conversation_id_for(event.session_id) or ""
        new = 0
        for spooled, words in spooled_turns:
            if words and conversation:
                try:
                    new += await self._store(spooled, words, conversation, event.cwd)
                except (Refused, NotFound) as error:
                    _log.warning("An event of %s was left out: %s", event.agent, error)
            spooled.remove()
        return new

    async def _store(self, spooled: SpooledEvent, words: Sequence[NewTurn], conversation: str, cwd: str | None) -> int:
        if spooled.after is None:
            spooled.set_after(await self._head(conversation))
        done = await self._memory.sync(words, conversation_id=conversation, after=spooled.after or None, space=cwd)
        return done.appended

    async def _without_repeated_head(self, late: tuple[NewTurn, ...], conversation: str | None) -> tuple[NewTurn, ...]:
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


def _is_recent(spooled: SpooledEvent) -> bool:
    """Whether its transcript may still be late. One that lies far ahead came before the clock was set back."""
    return abs(time.time() - spooled.at) < TRANSCRIPT_LAG_SECONDS


def _transcript_file(event: Event) -> Path | None:
    if event.transcript:
        return Path(event.transcript).expanduser()
    return locations.find_transcript(event.agent, event.session_id)


def _has_placeholder(group: list[_Waiting]) -> bool:
    """Whether words were redacted before they were spooled."""
    return any(PLACEHOLDER_START in turn.content for _, event in group for turn in event.messages)


def _read_redacted(file: Path, redacted: bool) -> bytes:
    try:
        raw = read_whole_lines(file)
    except OSError:
        return b""
    return load_redactor()(raw.decode("utf-8", "replace")).encode() if redacted else raw
