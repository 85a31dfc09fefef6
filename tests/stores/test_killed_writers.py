"""Writers killed with SIGKILL at random instants: what was acknowledged is stored, and what is stored is whole."""

from __future__ import annotations

import os
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.stores.killed_writer import Acknowledged, Writers, digest_of, writers
from tests.stores.locations import new_location, open_store

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="fork and SIGKILL of POSIX")]

WRITERS = 3
KINDS = ("sqlite", "postgres")
# A conversation is written to in so many rounds and then checked; its first writers are killed while they create it.
ROUNDS_PER_CONVERSATION = 10
# A writer is killed at a random instant of so many seconds after its start, or after it was acknowledged so many calls.
KILLED_WITHIN, CALLS_MAX = 0.03, 8


@dataclass
class Figures:
    """What a run did."""

    rounds: int = 0
    kills: int = 0
    acknowledged: int = 0
    unacknowledged: int = 0

    def __str__(self) -> str:
        return (
            f"{self.rounds:,} rounds, {self.kills:,} kills, {self.acknowledged:,} acknowledged turns, all stored; "
            f"{self.unacknowledged:,} stored and not acknowledged"
        )


@dataclass
class Log:
    """The killer's own log of one conversation: the calls that were acknowledged, and how often it killed."""

    calls: list[Acknowledged] = field(default_factory=list)
    kills: int = 0

    def kill_round(self, server: Writers, conversation_id: str, author: str, randomly: random.Random) -> None:
        """Starts some writers of one conversation and kills each at an instant of its own."""
        started = [server.start(conversation_id, f"{author}-{i}") for i in range(WRITERS)]
        for writer in started:
            if randomly.random() < 0.5:  # an instant of its start otherwise
                writer.wait_for(randomly.randrange(1, CALLS_MAX))
            time.sleep(randomly.uniform(0, KILLED_WITHIN))
            self.calls += writer.kill()
            self.kills += 1


async def check(location: str, conversation_id: str, log: Log) -> int:
    """Checks that no acknowledged turn is missing and none is torn or doubled. Returns how many others are stored."""
    store = open_store(location)
    memory = Memory(store, ExtractiveSummarizer())
    try:
        stored = await turns_of(store, conversation_id)
        acknowledged = {turn_id: digest for call in log.calls for turn_id, digest in call.items()}
        missing = {turn_id for turn_id, digest in acknowledged.items() if digest_of(stored.get(turn_id, "")) != digest}
        assert not missing, (conversation_id, missing)
        assert len(set(stored.values())) == len(stored), "a turn is stored twice"
        others = {text.partition(".")[0] for turn_id, text in stored.items() if turn_id not in acknowledged}
        assert len(others) <= log.kills, "a writer has one call in progress when it is killed"
        if stored:
            assert await memory.verify(conversation_id) == []
    finally:
        await memory.close()
    return len(stored) - len(acknowledged)


async def turns_of(store: Store, conversation_id: str) -> dict[str, str]:
    """Returns the ids and texts of all turns on all branches."""
    state = await store.load(conversation_id, time.time())
    if state is None:
        return {}
    found = await store.turns(conversation_id, range(1, state.next_seq))
    assert len({turn.id for turn in found}) == len(found) == state.turns
    return {turn.id: turn.content for turn in found}


async def run_rounds(location: str, folder: Path, rounds: int, seed: int) -> Figures:
    """Runs so many rounds.

    Args:
        location: Where the store is.
        folder: Where the pipes of the writers are made.
        rounds: How many rounds.
        seed: Names the writers and the instants.
    """
    randomly, figures = random.Random(seed), Figures()
    with writers(location, folder) as server:
        for first in range(0, rounds, ROUNDS_PER_CONVERSATION):
            conversation_id, log = f"c{first}", Log()
            for number in range(first, min(first + ROUNDS_PER_CONVERSATION, rounds)):
                log.kill_round(server, conversation_id, f"{seed}-{number}", randomly)
                figures.rounds += 1
            figures.unacknowledged += await check(location, conversation_id, log)
            figures.acknowledged += sum(map(len, log.calls))
            figures.kills += log.kills
    return figures


async def test_writers_killed_at_any_instant_lose_nothing(tmp_path: Path) -> None:
    figures = await run_rounds(str(tmp_path / "data"), tmp_path, 6, seed=1)
    assert figures.acknowledged > 6


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
async def test_writers_killed_in_twenty_rounds_lose_nothing(tmp_path: Path, kind: str) -> None:
    figures = await run_rounds(new_location(kind, tmp_path), tmp_path, 20, random.randrange(10**6))
    assert figures.acknowledged > 20, figures


@pytest.mark.soak
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("kind", KINDS)
async def test_writers_killed_in_a_thousand_rounds_lose_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """CTXMEM_KILL_ROUNDS: how many, instead of a thousand."""
    seed, rounds = random.randrange(10**6), int(os.environ.get("CTXMEM_KILL_ROUNDS", "1000"))
    figures = await run_rounds(new_location(kind, tmp_path), tmp_path, rounds, seed)
    with capsys.disabled():
        sys.stdout.write(f"\n{kind}, seed {seed}: {figures}\n")
    assert figures.acknowledged > rounds
