"""Syncs many transcripts: all that agents keep on this machine, or those in given folders."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture import locations
from ctxmem_mcp.capture.transcript_sync import SyncResult, TranscriptSync, size_and_mtime
from ctxmem_mcp.errors import CtxmemError

_log = logging.getLogger(__name__)
FindFiles = Callable[[], Iterable[Path]]
_Stats = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, slots=True)
class SyncedFile:
    """A file that was synced.

    Attributes:
        file: the transcript's path.
        conversation_id: the conversation it became.
        new: the number of turns that were stored now.
        gone: the conversation was forgotten or has expired, and the file was ignored.
    """

    file: str
    conversation_id: str
    new: int
    gone: bool


def all_transcripts() -> list[Path]:
    """Returns every transcript on this machine, oldest first. Sub-agents' are synced with their session's."""
    return [file for file in locations.find_transcripts() if file.parent.name != locations.SUBAGENTS]


def transcripts_under(paths: Iterable[Path]) -> list[Path]:
    """Returns the transcripts in these folders, and the paths that are files."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += sorted(file for pattern in locations.TRANSCRIPT_GLOBS for file in path.rglob(pattern))
        else:
            found.append(path)
    return [file for file in found if file.parent.name != locations.SUBAGENTS]


async def sync_all(transcript_sync: TranscriptSync, files: Iterable[Path]) -> AsyncIterator[SyncedFile]:
    """Syncs each file, also one that was written to a moment ago. A file that fails is logged and skipped."""
    async for file, result in _sync_each(transcript_sync, files, even_if_recent=True):
        if result.conversation or result.gone:
            yield SyncedFile(str(file), result.conversation, result.new, result.gone)


async def _sync_each(
    transcript_sync: TranscriptSync, files: Iterable[Path], *, even_if_recent: bool
) -> AsyncIterator[tuple[Path, SyncResult]]:
    for file in files:
        try:
            result = await transcript_sync.sync_file(file, even_if_recent=even_if_recent)
        except (CtxmemError, OSError) as error:
            _log.warning("Skipped %s: %s", file, error)
            continue
        if result is not None:
            yield file, result


async def watch(transcript_sync: TranscriptSync, find: FindFiles, poll_seconds: float) -> AsyncIterator[SyncedFile]:
    """Syncs the existing files, then each addition, until it is cancelled. Yields only files that gave new turns.

    Args:
        transcript_sync: what stores the files.
        find: returns the files to watch; it is called at each poll.
        poll_seconds: seconds between two polls.
    """
    seen: dict[Path, _Stats] = {}
    while True:
        files = await asyncio.to_thread(_changed, find, seen)
        async for file, result in _sync_each(transcript_sync, files, even_if_recent=False):
            if result.recent:
                del seen[file]  # so that the next poll syncs it
            if result.new:
                yield SyncedFile(str(file), result.conversation, result.new, result.gone)
        await asyncio.sleep(poll_seconds)


def _changed(find: FindFiles, seen: dict[Path, _Stats]) -> list[Path]:
    """The files that changed since the last call, themselves or one of their sub-agents'."""
    changed = []
    for file in find():
        stats = tuple(size_and_mtime(one) for one in (file, *locations.subagents_of(file)))
        if seen.get(file) != stats:
            seen[file] = stats
            changed.append(file)
    return changed
