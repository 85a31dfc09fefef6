"""64 agents on one service, or on two: no error, none starved; memory and open files return to where they were."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import psutil  # type: ignore[import-untyped]
import pytest

from tests.http_api.mcp_calls import call_tool
from tests.http_api.service_process import served
from tests.postgres_server import started_server
from tests.stores.writer_process import ROOT

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors of a process")]

AGENTS = 64
HEALTH_P99_MS = 100
# An agent that is served as the others are makes at least this share of the calls that an agent in the middle makes.
FAIR_SHARE = 0.7
# By how much /health (its median) and memory may exceed those of a short run's first seconds, slowed by the same load.
HEALTH_RATIO_MAX, RSS_RATIO_MAX = 5, 1.3
# What caches of limited size may add after the first minute. A turn or a view that stayed would be more.
GROWTH_BYTES_MAX = 32_000_000
SETTLED_SECONDS_MAX = 120
CALLS_MIN = 2
WORDS = Path(__file__).read_text("utf-8").split()


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


@dataclass
class Usage:
    """What a service and its workers hold."""

    rss: int
    files: int

    @classmethod
    def of(cls, processes: list[psutil.Process]) -> Usage:
        everyone = [one for process in processes for one in (process, *process.children(recursive=True))]
        return cls(sum(one.memory_info().rss for one in everyone), sum(process.num_fds() for process in processes))


@dataclass
class Agent:
    """Works on a conversation of its own, at a pace: mostly appends, and every few turns a view or a search."""

    client: httpx2.AsyncClient
    number: int
    pause: float
    milliseconds: list[float] = field(default_factory=list)
    turns: int = 0

    async def work(self, until: float) -> None:
        randomly = random.Random(self.number)
        while time.monotonic() < until or len(self.milliseconds) < CALLS_MIN:
            call = self._next(randomly)
            began = time.perf_counter()
            await call()
            self.milliseconds.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(randomly.uniform(0.8, 1.2) * self.pause)  # alike, so that counts show who is served

    def _next(self, randomly: random.Random) -> Callable[[], Awaitable[Any]]:
        mine = {"conversation_id": f"agent-{self.number}"}
        query = " ".join(randomly.choices(WORDS, k=4))
        dice = randomly.random() if self.turns else 0
        if dice < 0.75:
            role = ("user", "assistant")[self.turns % 2]
            content = f"{self.turns} " + " ".join(randomly.choices(WORDS, k=int(randomly.lognormvariate(4.5, 1))))
            self.turns += 1
            return lambda: call_tool(self.client, "append_turn", **mine, role=role, content=content)
        if dice < 0.9:
            return lambda: call_tool(self.client, "get_context", **mine, query=query, token_budget=4_000)
        if dice < 0.97:
            return lambda: call_tool(self.client, "search_turns", **mine, query=query)
        return lambda: call_tool(self.client, "list_conversations")


@contextmanager
def health_probes(bases: list[str]) -> Iterator[list[float]]:
    """Measures /health of each service inside the block; afterwards the list has the milliseconds of each request."""
    found: list[float] = []
    with ExitStack() as stack:
        each = [stack.enter_context(health_probe(base)) for base in bases]
        yield found
    found.extend(itertools.chain(*each))


@contextmanager
def health_probe(base: str) -> Iterator[list[float]]:
    """Measures /health inside the block; afterwards the list has the milliseconds of each request."""
    host, _, port = base.removeprefix("http://").partition(":")
    command = [sys.executable, "-m", "tests.http_api.health_probe", host, port]
    found: list[float] = []
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield found
            found.extend(json.loads(process.communicate("\n", timeout=60)[0]))
        finally:
            process.kill()


async def settled(processes: list[psutil.Process], limit: Usage | None = None) -> Usage:
    """Waits until the services rest, and hold no more than `limit`. Returns what they hold."""
    end = time.monotonic() + SETTLED_SECONDS_MAX
    while True:
        before = cpu_seconds(processes)
        await asyncio.sleep(1)
        usage = Usage.of(processes)
        rests = cpu_seconds(processes) - before < 0.05 * len(processes)
        if (rests and (limit is None or usage.files <= limit.files)) or time.monotonic() > end:
            return usage


def cpu_seconds(processes: list[psutil.Process]) -> float:
    return float(sum(sum(process.cpu_times()[:2]) for process in processes))


def process_of(base: str) -> psutil.Process:
    """Returns the process that listens at a URL."""
    port = int(base.rpartition(":")[2])
    return next(p for p in psutil.Process().children() if any(c.laddr.port == port for c in p.net_connections()))


async def run_agents(
    data: Path, seconds: float, pause: float, is_long: bool = False, databases: Sequence[str] = ("",)
) -> str:
    """Runs the agents on services of their own. Returns the figures.

    Args:
        data: The services' folders are below it.
        seconds: How long they work. Before that they work for a fifth of it, at most a minute, to fill the caches.
        pause: The mean time, in seconds, between an agent's calls.
        is_long: Check memory and /health against fixed limits. In a short run caches still fill, and one busy moment of
            the machine counts: it is compared with its own first seconds.
        databases: The database of each service; empty for files.
    """
    with ExitStack() as stack:
        bases = [
            stack.enter_context(served(data / str(number), **({"store_url": url} if url else {})))
            for number, url in enumerate(databases)
        ]
        processes = [process_of(base) for base in bases]
        with health_probes(bases) as health_before:
            await work(bases, min(60, seconds / 5), pause)
        before = await settled(processes)
        with health_probes(bases) as health:
            agents = await work(bases, seconds, pause)
        after = await settled(processes, before)
    calls = [ms for agent in agents for ms in agent.milliseconds]
    counts = sorted(len(agent.milliseconds) for agent in agents)
    medians = sorted(statistics.median(agent.milliseconds) for agent in agents)
    figures = (
        f"{AGENTS} agents, {len(bases)} services, {seconds:.0f} s, {len(calls):,} calls ({counts[0]} to {counts[-1]}): "
        f"p50 {percentile(calls, 0.5):.0f} ms, p99 {percentile(calls, 0.99):.0f} ms, medians {medians[0]:.0f} to "
        f"{medians[-1]:.0f} ms; /health {len(health):,} times, p50 {percentile(health, 0.5):.1f} ms, p99 "
        f"{percentile(health, 0.99):.0f} ms, max {max(health):.0f} ms; RSS {before.rss / 1e6:.0f} -> "
        f"{after.rss / 1e6:.0f} MB, files {before.files} -> {after.files}; load {os.getloadavg()[0]:.0f}"
    )
    assert counts[0] >= int(FAIR_SHARE * statistics.median(counts)), figures
    assert after.files <= before.files, figures
    if is_long:
        assert after.rss <= before.rss + GROWTH_BYTES_MAX, figures
        assert percentile(health, 0.99) <= HEALTH_P99_MS, figures
    else:
        assert after.rss <= before.rss * RSS_RATIO_MAX, figures
        assert statistics.median(health) <= statistics.median(health_before) * HEALTH_RATIO_MAX, figures
    return figures


async def work(bases: list[str], seconds: float, pause: float) -> list[Agent]:
    limits = httpx2.Limits(max_connections=AGENTS)
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=base, timeout=100, limits=limits))
            for base in bases
        ]
        agents = [Agent(clients[number % len(clients)], number, pause) for number in range(AGENTS)]
        until = time.monotonic() + seconds
        await asyncio.gather(*(agent.work(until) for agent in agents))
    return agents


@pytest.mark.faults
async def test_many_agents_are_served_alike(tmp_path: Path) -> None:
    sys.stdout.write(await run_agents(tmp_path / "data", seconds=20, pause=2))


@pytest.mark.faults
async def test_many_agents_are_served_alike_by_two_services(tmp_path: Path) -> None:
    url = started_server().create_database()
    sys.stdout.write(await run_agents(tmp_path / "data", seconds=20, pause=2, databases=(url, url)))


@pytest.mark.soak
@pytest.mark.timeout(2_000)
@pytest.mark.parametrize("services", [1, 2])
async def test_many_agents_are_served_alike_for_ten_minutes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], services: int
) -> None:
    databases = (started_server().create_database(),) * 2 if services == 2 else ("",)
    figures = await run_agents(tmp_path / "data", seconds=600, pause=2, is_long=True, databases=databases)
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
