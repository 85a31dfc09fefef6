"""Real sessions, replayed through the hook command while their files grow: in the end every turn of the file is stored
once, in order, byte for byte."""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path

import pytest

from ctxmem_mcp.capture import spool, spool_worker
from ctxmem_mcp.transcripts import codex
from tests.capture.agents import (
    COMMAND,
    REAL,
    Agent,
    drain_spool,
    environment,
    fields_of,
    lines_of,
    load_turns,
    run,
    steps,
)

pytestmark = pytest.mark.anyio
EVENTS = 8


def real_sessions(eval_dir: Path, patterns: tuple[str, ...] = REAL) -> list[Path]:
    folder = eval_dir / "transcripts" / "claude-code"
    found = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    assert len(found) >= len(patterns)
    return found


def agent_of(real: Path, place: Path) -> Agent:
    """An agent whose file is named for its session."""
    lines = lines_of(real)
    session = Agent(place, real, lines).read().session_id
    (place / "projects").mkdir(parents=True)
    return Agent(place / "data", place / "projects" / f"{session}.jsonl", lines)


async def test_real_sessions_are_stored_as_in_their_files(
    eval_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On a busy machine seconds pass between an event and its drain.
    monkeypatch.setattr(spool_worker, "TRANSCRIPT_LAG_SECONDS", 600)
    rng = random.Random(5)
    for number, real in enumerate(real_sessions(eval_dir)):
        agent = agent_of(real, tmp_path / str(number))
        events = steps(agent.lines)
        kept = sorted(rng.sample(range(len(events)), min(len(events), EVENTS)))
        for i in kept:
            after, name, said = events[i]
            agent.write(after, torn=rng.randrange(0, 200))
            assert agent.hook(name, **said).returncode == 0
            if rng.random() < 0.5:
                await drain_spool(agent.data)
        agent.write(len(agent.lines))
        assert agent.hook("SessionEnd").returncode == 0
        await drain_spool(agent.data)
        assert spool.pending(str(agent.data)) == []
        whole = agent.read()
        turns, branches = await load_turns(agent.data, whole.session_id)
        assert fields_of(turns) == fields_of(whole.turns), real.name
        assert branches == 1 + len(whole.abandoned_branches)


async def test_a_real_codex_session_is_stored_as_in_its_file(eval_dir: Path, tmp_path: Path) -> None:
    real = min((eval_dir / "transcripts" / "codex" / "localpush").glob("*.jsonl"), key=lambda file: file.stat().st_size)
    lines, whole = lines_of(real), codex.parse(real.read_text("utf-8"), real.name)
    agent = Agent(tmp_path / "data", tmp_path / real.name, lines)
    event = {"session_id": whole.session_id, "transcript_path": str(agent.file), "hook_event_name": "PostToolUse"}
    for until in range(4, len(lines), 7):
        agent.write(until)
        run(agent.data, "hook", "codex", given=json.dumps(event).encode())
        assert (await drain_spool(agent.data)).pending == 1
    agent.write(len(lines))
    await drain_spool(agent.data, wait=True)
    turns, branches = await load_turns(agent.data, whole.session_id)
    assert (fields_of(turns), branches) == (fields_of(whole.turns), 1)
    assert spool.pending(str(agent.data)) == []


async def test_drains_killed_at_any_instant_store_each_turn_once(eval_dir: Path, tmp_path: Path) -> None:
    (real,) = real_sessions(eval_dir, ("spotter/4d5611e5*.jsonl",))
    agent, rng = agent_of(real, tmp_path), random.Random(11)
    events = steps(agent.lines)
    for i in range(0, len(events), len(events) // 9):
        after, name, said = events[i]
        agent.write(after)
        agent.hook(name, **said)
        drain_and_kill(agent.data, rng.uniform(0.1, 0.7))
    agent.write(len(agent.lines))
    agent.hook("SessionEnd")
    await drain_spool(agent.data)
    whole = agent.read()
    turns, branches = await load_turns(agent.data, whole.session_id)
    assert fields_of(turns) == fields_of(whole.turns)
    assert branches == 1


async def test_events_are_stored_once_though_drains_are_killed(
    tmp_path: Path,
) -> None:
    data, rng, words = tmp_path / "data", random.Random(3), ["yes"] * 25 + [f"w{i}" for i in range(25)]
    for i, word in enumerate(words):
        event = f'{{"conversation_id": "c", "hook_event_name": "beforeSubmitPrompt", "prompt": "{word}"}}'
        spool.put(str(data), "cursor", event.encode())
        if i % 5 == 0:
            drain_and_kill(data, rng.uniform(0.2, 0.6))
    await drain_spool(data)
    assert [turn.content for turn in (await load_turns(data, "c"))[0]] == words
    assert spool.pending(str(data)) == []


def drain_and_kill(data: Path, seconds: float) -> None:
    """Runs a drain and kills it with SIGKILL after this time."""
    drainer = subprocess.Popen(
        [*COMMAND, "list"], env=environment(data), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        drainer.wait(seconds)
    except subprocess.TimeoutExpired:
        drainer.kill()
        drainer.wait()
