"""Follows many transcripts: all that agents keep on this machine, or those in folders that are named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture import locations
from ctxmem_mcp.capture.transcript_sync import SyncResult, TranscriptSync
from ctxmem_mcp.errors import CtxmemError

_log = logging.getLogger(__name__)
FindFiles = Callable[[], Iterable[Path]]


@dataclass(frozen=True, slots=True)
class SyncedFile:
    """What was taken in of one file. gone: its conversation was forgotten or has expired, and it was left alone."""

    file: str
    conversation_id: str
    new: int
    gone: bool


def all_transcripts() -> list[Path]:
    """Every transcript on this machine; those of sub-agents come with their session's."""
    return [file for file in locations.find_transcripts() if file.parent.name != locations.SUBAGENTS]


def transcripts_under(folders: Iterable[Path]) -> list[Path]:
    """Transcripts in these folders, and those named themselves."""
    found: list[Path] = []
    for path in folders:
        found += (
            sorted(file for kind in locations.TRANSCRIPT_GLOBS for file in path.rglob(kind))
            if path.is_dir()
            else [path]
        )
    return [file for file in found if file.parent.name != locations.SUBAGENTS]


async def sync_all(transcript_sync: TranscriptSync, files: Iterable[Path]) -> AsyncIterator[SyncedFile]:
    """Takes each file in as it is; one that can't be is logged and passed over."""
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
            _log.warning("%s was passed over: %s", file, error)
            continue
        if result is not None:
            yield file, result


async def watch(transcript_sync: TranscriptSync, found: FindFiles, every_seconds: float) -> AsyncIterator[SyncedFile]:
    """Takes in what is there, then what is added, until it is cancelled. Only what is new is told."""
    seen: dict[Path, tuple[tuple[int, int], ...]] = {}
    while True:
        files = await asyncio.to_thread(_changed, found, seen)
        async for file, result in _sync_each(transcript_sync, files, even_if_recent=False):
            if result.recent:
                del seen[file]  # looked at again
            if result.new:
                yield SyncedFile(str(file), result.conversation, result.new, result.gone)
        await asyncio.sleep(every_seconds)


def _changed(found: FindFiles, seen: dict[Path, tuple[tuple[int, int], ...]]) -> list[Path]:
    """The files that are not as they were, each with its sub-agents' looked at."""
    changed = []
    for file in found():
        state = tuple(_size_and_mtime(one) for one in (file, *locations.subagents_of(file)))
        if seen.get(file) != state:
            seen[file] = state
            changed.append(file)
    return changed


def _size_and_mtime(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError:
        return (-1, 0)
    return state.st_size, state.st_mtime_ns
