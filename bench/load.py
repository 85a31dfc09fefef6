"""What others notice of one caller's large requests, through a real service process.

    python -m bench load [--command PYTHON] [--src FOLDER] [--large 3] [--seconds 6]

One caller sends message lists of 4.7 MB to /v1/memory, or turns of 10 MB over MCP. Another asks for /health every
20 ms, and a third appends small turns to a conversation of its own. Each is measured first without the large requests,
then beside them. The processor time is that of the service and its workers, per megabyte sent: until the answers, and
until all is indexed. --src measures another version's source folder, with --command its interpreter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

LIST_BYTES, TURN_BYTES = 4_700_000, 10_000_000
# Below this share of a core nothing is computed any more, not even beside many other processes.
REST_SHARE, REST_SECONDS = 0.01, 3
HEALTH_EVERY_SECONDS, APPEND_EVERY_SECONDS = 0.02, 0.05
MCP_HEADERS = {"accept": "application/json, text/event-stream", "mcp-protocol-version": "2025-06-18"}


def sample(size: int, seed: int) -> str:
    """Text of this many characters from the repository's own sources, different for each seed."""
    root = Path(__file__).parent.parent
    text = "".join(
        path.read_text("utf-8") for path in sorted(root.glob("src/**/*.py")) + sorted(root.glob("docs/*.md"))
    )
    start = random.Random(seed).randrange(len(text))
    text = text[start:] + text[:start]
    return f"{seed}\n" + (text * (size // len(text) + 1))[:size]


def message_list(seed: int) -> list[dict[str, str]]:
    """Messages of 0.2 to 20 kB."""
    chance, text, messages, at = random.Random(seed), sample(LIST_BYTES, seed), list[dict[str, str]](), 0
    while at < len(text):
        size = int(chance.lognormvariate(7, 1)) + 200
        messages.append({"role": ("user", "assistant")[len(messages) % 2], "content": text[at : at + size]})
        at += size
    return messages


@contextlib.asynccontextmanager
async def service(command: str, src: Path | None) -> AsyncIterator[tuple[httpx2.AsyncClient, psutil.Process]]:
    """Starts a service on an empty folder; yields a client of it, and its process."""
    port = random.randrange(20_000, 60_000)
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "CTXMEM_DATA_DIR": folder, "CTXMEM_HTTP_SECONDS": "600"}
        if src:
            environment["PYTHONPATH"] = str(src)
        arguments = [command, "-m", "ctxmem_mcp", "serve", "--transport", "http", "--port", str(port)]
        process = subprocess.Popen(arguments, env=environment, cwd=folder)
        limits = httpx2.Limits(max_connections=50)
        base = f"http://127.0.0.1:{port}"
        try:
            async with httpx2.AsyncClient(base_url=base, timeout=600, limits=limits) as client:
                while True:
                    with contextlib.suppress(httpx2.HTTPError):
                        await client.get("/health")
                        break
                    await asyncio.sleep(0.1)
                yield client, psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait()


async def call(client: httpx2.AsyncClient, tool: str, **arguments: Any) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    response = await client.post("/mcp", json=body, headers=MCP_HEADERS)
    if response.status_code != 200 or '"isError":true' in response.text:
        raise RuntimeError(response.text[:300])


async def repeated(times: list[float], every: float, work: Callable[[], Awaitable[Any]]) -> None:
    """Calls `work` again and again, and records the milliseconds that each call takes."""
    while True:
        began = time.perf_counter()
        await work()
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(every)


class Others:
    """The two other callers."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client, self._next = client, 0
        self.health: list[float] = []
        self.appends: list[float] = []

    async def beside(self, work: Awaitable[Any]) -> None:
        """Measures while `work` runs."""
        self.health, self.appends = [], []
        tasks = [
            asyncio.create_task(repeated(self.health, HEALTH_EVERY_SECONDS, lambda: self._client.get("/health"))),
            asyncio.create_task(repeated(self.appends, APPEND_EVERY_SECONDS, self._append)),
        ]
        await work
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _append(self) -> None:
        self._next += 1
        text = f"{self._next}. What does the parser do with an empty line, and why?"
        await call(self._client, "append_turn", conversation_id="small", role="user", content=text)

    def report(self, name: str) -> None:
        print(
            f"  {name:22}",
            *(f"{n:8} {_row(times)}" for n, times in (("health", self.health), ("append", self.appends))),
        )


def _row(times: list[float]) -> str:
    times = sorted(times)
    at = lambda share: times[min(len(times) - 1, int(len(times) * share))]  # noqa: E731
    return f"n {len(times):4}  p50 {at(0.5):7.1f}  p99 {at(0.99):8.1f}  max {times[-1]:8.1f} ms"


def cpu_seconds(process: psutil.Process) -> float:
    found = 0.0
    for one in [process, *process.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            found += one.cpu_times().user + one.cpu_times().system
    return found


async def at_rest(process: psutil.Process) -> None:
    """Waits until the service has indexed what it has stored: until it takes next to no processor time."""
    while True:
        before = cpu_seconds(process)
        await asyncio.sleep(REST_SECONDS)
        if cpu_seconds(process) - before < REST_SHARE * REST_SECONDS:
            return


async def _run(command: str, src: Path | None, large: int, seconds: float) -> None:
    async with service(command, src) as (client, process):
        others = Others(client)
        await call(client, "append_turn", conversation_id="small", role="user", content="Hello")
        await others.beside(asyncio.sleep(seconds))
        others.report("alone")
        bodies = [{"messages": message_list(i)} for i in range(large)]

        async def lists() -> None:
            for body in bodies:
                (await client.post("/v1/memory", json=body)).raise_for_status()

        async def turns() -> None:
            for i in range(large):
                await call(client, "append_turn", conversation_id=f"l{i}", role="user", content=sample(TURN_BYTES, i))

        for name, work, size in (("4.7 MB /v1/memory", lists, LIST_BYTES), ("10 MB append_turn", turns, TURN_BYTES)):
            before, began = cpu_seconds(process), time.perf_counter()
            await others.beside(work())
            took, used = time.perf_counter() - began, cpu_seconds(process) - before
            others.report(name)
            await at_rest(process)
            in_all, megabytes = cpu_seconds(process) - before, size * large / 1e6
            print(
                f"  {'':22} {took / large:.1f} s each; processor time per MB: {used / megabytes:.2f} s until the "
                f"answers, {in_all / megabytes:.2f} s in all"
            )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench load")
    parser.add_argument("--command", default=sys.executable)
    parser.add_argument("--src", type=Path)
    parser.add_argument("--large", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    options = parser.parse_args(arguments)
    print(f"{options.src or 'this version'}; load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    asyncio.run(_run(options.command, options.src, options.large, options.seconds))
