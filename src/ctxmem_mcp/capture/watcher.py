"""Follows many transcripts: all that agents keep on this machine, or those in folders that are named."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture import locations
from ctxmem_mcp.capture.transcript_sync import Followed, Follower
from ctxmem_mcp.errors import CtxmemError

_log = logging.getLogger(__name__)
Found = Callable[[], Iterable[Path]]


@dataclass(frozen=True, slots=True)
class Caught:
    """What was taken in of one file. gone: its conversation was forgotten or has expired, and it was left alone."""

    file: str
    conversation_id: str
    new: int
    gone: bool


def everywhere() -> list[Path]:
    """Every transcript on this machine; those of sub-agents come with their session's."""
    return [file for _, file in locations.transcripts() if file.parent.name != locations.SUBAGENTS]


def under(folders: Iterable[Path]) -> list[Path]:
    """Transcripts in these folders, and those named themselves."""
    found: list[Path] = []
    for path in folders:
        found += sorted(file for kind in locations.FOLLOWED for file in path.rglob(kind)) if path.is_dir() else [path]
    return [file for file in found if file.parent.name != locations.SUBAGENTS]


async def catch_up(follower: Follower, files: Iterable[Path]) -> AsyncIterator[Caught]:
    """Takes each file in as it is; one that can't be is logged and passed over."""
    async for file, followed in _followed(follower, files, as_it_is=True):
        if followed.conversation or followed.gone:
            yield Caught(str(file), followed.conversation, followed.new, followed.gone)


async def _followed(
    follower: Follower, files: Iterable[Path], *, as_it_is: bool
) -> AsyncIterator[tuple[Path, Followed]]:
    for file in files:
        try:
            followed = await follower.follow(file, as_it_is=as_it_is)
        except (CtxmemError, OSError) as error:
            _log.warning("%s was passed over: %s", file, error)
            continue
        if followed is not None:
            yield file, followed


async def watch(follower: Follower, found: Found, every_seconds: float) -> AsyncIterator[Caught]:
    """Takes in what is there, then what is added, until it is cancelled. Only what is new is told."""
    seen: dict[Path, tuple[tuple[int, int], ...]] = {}
    while True:
        files = await asyncio.to_thread(_changed, found, seen)
        async for file, followed in _followed(follower, files, as_it_is=False):
            if followed.young:
                del seen[file]  # looked at again
            if followed.new:
                yield Caught(str(file), followed.conversation, followed.new, followed.gone)
        await asyncio.sleep(every_seconds)


def _changed(found: Found, seen: dict[Path, tuple[tuple[int, int], ...]]) -> list[Path]:
    """The files that are not as they were, each with its sub-agents' looked at."""
    changed = []
    for file in found():
        state = tuple(_state(one) for one in (file, *locations.subagents_of(file)))
        if seen.get(file) != state:
            seen[file] = state
            changed.append(file)
    return changed


def _state(file: Path) -> tuple[int, int]:
    try:
        state = file.stat()
    except OSError:
        return (-1, 0)
    return state.st_size, state.st_mtime_ns
