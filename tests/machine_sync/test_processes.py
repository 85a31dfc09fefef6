"""Syncs in processes of their own: beside an agent that goes on writing, and killed at any instant."""

from __future__ import annotations

import random
import subprocess
import sys
from contextlib import suppress

import anyio
import anyio.to_thread
import pytest

from tests.capture.agents import environment
from tests.machine_sync.test_sync import ID, Machine, a, b
from tests.stores.samples import raw_files
from tests.stores.writer_process import ROOT

__all__ = ["a", "b"]

pytestmark = pytest.mark.anyio


def start(one: Machine) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(one.data), "sync", str(one.shared)],
        cwd=ROOT,
        env={**environment(one.data), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


async def test_an_agent_that_writes_during_a_sync_stays_on_its_line(a: Machine, b: Machine) -> None:
    first = await a.say("first")
    await a.sync()
    await b.sync()
    for i in range(30):
        await b.say(f"theirs {i}")
    await b.sync()
    ours = [first, await a.say("ours")]
    with start(a) as process:
        while process.poll() is None:
            ours.append(await a.say(f"ours {len(ours)}"))
            await anyio.sleep(0.05)  # faster than any agent; without a pause nobody else could commit
        assert process.stdout is not None
        assert "received 30 turns" in process.stdout.read()
    ours.append(await a.say("the last"))
    assert [turn.id for turn in await a.memory.history(ID)] == ours
    assert len(await a.memory.branches(ID)) == 2
    assert await a.memory.verify(ID) == []
    await a.sync()
    await b.sync()
    assert await a.turns() == await b.turns()


async def kill_syncs(a: Machine, b: Machine, randomly: random.Random, rounds: int) -> None:
    killed = 0
    for i in range(rounds):
        for one in (a, b):
            await one.say(f"turn {i} of {one.data.name}")
            await one.say(f"quixoplex{i}", f"short {i} {one.data.name}".replace(" ", "-"))
            with start(one) as process:
                with suppress(subprocess.TimeoutExpired):
                    # The first is killed for sure: no process syncs in so little time.
                    await anyio.to_thread.run_sync(process.wait, randomly.uniform(0, 2.5) if killed else 0.02)
                killed += process.poll() is None
                process.kill()
        await a.memory.forget(f"short-{i}-a", f"short-{i}-a")
    for one in (a, b, a, b):
        await one.sync()
    assert killed
    assert await a.turns() == await b.turns()
    assert len((await a.turns())[ID]) == 2 * rounds
    for one in (a, b):
        assert await one.memory.verify(ID) == []
        assert not list(one.data.glob("repair-*"))
        assert {f"short-{i}-a" for i in range(rounds)}.isdisjoint(await one.turns())
    assert len([name for name in raw_files(a.shared) if name.endswith(".conversation")]) == 1 + rounds


async def test_killed_syncs_lose_and_bring_back_nothing(a: Machine, b: Machine) -> None:
    await kill_syncs(a, b, random.Random(5), 2)


@pytest.mark.faults
async def test_many_killed_syncs_lose_and_bring_back_nothing(a: Machine, b: Machine) -> None:
    await kill_syncs(a, b, random.Random(), 40)
