"""Worker processes: turns between computations, cancellation, death, and what can't be sent to one."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import time
from collections.abc import AsyncIterator
from dataclasses import fields
from pathlib import Path

import pytest

from ctxmem_mcp import progress
from ctxmem_mcp.errors import InvalidArgument, StoreUnavailable
from ctxmem_mcp.models import Highlight, NewTurn, Node, Summary, Turn
from ctxmem_mcp.stores.records import Closing
from ctxmem_mcp.worker_pool import MeasuredSteps, Steps, WorkerPool

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    pool = WorkerPool()
    yield pool
    pool.close()


def process_id() -> Steps[int]:
    yield
    return os.getpid()


def count_until(file: str) -> Steps[int]:
    """Takes steps of a millisecond until the file exists; each adds a byte to a file beside it."""
    steps = 0
    while not os.path.exists(file):
        with open(f"{file}.steps", "ab") as progress:
            progress.write(b".")
        time.sleep(0.001)
        steps += 1
        yield
    return steps


def measured() -> MeasuredSteps[str]:
    yield from (0.001, 0.25, 0.5, 0.501, 1.0)
    return "done"


def die_once(file: str) -> Steps[str]:
    yield
    if not os.path.exists(file):
        Path(file).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "second try"


def die() -> Steps[None]:
    yield
    os._exit(1)


def refuse() -> Steps[None]:
    yield
    raise InvalidArgument("messages", "are refused", "Send others.")


def wait_for_progress(file: Path) -> None:
    while not file.exists() or not file.stat().st_size:
        time.sleep(0.005)


async def test_computations_take_turns(pool: WorkerPool, tmp_path: Path) -> None:
    ends = tmp_path / "ends"
    endless = [asyncio.create_task(pool.run(count_until, str(ends))) for _ in range(4)]  # more than there are workers
    await asyncio.to_thread(wait_for_progress, tmp_path / "ends.steps")
    assert await pool.run(process_id) != os.getpid()
    assert not any(task.done() for task in endless)
    ends.touch()
    await asyncio.gather(*endless)


async def test_a_cancelled_computation_ends(pool: WorkerPool, tmp_path: Path) -> None:
    ends, progress = tmp_path / "ends", tmp_path / "ends.steps"
    endless = asyncio.create_task(pool.run(count_until, str(ends)))
    await asyncio.to_thread(wait_for_progress, progress)
    endless.cancel()
    with pytest.raises(asyncio.CancelledError):
        await endless
    while True:
        size = progress.stat().st_size
        await pool.run(process_id)  # takes two turns
        await asyncio.sleep(0.05)
        if progress.stat().st_size == size:
            break


async def test_a_computation_is_restarted_if_its_process_dies(pool: WorkerPool, tmp_path: Path) -> None:
    assert await pool.run(die_once, str(tmp_path / "died")) == "second try"


async def test_a_computation_that_kills_its_process_twice_is_given_up(pool: WorkerPool) -> None:
    with pytest.raises(StoreUnavailable, match="died twice"):
        await pool.run(die)
    assert await pool.run(process_id)


async def test_errors_come_back_as_they_were_raised(pool: WorkerPool) -> None:
    with pytest.raises(InvalidArgument, match="are refused"):
        await pool.run(refuse)


async def test_a_thread_computes_what_cannot_be_pickled(pool: WorkerPool) -> None:
    def local() -> Steps[int]:
        yield
        return os.getpid()

    assert await pool.run(local) == os.getpid()


async def test_the_caller_gets_the_progress_in_steps_of_a_percent(pool: WorkerPool) -> None:
    shares: list[float] = []
    with progress.listen(shares.append):
        assert await pool.run(measured) == "done"
    assert shares == [0.25, 0.5, 1.0]
    assert await pool.run(measured) == "done"
    assert len(shares) == 3


async def test_values_are_pickled_as_their_class_and_fields() -> None:
    turn = Turn(1, 0, b"d", "user", "hi", None, None, None, 1)
    summary = Summary("extractive", "Title", (Highlight("fact", 0, "user", "hi"),), ("a",), "more")
    node = Node(b"n", 0, 0, 0, 1, 2)
    for value in (turn, NewTurn("user", "hi", "Ann"), summary, node, Closing(node, 1, summary)):
        assert pickle.loads(pickle.dumps(value, pickle.HIGHEST_PROTOCOL)) == value
        read = tuple(getattr(value, field.name) for field in fields(value))
        assert value.__reduce__() == (type(value), read)
