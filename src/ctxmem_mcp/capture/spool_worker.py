"""Drains the spool: stores the events that agents' hooks wrote there, each turn once, in order.

An event of an agent with a complete transcript means that the transcript has grown. The messages in the event are
compared with it: one that the transcript has needs nothing more; one that it lacks is given some time, then stored on
the conversation's head. If the transcript has it later, it is the same turn. If the transcript has something else
before it, the conversation follows the transcript, and the turn stored early becomes an abandoned branch. Events of an
agent whose transcript has less than they do, or can't be found, are stored themselves.

An event from which nothing can be read, of a session without a transcript, is kept in a folder of its own (see
`unrecognised`).

An event is removed from the spool after the commit. A turn appended to the head can't be recognised by its content, so
the event's file name first records which turn it follows: after a kill, storing it again gives the same turn. Events
without a transcript are stored in batches, each in one commit. All events of a batch record the turn that the batch
follows and are removed last first, so after a kill those that remain are the batch's beginning, which is known.

A backlog is drained beside the event loop: files are read, parsed, compared and removed in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ctxmem_mcp.capture import arrivals, locations, spool, unrecognised, whole_outputs
from ctxmem_mcp.capture.cursor_backfill import backfill
from ctxmem_mcp.capture.events import Event, parse_event
from ctxmem_mcp.capture.hook_records import record_new
from ctxmem_mcp.capture.project_record import record_project
from ctxmem_mcp.capture.redaction import PLACEHOLDER_START, load_redactor
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.capture.spool import SpooledEvent
from ctxmem_mcp.capture.sync_state import SyncRecords
from ctxmem_mcp.capture.transcript_sync import SyncResult, TranscriptSync, TranscriptText, read_whole_lines
from ctxmem_mcp.errors import CtxmemError, Forgotten, NotFound, Refused
from ctxmem_mcp.file_lock import lock_file
from ctxmem_mcp.home_folder import expand_user
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Source

# After an event, how long its transcript may take to contain its messages.
TRANSCRIPT_LAG_SECONDS = 2.0
# A drain by another process, or by a task of this one, may take this long on a busy machine.
LOCK_SECONDS = 30.0
# Events that are stored in one commit, and the characters of their turns.
BATCH_EVENTS, BATCH_CHARS = 200, 200_000
_LOCK = "lock"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DrainResult:
    """What a drain did.

    Attributes:
        new: turns that were stored.
        pending: events that stay in the spool for now, because their transcript may still get their messages.
        failed: sessions whose events could not be stored; they stay in the spool too.
    """

    new: int = 0
    pending: int = 0
    failed: int = 0


async def drain(
    memory: Memory, data_dir: Path, *, wait: bool = False, conversation_id: str | None = None
) -> DrainResult:
    """Stores the pending events. Only one drain runs at a time on a data folder, in all processes.

    Args:
        memory: where to store them.
        data_dir: the folder whose spool is drained.
        wait: wait for a concurrent drain, at most LOCK_SECONDS, and for messages that a transcript may get within
            TRANSCRIPT_LAG_SECONDS (use before a read). If false, a concurrent drain is left alone.
        conversation_id: store only the events of this conversation.
    """
    if not spool.has_pending(str(data_dir)):
        return DrainResult()
    async with spool_lock(data_dir, LOCK_SECONDS if wait else 0) as locked:
        if not locked:
            return DrainResult()
        await asyncio.to_thread(unrecognised.spool_again_after_update, data_dir)
        return await _drain(_SpoolWorker(memory, data_dir, conversation_id), wait)


@asynccontextmanager
async def spool_lock(data_dir: Path, seconds: float) -> AsyncIterator[bool]:
    """Holds the lock that one process at a time stores captured turns with. Yields whether it was got in time."""
    async with lock_file(data_dir / spool.FOLDER / _LOCK, seconds) as is_locked:
        yield is_locked


async def _drain(worker: _SpoolWorker, wait: bool) -> DrainResult:
    new, recent = await worker.run_once()
    if wait and recent:
        await asyncio.sleep(max(0.0, max(recent) + TRANSCRIPT_LAG_SECONDS - time.time()))
        more, recent = await worker.run_once()
        new += more
    return DrainResult(new, len(recent), worker.failed)


_Pending = tuple[SpooledEvent, Event]
_Batch = Sequence[tuple[SpooledEvent, Sequence[NewTurn]]]


class _SpoolWorker:
    def __init__(self, memory: Memory, data_dir: Path, conversation_id: str | None = None) -> None:
        self._memory, self._data_dir, self._conversation_id = memory, data_dir, conversation_id
        self._sync = TranscriptSync(memory, data_dir)
        self._records = SyncRecords(data_dir)
        self.failed = 0
        self._since = 0

    async def run_once(self) -> tuple[int, list[float]]:
        """Stores all events that can be stored; returns the number of new turns, and the times of the events that
        remain."""
        new, recent = 0, list[float]()
        self.failed = 0
        self._since = await self._memory.count_tombstones()  # before the events are read
        groups = await asyncio.to_thread(self._groups)
        for (agent, session, _), group in groups.items():
            try:
                added, remaining = await self._process(group)
            except Exception as error:
                # Nothing is lost: the events stay, and the next drain tries again.
                known = isinstance(error, CtxmemError)
                _log.error("Events of %s, session %s, stay in the spool: %s", agent, session, error, exc_info=not known)
                self.failed += 1
                continue
            new, recent = new + added, recent + remaining
        latest: dict[str, float] = {}
        for (agent, _, _), group in groups.items():
            latest[agent] = max(latest.get(agent, 0.0), group[-1][0].at)
        await asyncio.to_thread(arrivals.record, self._data_dir, latest)
        return new, recent

    def _groups(self) -> dict[tuple[str, str, str | None], list[_Pending]]:
        """The pending events by session and transcript. The group with the newest event is last, so that its
        conversation becomes the one last active."""
        groups: dict[tuple[str, str, str | None], list[_Pending]] = {}
        for spooled in spool.pending(str(self._data_dir)):
            try:
                agent, raw, _ = spooled.read()
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                self._keep(spooled, f"An event can't be read: {error}")
                continue
            event = parse_event(agent, raw, spooled.at)
            if event is None:
                self._keep(spooled, f"An event of {agent} names no session")
                continue
            if not self._is_of_conversation(event):
                continue
            transcript = event.transcript if event.has_transcript else None
            groups.setdefault((agent, event.session_id, transcript), []).append((spooled, event))
        return dict(sorted(groups.items(), key=lambda item: item[1][-1][0].at))

    def _is_of_conversation(self, event: Event) -> bool:
        """Whether an event is of the conversation that is drained, if only one is; so are its outputs."""
        found = conversation_id_for(event.session_id) or ""
        return self._conversation_id in (None, found, whole_outputs.session_of(found))

    def _keep(self, spooled: SpooledEvent, why: str) -> None:
        _log.warning("%s; it is kept, and `ctxmem-mcp doctor` reports it.", why)
        unrecognised.keep(self._data_dir, spooled)
        unrecognised.trim(self._data_dir)

    def _recognised(self, group: list[_Pending]) -> list[_Pending]:
        """Returns the events that were recognised; the others are kept elsewhere."""
        for spooled, event in group:
            if not event.recognised:
                self._keep(spooled, f"An event {event.name!r} of {event.agent} has no words that can be read")
        return [(spooled, event) for spooled, event in group if event.recognised]

    async def _process(self, group: list[_Pending]) -> tuple[int, list[float]]:
        event = group[0][1]
        if not event.has_transcript:
            group = await asyncio.to_thread(self._recognised, group)
            if event.name != whole_outputs.EVENT:
                await self._start_from_events(event, group)
            elif await self._forget_with_session(event.session_id):
                await asyncio.to_thread(_remove, [spooled for spooled, _ in group])
                return 0, []
            return await self._store_events(event, [(spooled, each.turns) for spooled, each in group]), []
        file = _transcript_file(event)
        ended = any(each.ends_session for _, each in group)
        sync = self._sync.sync_file
        result = None if file is None else await sync(file, even_if_recent=ended, cwd=event.cwd)
        if result is not None and result.recent:
            return 0, [time.time()]
        if result is not None and result.gone:
            await asyncio.to_thread(_remove, [spooled for spooled, _ in group])
            return 0, []
        if result is None:
            if file is not None and (what := unrecognised.what_is_at(file)):
                _log.warning("%s is %s, so only what the events of %s contain is stored.", file, what, event.agent)
            group = await asyncio.to_thread(self._recognised, group)
        if file is None:
            return await self._store_events(event, [(spooled, each.turns) for spooled, each in group]), []
        if result is not None and result.conversation and event.cwd:
            # As long as the events are in the spool: a drain that is cancelled here is repeated.
            await record_new(self._memory, self._data_dir, result.conversation, event.cwd)
        return await self._store_missing(file, result, group)

    async def _start_from_events(self, event: Event, group: list[_Pending]) -> None:
        """At the first events of a session that is stored from its events: stores the transcript's turns before
        them."""
        conversation = conversation_id_for(event.session_id)
        first = next((spooled for spooled, each in group if each.turns), None)
        if conversation is None or first is None:
            return
        known = self._records.of_conversation(conversation)
        if known.by_events:
            return
        file = None if known.gone else _transcript_file(event)
        if file is not None and file.is_file() and first.after is None:
            turns = [turn for _, each in group for turn in each.turns]
            first.set_after(await backfill(self._memory, file, turns))
        self._records.mark_by_events(conversation)

    async def _store_missing(
        self, file: Path, result: SyncResult | None, group: list[_Pending]
    ) -> tuple[int, list[float]]:
        """Stores the messages that the transcript still lacks after TRANSCRIPT_LAG_SECONDS or the session's end.

        Of a session without a file, which the agent was started not to write, all turns are stored.
        """
        if result is None:
            group = [(spooled, replace(event, messages=event.turns)) for spooled, event in group]
            result = SyncResult()
        has_messages = any(event.messages for _, event in group)
        if has_messages and (result.raw is None or _has_placeholder(group)):
            raw = await asyncio.to_thread(_read_redacted, file, _has_placeholder(group))
        else:
            raw = result.raw or b""
        lacking = await asyncio.to_thread(_missing_messages, raw, group)
        ended = any(event.ends_session for _, event in group)
        new, recent, stored = result.new, list[float](), list[SpooledEvent]()
        for (spooled, event), late in zip(group, lacking, strict=True):
            if late and not ended and (recent or _is_recent(spooled)):
                recent.append(spooled.at)
                continue
            if spooled.after is None and late:
                late = await self._without_repeated_head(
                    late, result.conversation or conversation_id_for(event.session_id)
                )
            if late:
                new += await self._store_events(event, [(spooled, late)], result.conversation)
            else:
                stored.append(spooled)
        await asyncio.to_thread(_remove, stored)
        return new, recent

    async def _store_events(
        self, event: Event, spooled_turns: Sequence[tuple[SpooledEvent, Sequence[NewTurn]]], conversation: str = ""
    ) -> int:
        """Appends the events' turns to the head, in batches, and removes the events."""
        conversation = conversation or conversation_id_for(event.session_id) or ""
        new = 0
        for batch in _batches(spooled_turns):
            new += await self._store_batch(event, batch, conversation)
        return new

    async def _store_batch(self, event: Event, batch: _Batch, conversation: str) -> int:
        new, spooled = 0, [spooled for spooled, _ in batch]
        turns = [turn for _, turns in batch for turn in turns]
        if turns and conversation:
            try:
                new = await self._store(spooled, turns, conversation, event.cwd)
                await self._memory.set_agent(conversation, event.agent)
                await record_project(self._memory, conversation, event.cwd)
            except (Refused, NotFound) as error:
                if len(batch) > 1:
                    # Only some of them are refused.
                    for one in spooled:
                        one.after = None
                    return sum([await self._store_batch(event, [one], conversation) for one in batch])
                if not isinstance(error, (Forgotten, NotFound)):
                    await asyncio.to_thread(self._keep, spooled[0], f"An event of {event.agent} was refused: {error}")
                    return new
                _log.warning("Skipped an event of %s: %s", event.agent, error)
        await asyncio.to_thread(_remove, spooled)
        return new

    async def _store(
        self, spooled: Sequence[SpooledEvent], turns: Sequence[NewTurn], conversation: str, cwd: str | None
    ) -> int:
        after = spooled[0].after
        if after is None:
            after = await self._head(conversation)
            await asyncio.to_thread(_set_after, spooled, after)
        done = await self._memory.sync(
            turns, conversation_id=conversation, after=after or None, space=cwd, source=Source.EVENTS, since=self._since
        )
        if await self._forget_with_session(conversation):  # while its output was stored
            return 0
        return done.appended

    async def _forget_with_session(self, conversation: str) -> bool:
        """Forgets the whole of an output if its session was forgotten. Returns whether it was."""
        session = whole_outputs.session_of(conversation)
        if session == conversation or not await self._memory.is_forgotten(session):
            return False
        await self._memory.forget_output(conversation)
        return True

    async def _without_repeated_head(self, late: tuple[NewTurn, ...], conversation: str | None) -> tuple[NewTurn, ...]:
        """Drops the messages up to one that equals the head: two events of one instant may have the same."""
        try:
            head = await self._memory.head(conversation or "")
        except NotFound:
            return late
        same = [turn for turn in late if (turn.role, turn.content) == (head.role, head.content)]
        return late[late.index(same[-1]) + 1 :] if same else late

    async def _head(self, conversation: str) -> str:
        return await self._memory.stored_head(conversation) or ""


def _batches(spooled_turns: _Batch) -> Iterator[_Batch]:
    """Groups events that follow the same turn, or none that is recorded."""
    batch: list[tuple[SpooledEvent, Sequence[NewTurn]]] = []
    chars = 0
    for spooled, turns in spooled_turns:
        if batch and (spooled.after != batch[-1][0].after or len(batch) == BATCH_EVENTS or chars > BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append((spooled, turns))
        chars += sum(len(turn.content) for turn in turns)
    if batch:
        yield batch


def _set_after(spooled: Sequence[SpooledEvent], turn_id: str) -> None:
    for one in spooled:
        one.set_after(turn_id)


def _remove(spooled: Sequence[SpooledEvent]) -> None:
    for one in reversed(spooled):
        one.remove()


def _missing_messages(raw: bytes, group: Sequence[_Pending]) -> list[tuple[NewTurn, ...]]:
    """Returns, for each event, the messages that a transcript with this content lacks."""
    transcript = TranscriptText(raw)
    return [tuple(turn for turn in event.messages if not transcript.contains(turn)) for _, event in group]


def _is_recent(spooled: SpooledEvent) -> bool:
    """Whether its transcript may not have its messages yet. A time far in the future comes from a clock that was set
    back."""
    return abs(time.time() - spooled.at) < TRANSCRIPT_LAG_SECONDS


def _transcript_file(event: Event) -> Path | None:
    if event.transcript:
        return Path(expand_user(event.transcript))
    return locations.find_transcript(event.agent, event.session_id)


def _has_placeholder(group: list[_Pending]) -> bool:
    """Whether messages were redacted before they were spooled."""
    return any(PLACEHOLDER_START in turn.content for _, event in group for turn in event.messages)


def _read_redacted(file: Path, redacted: bool) -> bytes:
    try:
        raw = read_whole_lines(file)
    except OSError:
        return b""
    return load_redactor()(raw.decode("utf-8", "replace")).encode() if redacted else raw
