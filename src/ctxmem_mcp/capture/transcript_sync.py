"""Takes a transcript in as it grows, each part of it once.

A file that has not changed since costs a look at its size and time. What was taken in before is recognised by its hash
and read no second time where the format can go on from there; a conversation that was forgotten stays so.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ctxmem_mcp.agents import CODEX
from ctxmem_mcp.capture import importer
from ctxmem_mcp.capture.locations import SUBAGENTS, subagents_of
from ctxmem_mcp.capture.sync_state import GONE, SyncRecord, SyncRecords, digest_of
from ctxmem_mcp.errors import InvalidArgument, NotFound
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import Transcript

_LINES = ".jsonl"
# Codex writes what it says twice, in rows of two kinds; they stand together after this long.
SETTLE_SECONDS = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """What a file was taken in to. conversation: empty where nothing is said in it yet. new: turns stored now.

    young: it was written to a moment ago, and what its last rows say may yet change; nothing was taken in.
    """

    conversation: str = ""
    new: int = 0
    gone: bool = False
    recent: bool = False


class TranscriptSync:
    """Follows transcripts into one memory, whose data folder says how far each is."""

    def __init__(self, memory: Memory, data_dir: Path, retention_days: int | None = None) -> None:
        self._memory, self._records, self._days = memory, SyncRecords(data_dir), retention_days

    async def sync_file(self, file: Path, *, even_if_recent: bool = False) -> SyncResult | None:
        """Takes in what is new in a file and in those of its sub-agents; None where there is no such file.
        as_it_is: even if it was written to a moment ago."""
        main = await self._sync_one(file, even_if_recent)
        if main is None or main.gone or main.recent:
            return main
        new = main.new
        for beside in subagents_of(file):
            result = await self._sync_one(beside, even_if_recent)
            new += result.new if result else 0
        return replace(main, new=new)

    async def _sync_one(self, file: Path, even_if_recent: bool) -> SyncResult | None:
        state = _size_and_mtime(file)
        if state is None:
            return None
        record = self._records.get(file)
        if record.gone:
            return SyncResult(gone=True)
        if record.tip and not await self._exists(record.conversation):
            self._records.put(file, GONE)
            return SyncResult(gone=True)
        if state == (record.size, record.changed):
            return SyncResult(record.conversation)
        raw = await asyncio.to_thread(read_whole_lines, file)
        now = replace(record, size=state[0], changed=state[1])
        settled = even_if_recent or _seconds_since(state[1]) >= SETTLE_SECONDS
        return await self._continue(file, raw, now) or await self._read_from_start(file, raw, now, settled)

    async def _continue(self, file: Path, raw: bytes, record: SyncRecord) -> SyncResult | None:
        """Goes on from where the file was; None where it has to be read from its beginning."""
        if not record.tip or not _extends(raw, record):
            return None
        if len(raw) == record.bytes:
            self._records.put(file, record)
            return SyncResult(record.conversation)
        if record.growth is None:
            return None
        text, _ = importer.decode(raw[record.bytes :])
        grown = await asyncio.to_thread(registry.resume, record.growth, text)
        if grown is None:
            return None
        turns, growth = grown
        tip, new = record.tip, 0
        if turns:
            done = await self._memory.sync(turns, conversation_id=record.conversation, after=tip)
            tip, new = done.head or tip, done.appended
        self._records.put(file, replace(record, bytes=len(raw), digest=digest_of(raw), tip=tip, growth=growth))
        return SyncResult(record.conversation, new)

    async def _read_from_start(self, file: Path, raw: bytes, record: SyncRecord, settled: bool) -> SyncResult:
        """Reads the file from its beginning; what is known of it is found and not stored again."""
        try:
            text, _ = importer.decode(raw)
            transcript, growth = await asyncio.to_thread(registry.parse_resumable, text, registry.name_for_parser(file))
        except InvalidArgument:
            return SyncResult()  # nothing yet by which its format can be told
        if transcript.agent == CODEX.id and not settled:
            return SyncResult(record.conversation, recent=True)
        conversation = importer.conversation_id_for(transcript.session_id)
        events = self._records.of_conversation(conversation) if conversation else SyncRecord()
        if conversation and (events.gone or events.by_events):
            self._records.put(file, GONE if events.gone else replace(record, conversation=conversation))
            return SyncResult(conversation, gone=events.gone)
        left = digest_of(repr(transcript.abandoned_branches).encode("utf-8", "surrogatepass"))
        done = await importer.import_transcript(
            self._memory, file, transcript, self._days, include_left=left != record.left
        )
        for warning in transcript.warnings[:3]:
            _log.info("%s: %s", file.name, warning)
        if done is None:
            return SyncResult()
        new, threads = await self._sync_threads(file, transcript, set(record.threads))
        self._records.put(
            file,
            replace(
                record,
                bytes=len(raw),
                digest=digest_of(raw),
                conversation=done.conversation_id,
                tip=done.tip,
                left=left,
                threads=threads,
                growth=growth,
            ),
        )
        return SyncResult(done.conversation_id, done.new + new)

    async def _sync_threads(self, file: Path, transcript: Transcript, known: set[str]) -> tuple[int, tuple[str, ...]]:
        """Sub-agents that the file itself tells of and that have no file of their own. One that was taken in before
        and is not there any more stays away."""
        new = 0
        for thread in transcript.threads:
            conversation = importer.conversation_id_for(thread.session_id)
            if conversation is None or _has_own_file(file, thread):
                continue
            mark = digest_of(conversation.encode())
            if mark in known and not await self._exists(conversation):
                continue
            done = await importer.import_transcript(self._memory, file, thread, self._days)
            known.add(mark)
            new += done.new if done else 0
        return new, tuple(sorted(known))

    async def _exists(self, conversation: str) -> bool:
        try:
            await self._memory.info(conversation)
        except NotFound:
            return False
        return True


def _has_own_file(file: Path, thread: Transcript) -> bool:
    """In the folder of its session's sub-agents; in older versions, beside the session."""
    name = f"agent-{thread.session_id.rpartition(':')[2]}{_LINES}"
    return (file.with_suffix("") / SUBAGENTS / name).exists() or file.with_name(name).exists()


def _size_and_mtime(file: Path) -> tuple[int, int] | None:
    """A file's size and when it was changed."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_size, state.st_mtime_ns


def _seconds_since(changed: int) -> float:
    """How long a file was not written to; long, where its time lies ahead of the clock."""
    since = time.time() - changed / 1e9
    return since if since >= 0 else SETTLE_SECONDS


def read_whole_lines(file: Path) -> bytes:
    """The file up to its last whole line: an agent may be writing the one after it. Files that are no lines: all."""
    raw = file.read_bytes()
    if file.suffix != _LINES or raw.endswith(b"\n"):
        return raw
    end = raw.rfind(b"\n") + 1
    try:
        # A row is an object, and an object that is cut off is no JSON.
        return raw if isinstance(json.loads(raw[end:]), dict) else raw[:end]
    except ValueError:
        return raw[:end]


def _extends(raw: bytes, record: SyncRecord) -> bool:
    """Whether what was taken in before is still what the file begins with."""
    return len(raw) >= record.bytes and digest_of(raw[: record.bytes]) == record.digest


# ---------------------------------------------------------------- words that may be late

# Shorter words are looked for as a whole text; longer ones may stand inside one.
_SHORT_CHARS = 40


def contains_text(raw: bytes, turn: NewTurn) -> bool:
    """Whether a file of JSON has these words already: as a text, between tags, or, if they are long, line by line in
    texts."""
    words = turn.content.strip()
    if (
        _quoted(turn.content) in raw
        or _quoted(words) in raw
        or _tagged(words, "") in raw
        or _tagged(words, "\n") in raw
    ):
        return True
    return len(words) >= _SHORT_CHARS and all(line[1:-1] in raw for line in _lines(words))


def _lines(words: str) -> Iterator[bytes]:
    for line in words.splitlines():
        if line.strip():
            yield _quoted(line.strip())


def _tagged(words: str, edge: str) -> bytes:
    """As they stand in a text that puts them in tags."""
    return _quoted(f">{edge}{words}{edge}</")[1:-1]


def _quoted(words: str) -> bytes:
    return json.dumps(words, ensure_ascii=False).encode("utf-8", "surrogatepass")
