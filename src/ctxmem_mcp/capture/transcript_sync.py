"""Stores transcripts as they grow.

An unchanged file costs one stat. The part of a file that was stored before is recognised by its hash, and is not parsed
again if the format can resume after it. A forgotten conversation is not stored again.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from ctxmem_mcp.agents import CODEX
from ctxmem_mcp.capture import importer, program_db
from ctxmem_mcp.capture.file_text import decode
from ctxmem_mcp.capture.locations import SUBAGENTS, subagents_of
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.capture.sync_state import GONE, SyncRecord, SyncRecords, digest_of
from ctxmem_mcp.errors import Forgotten, InvalidArgument, UnknownTurn
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Source
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.private_files import read_file
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import Transcript

_LINES = ".jsonl"
# Codex writes each message twice, in rows of two kinds. After this long both are there.
SETTLE_SECONDS = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What syncing a file did.

    Attributes:
        conversation: the conversation's id; empty if the file has no turns yet.
        new: turns that were stored now.
        gone: the conversation was forgotten or has expired; nothing was stored.
        recent: the file was written to a moment ago and its last rows may still change; nothing was stored.
        raw: the session's own file up to its last whole line, if it was read.
    """

    conversation: str = ""
    new: int = 0
    gone: bool = False
    recent: bool = False
    raw: bytes | None = None


class TranscriptSync:
    """Syncs transcripts into one memory. How far each file was stored is recorded in the memory's data folder."""

    def __init__(self, memory: Memory, data_dir: Path, retention_days: int | None = None) -> None:
        self._memory, self._records, self._days = memory, SyncRecords(data_dir), retention_days

    async def sync_file(self, file: Path, *, even_if_recent: bool = False, cwd: str | None = None) -> SyncResult | None:
        """Stores the new turns of a transcript and of those of its sub-agents.

        Args:
            file: the session's transcript.
            even_if_recent: store it also if it was written to a moment ago, for example after the session's end.
            cwd: the folder that the session works in, for a transcript that does not name it.

        Returns:
            What was done; None if the file does not exist.
        """
        main = await self._sync_one(file, even_if_recent, cwd)
        if main is None or main.gone or main.recent:
            return main
        new = main.new
        for subagent_file in subagents_of(file):
            result = await self._sync_one(subagent_file, even_if_recent, cwd)
            new += result.new if result else 0
        return replace(main, new=new)

    async def _sync_one(self, file: Path, even_if_recent: bool, cwd: str | None) -> SyncResult | None:
        state = size_and_mtime(file)
        if state is None:
            return None
        record = self._records.get(file)
        if record.gone:
            return SyncResult(gone=True)
        if record.tip and await self._memory.stored_head(record.conversation) is None:
            self._records.put(file, GONE)
            return SyncResult(gone=True)
        if state == (record.size, record.changed):
            return SyncResult(record.conversation)
        if await asyncio.to_thread(importer.has_sessions_elsewhere, file):
            return await self._sync_sessions(file, replace(record, size=state[0], changed=state[1]))
        raw = await asyncio.to_thread(read_whole_lines, file)
        now = replace(record, size=state[0], changed=state[1])
        settled = even_if_recent or _seconds_since(state[1]) >= SETTLE_SECONDS
        try:
            result = await self._continue(file, raw, now)
            result = result or await self._read_from_start(file, raw, now, settled, cwd)
        except Forgotten:
            self._records.put(file, GONE)
            return SyncResult(record.conversation, gone=True)
        return replace(result, raw=raw)

    async def _continue(self, file: Path, raw: bytes, record: SyncRecord) -> SyncResult | None:
        """Stores only what was appended; returns None if the file has to be read from its start."""
        if not record.tip or not _extends(raw, record):
            return None
        if len(raw) == record.bytes:
            self._records.put(file, record)
            return SyncResult(record.conversation)
        if record.growth is None:
            return None
        text, _ = decode(raw[record.bytes :])
        resumed = await asyncio.to_thread(registry.resume, record.growth, text)
        if resumed is None:
            return None
        turns, growth = resumed
        tip, new = record.tip, 0
        if turns:
            before = await self._memory.info(record.conversation) if record.titled else None
            try:
                done = await self._memory.sync(
                    turns, conversation_id=record.conversation, after=tip, source=Source.TRANSCRIPT
                )
            except UnknownTurn:  # its branch was forgotten
                return None
            tip, new = done.head or tip, done.appended
            if before is not None:
                await self._memory.set_title(record.conversation, before.title)
        self._records.put(file, replace(record, bytes=len(raw), digest=digest_of(raw), tip=tip, growth=growth))
        return SyncResult(record.conversation, new)

    async def _read_from_start(
        self, file: Path, raw: bytes, record: SyncRecord, settled: bool, cwd: str | None
    ) -> SyncResult:
        """Reads the whole file; turns that are already stored are recognised."""
        try:
            text, _ = decode(raw)
            transcript, growth = await asyncio.to_thread(registry.parse_resumable, text, registry.name_for_parser(file))
        except InvalidArgument:
            return SyncResult()  # too little is written yet to detect the format
        if transcript.agent == CODEX.id and not settled:
            return SyncResult(record.conversation, recent=True)
        conversation = conversation_id_for(transcript.session_id)
        events = self._records.of_conversation(conversation) if conversation else SyncRecord()
        if conversation and (events.gone or events.by_events):
            self._records.put(file, GONE if events.gone else replace(record, conversation=conversation))
            return SyncResult(conversation, gone=events.gone)
        transcript = replace(transcript, cwd=transcript.cwd or cwd)
        abandoned = digest_of(repr(transcript.abandoned_branches).encode("utf-8", "surrogatepass"))
        done = await importer.import_transcript(
            self._memory, file, transcript, self._days, include_abandoned=abandoned != record.left
        )
        for warning in transcript.warnings[:3]:
            _log.info("%s: %s", file.name, warning)
        if done is None:
            return SyncResult()
        await self._add_space(record, done.conversation_id, transcript.cwd)
        new, threads = await self._sync_threads(file, transcript, set(record.threads))
        self._records.put(
            file,
            replace(
                record,
                bytes=len(raw),
                digest=digest_of(raw),
                conversation=done.conversation_id,
                tip=done.tip,
                left=abandoned,
                threads=threads,
                growth=growth,
                titled=transcript.title is not None,
            ),
        )
        return SyncResult(done.conversation_id, done.new + new)

    async def _sync_sessions(self, file: Path, record: SyncRecord) -> SyncResult:
        """Stores the new turns of every conversation in a database, or of one in several files."""
        try:
            transcript = await asyncio.to_thread(importer.read, file)
        except InvalidArgument as error:
            _log.info("%s: %s", file.name, error)
            return SyncResult()
        transcript = replace(transcript, threads=(replace(transcript, threads=()), *transcript.threads))
        new, threads = await self._sync_threads(file, transcript, set(record.threads))
        _, session = program_db.split_session(file)
        own = conversation_id_for(session) if session else None
        self._records.put(file, replace(record, threads=threads, conversation=own or ""))
        return SyncResult(own or conversation_id_for(transcript.threads[-1].session_id) or "", new)

    async def _add_space(self, record: SyncRecord, conversation: str, cwd: str | None) -> None:
        """Puts a conversation into the session's folder at its first sync: the gateway, which may have created it, does
        not know the folder."""
        if cwd and not record.tip and (await self._memory.info(conversation)).space is None:
            await self._memory.set_space(conversation, cwd)

    async def _sync_threads(self, file: Path, transcript: Transcript, known: set[str]) -> tuple[int, tuple[str, ...]]:
        """Stores the sub-agents that the file itself contains, unless they have files of their own. One that was stored
        before and is gone is not stored again."""
        new = 0
        for thread in transcript.threads:
            conversation = conversation_id_for(thread.session_id)
            if conversation is None or _has_own_file(file, thread):
                continue
            mark = digest_of(conversation.encode())
            if mark in known and await self._memory.stored_head(conversation) is None:
                continue
            known.add(mark)
            try:
                done = await importer.import_transcript(self._memory, file, thread, self._days)
            except Forgotten:
                continue
            new += done.new if done else 0
        return new, tuple(sorted(known))


def _has_own_file(file: Path, thread: Transcript) -> bool:
    """Looks in the folder of the session's sub-agents and, for older versions, beside the session's file."""
    name = f"agent-{thread.session_id.rpartition(':')[2]}{_LINES}"
    return (file.with_suffix("") / SUBAGENTS / name).exists() or file.with_name(name).exists()


def size_and_mtime(file: Path) -> tuple[int, int] | None:
    """Returns a file's size in bytes and when it was changed, in nanoseconds since 1970.

    A database's log of what was written last counts with it.

    Returns None if there is no file, or if it is not a regular file: a folder, a pipe or a device.
    """
    file, _ = program_db.split_session(file)
    try:
        state = file.stat()
    except OSError:
        return None
    if not stat.S_ISREG(state.st_mode):
        return None
    log = size_and_mtime(file.with_name(f"{file.name}-wal")) if file.suffix in program_db.SUFFIXES else None
    size, changed = log or (0, 0)
    return state.st_size + size, max(state.st_mtime_ns, changed)


def _seconds_since(changed: int) -> float:
    """The seconds since this time; a time in the future counts as long ago."""
    since = time.time() - changed / 1e9
    return since if since >= 0 else SETTLE_SECONDS


def read_whole_lines(file: Path) -> bytes:
    """Returns a JSON Lines file up to its last whole line, for an agent may be writing the next one. Other files are
    returned whole, and of a session in a database the documents."""
    if program_db.split_session(file)[1] is not None:
        return "\n".join(program_db.read_documents(file)).encode("utf-8", "surrogatepass")
    raw = read_file(file)
    if file.suffix != _LINES or raw.endswith(b"\n"):
        return raw
    end = raw.rfind(b"\n") + 1
    try:
        # A row is an object, and a truncated object is not valid JSON.
        return raw if isinstance(json.loads(raw[end:]), dict) else raw[:end]
    except ValueError:
        return raw[:end]


def _extends(raw: bytes, record: SyncRecord) -> bool:
    """Whether the file still begins with what was stored before."""
    return len(raw) >= record.bytes and digest_of(raw[: record.bytes]) == record.digest


# ---------------------------------------------------------------- messages that may be missing yet

# A message of fewer characters counts as found only if it is a whole JSON string; a longer one may be part of one.
_SHORT_CHARS = 40
_STRING = lazy_regex(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


class TranscriptText:
    """A JSON file's bytes, to be searched for many messages."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def contains(self, turn: NewTurn) -> bool:
        """Returns whether the file contains the turn's text: as a string, between tags or after one in it or, if the
        text is long, line by line."""
        words, raw = turn.content.strip(), self._raw
        if _quoted(turn.content) in self._strings or (
            _quoted(turn.content) in raw
            or _quoted(words) in raw
            or _tagged(words, "") in raw
            or _tagged(words, "\n") in raw
            or _quoted(f">\n\n{words}")[1:] in raw
        ):
            return True
        return len(words) >= _SHORT_CHARS and all(line[1:-1] in raw for line in _lines(words))

    @cached_property
    def _strings(self) -> set[bytes]:
        """All JSON strings: most messages are one of them, and searching ten megabytes for each takes milliseconds."""
        return set(_STRING.findall(self._raw))


def _lines(words: str) -> Iterator[bytes]:
    for line in words.splitlines():
        if line.strip():
            yield _quoted(line.strip())


def _tagged(words: str, edge: str) -> bytes:
    """The words as they are encoded in a string that puts them between tags."""
    return _quoted(f">{edge}{words}{edge}</")[1:-1]


def _quoted(words: str) -> bytes:
    return json.dumps(words, ensure_ascii=False).encode("utf-8", "surrogatepass")
