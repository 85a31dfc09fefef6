"""The commands that take in what agents leave: all transcripts of this machine, once or as they grow."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ctxmem_mcp.capture import watcher
from ctxmem_mcp.capture.transcript_sync import Follower
from ctxmem_mcp.cli.runner import Flags, with_memory
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory

EVERY_SECONDS = 2.0


def import_all(flags: Flags, retention_days: int | None, as_json: bool) -> None:
    """Takes in every transcript on this machine, each as far as it is new."""
    files = watcher.everywhere()

    async def work(memory: Memory) -> list[watcher.Caught]:
        follower = Follower(memory, flags.settings().data_dir, retention_days)
        return [caught async for caught in watcher.catch_up(follower, _with_bar(files, as_json))]

    caught = with_memory(flags, work)
    if as_json:
        _say(json.dumps([asdict(one) for one in caught], ensure_ascii=False))
        return
    new, gone = sum(one.new for one in caught), sum(one.gone for one in caught)
    _say(f"{len(caught) - gone:,} transcripts: {new:,} new turns.")
    if gone:
        _say(f"{gone:,} left alone: forgotten or expired. `ctxmem-mcp import FILE` brings one back.")
    if not files:
        _say("No agent keeps transcripts where they are looked for; `ctxmem-mcp import PATH` takes any file or folder.")


def watch(flags: Flags, paths: list[Path], every_seconds: float, as_json: bool) -> None:
    """Follows transcripts as they grow, until it is interrupted."""
    for path in paths:
        if not path.exists():
            raise InvalidArgument(f"PATH {path}", "is not there", "Name a transcript, or a folder of them.")
    found: Callable[[], list[Path]] = (lambda: watcher.under(paths)) if paths else watcher.everywhere

    async def work(memory: Memory) -> None:
        follower = Follower(memory, flags.settings().data_dir)
        async for caught in watcher.watch(follower, found, every_seconds):
            if as_json:
                _say(json.dumps(asdict(caught), ensure_ascii=False))
            else:
                _say(f"{time.strftime('%H:%M:%S')}  {caught.conversation_id}  {caught.new:,} new turns")

    if not as_json:
        _say(f"Following {len(found()):,} transcripts; control-C ends it.")
    with suppress(KeyboardInterrupt):
        with_memory(flags, work)


def _with_bar(files: list[Path], quiet: bool) -> Iterable[Path]:
    """The files, with a bar on stderr where a person watches."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    shown = not quiet and console.is_terminal
    return track(files, "importing", console=console, transient=True, disable=not shown)


def _say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()
