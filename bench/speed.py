"""python -m bench speed [--sizes 1000,10000,100000] [--quick]

Measures start, append, view, import, memory and disk usage through MCP stdio, as an agent uses it, beside a bare SDK
server with an echo tool and a bare durable SQLite insert, in the same run. Machines are noisy: read the ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil
from mcp import Client, StdioServerParameters

from bench import synthetic
from ctxmem_mcp.models import NewTurn

OURS = [sys.executable, "-m", "ctxmem_mcp"]
ECHO = [sys.executable, "-m", "bench.echo_server"]
INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "bench", "version": "0"}},
}  # fmt: skip


def p(values: Sequence[float], share: float) -> float:
    """Returns a percentile; share: 0..1."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


@dataclasses.dataclass(frozen=True)
class Start:
    """What a process took until it responded to `initialize` and `tools/list`. ms is that of `initialize` alone."""

    ms: float
    cpu_ms: float
    resident_mb: float


def start(command: list[str], data_dir: str, **environment: str) -> Start:
    """Starts a server, measures it, and ends it."""
    began = time.perf_counter()
    process = psutil.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        env={**os.environ, "CTXMEM_DATA_DIR": data_dir, **environment},
    )  # fmt: skip
    process.stdin.write(json.dumps(INITIALIZE).encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    ms = (time.perf_counter() - began) * 1000
    for message in ({"method": "notifications/initialized"}, {"id": 2, "method": "tools/list"}):
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    cpu, resident = process.cpu_times(), process.memory_info().rss
    process.stdin.close()
    process.wait()
    return Start(ms, (cpu.user + cpu.system) * 1000, resident / 2**20)


@contextlib.asynccontextmanager
async def connected(command: list[str], data_dir: str) -> AsyncIterator[tuple[Client, psutil.Process]]:
    environment = {**os.environ, "CTXMEM_DATA_DIR": data_dir}
    before = {child.pid for child in psutil.Process().children()}
    async with Client(StdioServerParameters(command=command[0], args=command[1:], env=environment)) as client:
        (child,) = [c for c in psutil.Process().children() if c.pid not in before]
        yield client, child


async def timed(times: int, call: Callable[[int], Any]) -> list[float]:
    took = []
    for i in range(times):
        started = time.perf_counter()
        result = await call(i)
        took.append((time.perf_counter() - started) * 1000)
        if result.is_error:
            raise RuntimeError(result.content[0].text)
    return took


def fields(turn: NewTurn) -> dict[str, Any]:
    """Returns the arguments of `append_turn` for a turn."""
    return {name: value for name, value in dataclasses.asdict(turn).items() if value is not None}


def bare_inserts(texts: Sequence[str], folder: str) -> list[float]:
    db = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE turns(id INTEGER PRIMARY KEY, content TEXT)")
    took = []
    for text in texts:
        started = time.perf_counter()
        db.execute("INSERT INTO turns(content) VALUES (?)", (text,))
        took.append((time.perf_counter() - started) * 1000)
    db.close()
    return took


async def stored(size: int, folder: str) -> tuple[float, int]:
    """Imports `size` turns as the command does. Returns turns per second and the bytes of text."""
    from ctxmem_mcp.composition import open_memory
    from ctxmem_mcp.settings import Settings

    history = list(synthetic.turns(size))
    started = time.perf_counter()
    async with open_memory(Settings.load({"data_dir": folder})) as memory:
        head = None
        for i in range(0, size, 1000):
            done = await memory.sync(history[i : i + 1000], conversation_id="bench", after=head)
            head = done.head
    return size / (time.perf_counter() - started), sum(len(t.content.encode()) for t in history)


def on_disk(folder: str) -> int:
    return sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())


async def appends(size: int, folder: str, times: int) -> None:
    """Measures appends and both baselines, alternating, so that they are subject to the same noise."""
    turns = list(synthetic.turns(20 + times, seed=3))
    ours: list[float] = []
    echoed: list[float] = []
    bare: list[float] = []
    with tempfile.TemporaryDirectory() as other:
        async with connected(OURS, folder) as (client, _), connected(ECHO, other) as (echo, _):

            async def append(i: int) -> Any:
                return await client.call_tool("append_turn", {"conversation_id": "bench", **fields(turns[i])})

            async def call(i: int) -> Any:
                return await echo.call_tool("echo", {"role": turns[i].role, "content": turns[i].content})

            await timed(20, append)
            await timed(20, call)
            step = max(1, times // 10)
            for a in range(20, 20 + times, step):
                ours += await timed(step, lambda i, a=a: append(a + i))
                echoed += await timed(step, lambda i, a=a: call(a + i))
                with tempfile.TemporaryDirectory(dir=folder) as bare_folder:
                    bare += bare_inserts([turn.content for turn in turns[a : a + step]], bare_folder)
    floor = p(echoed, 0.5) + p(bare, 0.5)
    print(
        f"append at {size:>7,}: p50 {p(ours, 0.5):.2f} p95 {p(ours, 0.95):.2f} p99 {p(ours, 0.99):.2f} ms; "
        f"echo {p(echoed, 0.5):.2f} + bare insert {p(bare, 0.5):.2f} = {floor:.2f}; "
        f"ratio {p(ours, 0.5) / floor:.2f} (target <= 1.30)"
    )


async def views(size: int, folder: str, times: int) -> None:
    queries = synthetic.questions(times, size)
    async with connected(OURS, folder) as (client, _):

        async def view(i: int) -> Any:
            return await client.call_tool(
                "get_context", {"conversation_id": "bench", "query": queries[i % len(queries)], "token_budget": 8000}
            )

        await timed(3, view)
        took = await timed(times, view)
    target = 30 if size <= 1000 else 60
    print(
        f"get_context(8000, query) at {size:>7,}: p50 {p(took, 0.5):.1f} "
        f"p95 {p(took, 0.95):.1f} ms (target p95 <= {target})"
    )


async def resident() -> None:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        turns = list(synthetic.turns(1_000, seed=5))
        async with connected(OURS, folder) as (client, ours), connected(ECHO, other) as (echo, bare):
            for i, turn in enumerate(turns):
                await client.call_tool("append_turn", {"conversation_id": "m", **fields(turn)})
                await echo.call_tool("echo", {"role": turn.role, "content": turn.content})
                if i % 10 == 9:
                    await client.call_tool("get_context", {"conversation_id": "m", "query": turn.content[:80]})
            mine, floor = ours.memory_info().rss / 2**20, bare.memory_info().rss / 2**20
    print(
        f"resident after 1,000 appends and 100 views: {mine:.0f} MB; bare SDK server {floor:.0f} MB; "
        f"ratio {mine / floor:.2f} (target <= 1.60)"
    )


def starts(runs: int, before: str | None = None) -> None:
    """before: a folder with the source code of another version to measure, too."""
    sides: dict[str, list[Start]] = {"ours": [], "bare SDK server": []}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(runs):
            sides["ours"].append(start(OURS, folder))
            sides["bare SDK server"].append(start(ECHO, folder))
            if before:
                sides.setdefault("the version before", []).append(start(OURS, folder, PYTHONPATH=before))
    medians = {
        name: Start(*(statistics.median(values) for values in zip(*map(dataclasses.astuple, side[1:]), strict=True)))
        for name, side in sides.items()
    }
    bare = medians["bare SDK server"]
    for name, side in medians.items():
        print(
            f"start of {name}: initialize after {side.ms:.0f} ms; after tools/list {side.cpu_ms:.0f} ms of CPU, "
            f"{side.resident_mb:.0f} MB; ratio {side.ms / bare.ms:.2f}, of CPU {side.cpu_ms / bare.cpu_ms:.2f}"
        )
    print("  (targets for ours: ratio <= 0.30, <= 50 MB)")


async def run(sizes: Sequence[int], times: int, runs: int, before: str | None) -> None:
    starts(runs, before)
    await resident()
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            rate, text = await stored(size, folder)
            used = on_disk(folder)
            print(
                f"import of {size:>7,} turns: {rate:,.0f} turns/s (target >= 3,000); "
                f"{used / text:.2f} bytes on disk per byte of text (target <= 1.0)"
            )
            gc.collect()
            await views(size, folder, times // 2)
            await appends(size, folder, times)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench speed", description=__doc__)
    parser.add_argument("--sizes", default="1000,10000,100000")
    parser.add_argument("--quick", action="store_true", help="run fewer repetitions")
    parser.add_argument("--start", action="store_true", help="measure only the start")
    parser.add_argument("--before", metavar="DIR", help="the source folder of another version, to measure its start")
    options = parser.parse_args(arguments)
    times, runs = (100, 5) if options.quick else (400, 12)
    if options.start:
        starts(runs, options.before)
        return
    anyio.run(run, [int(size) for size in options.sizes.split(",")], times, runs, options.before)
