"""A process that stores what is being forgotten beside it, by one of the ways in.

Usage: python -m tests.stores.forget_process DATA_DIR. Each line of its input is a JSON object with `do`, the name of a
method of `Ways`, `delay` in seconds, and the method's arguments. Each is answered by a line with the method's result or
the name of the error that it raised.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ctxmem_mcp.capture import importer
from ctxmem_mcp.capture.spool_worker import drain
from ctxmem_mcp.capture.transcript_sync import TranscriptSync
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings


class Ways:
    """The ways in which turns are stored, and the one in which they are forgotten."""

    def __init__(self, memory: Memory, data_dir: Path) -> None:
        self._memory, self._data_dir = memory, data_dir
        self._tracker = ConversationTracker(100_000, "o200k_base")

    async def drain(self, *, wait: bool = False) -> None:
        await drain(self._memory, self._data_dir, wait=wait)

    async def watch(self, file: str) -> None:
        await TranscriptSync(self._memory, self._data_dir).sync_file(Path(file), even_if_recent=True)

    async def load(self, file: str) -> None:
        await importer.import_transcript(self._memory, Path(file), importer.read(Path(file)))

    async def gateway(self, messages: list[dict[str, Any]], answer: str) -> str:
        body, options = {"model": "m", "messages": messages}, MemoryOptions(True, "m")
        sent = await self._tracker.compact(self._memory, "", OpenAI(), body, options)
        await self._tracker.store_answer(self._memory, sent.conversation, [NewTurn("assistant", answer)])
        return sent.conversation.conversation_id

    async def append(self, conversation_id: str, content: str) -> None:
        head = await self._memory.head(conversation_id)
        await self._memory.append(NewTurn("user", content), conversation_id=conversation_id, parent_id=head.id)

    async def sync(self, conversation_id: str, contents: list[str]) -> str:
        turns = [NewTurn("user", content) for content in contents]
        return (await self._memory.sync(turns, conversation_id=conversation_id)).turn_ids[-1]

    async def texts(self, conversation_id: str) -> str:
        branches = await self._memory.branches(conversation_id)
        histories = [await self._memory.history(conversation_id, turn_id=tip.id) for tip in branches]
        return json.dumps([turn.content for turns in histories for turn in turns])

    async def forget(self, conversation_id: str, turn_id: str | None = None) -> None:
        await self._memory.forget(conversation_id, conversation_id, turn_id)


async def main(data_dir: Path) -> None:
    async with open_memory(Settings(data_dir, durability="normal")) as memory:
        ways = Ways(memory, data_dir)
        _write("ready")
        async with asyncio.TaskGroup() as tasks:
            while line := await asyncio.to_thread(sys.stdin.readline):
                command = json.loads(line)
                way: Callable[..., Awaitable[str | None]] = getattr(ways, command.pop("do"))
                tasks.create_task(_run(way, command.pop("delay"), command))


async def _run(way: Callable[..., Awaitable[str | None]], delay: float, arguments: dict[str, Any]) -> None:
    await asyncio.sleep(delay)
    try:
        answer = await way(**arguments) or "ok"
    except CtxmemError as error:
        answer = type(error).__name__
    except Exception as error:
        answer = repr(error)
    _write(answer)


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
    os._exit(0)
