"""`list` and `last` go by when sessions happened, and the list fits a screen."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import DAY
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.cli.test_commands import Ran, run

__all__ = ["run"]

SESSIONS = 18


def row(session: str, text: str, at: str, cwd: str, **more: Any) -> str:
    message = {"role": "user", "content": text}
    fields = {"type": "user", "uuid": f"{session}-{text}", "parentUuid": None, "sessionId": session, "timestamp": at}
    return json.dumps({**fields, "cwd": cwd, "message": message, **more})


@pytest.fixture
def imported(run: Callable[..., Ran], tmp_path: Path) -> str:
    """Sessions of last year, the one that happened last imported first; that one has two sub-agents."""
    for number in reversed(range(SESSIONS)):
        folder = tmp_path / "transcripts" / f"{SESSIONS - number:02d}"
        at, cwd, name = f"2025-03-{number + 1:02d}T10:00:00Z", f"/work/project{number % 3}/src", f"session{number:02d}"
        (folder / name / "subagents").mkdir(parents=True)
        (folder / f"{name}.jsonl").write_text(row(name, f"Please repair pump {number}.", at, cwd) + "\n")
        for agent in ("a1", "a2") if number == SESSIONS - 1 else ():
            rows = row(name, f"Look at valve {agent}.", at, cwd, agentId=agent, isSidechain=True)
            (folder / name / "subagents" / f"agent-{agent}.jsonl").write_text(rows + "\n")
    return run("import", str(tmp_path / "transcripts")).out


def test_list_and_last_go_by_when_a_session_happened(run: Callable[..., Ran], imported: str) -> None:
    sessions = [info for info in run("list", "--json").json if ":" not in info["conversation_id"]]
    assert [info["conversation_id"] for info in sessions] == [f"session{i:02d}" for i in reversed(range(SESSIONS))]
    assert sessions[0]["last_activity"] == "2025-03-18T10:00:00Z"
    assert run("show", "last", "--json").json["conversation_id"] == "session17"
    for info in sessions:  # a year-old session is not swept as soon as it is imported
        assert datetime.fromisoformat(info["expires_at"]) > datetime.now().astimezone()


def test_a_list_fits_a_screen_and_folds_sub_agents(run: Callable[..., Ran], imported: str) -> None:
    short = run("list").out
    assert len(short.splitlines()) <= 20
    assert "(+2 sub-agents) Repair pump 17" in short
    assert "session17:a1" not in short
    assert "3 more: --all" in short
    everything = run("list", "--all").out
    assert "more: --all" not in everything
    assert all(f"session{i:02d}" in everything for i in range(SESSIONS))
    assert "session17:a1" in everything
    assert run("list", "--limit", "2").out.count("session") == 2
    assert len(run("list", "--json").json) == SESSIONS + 2
    assert len(run("list", "--json", "--limit", "2").json) == 2


def test_a_list_of_a_project_a_space_or_an_agent(run: Callable[..., Ran], imported: str) -> None:
    def ids(*options: str) -> set[str]:
        found = {info["conversation_id"] for info in run("list", "--json", *options).json}
        return {one for one in found if ":" not in one}

    third = {f"session{i:02d}" for i in range(1, SESSIONS, 3)}
    assert ids("--project", "/work/project1") == ids("--space", "/work/project1/src") == third
    assert ids("--space", "/work/project1") == ids("--project", "/work/project") == ids("--agent", "codex") == set()
    assert ids("--agent", "claude-code") == ids()
    assert "None of 20 conversations" in run("list", "--agent", "codex").out


def test_an_import_says_how_long_it_is_kept(run: Callable[..., Ran], imported: str, tmp_path: Path) -> None:
    assert "Kept for 30 days" in imported
    assert "--retention-days" in imported
    other = tmp_path / "other.jsonl"
    other.write_text(row("other", "Please repair the roof.", "2025-01-01T10:00:00Z", "/work") + "\n")
    assert "Kept for 90 days" in run("import", str(other), "--retention-days", "90").out


@pytest.mark.anyio
async def test_a_list_under_a_clock_that_is_ahead_says_what_it_hides(run: Callable[..., Ran], tmp_path: Path) -> None:
    """To this clock the conversation has expired, as if it were two days ahead."""
    memory = Memory(
        SqliteStore(tmp_path / "data"), ExtractiveSummarizer(), clock=lambda: time.time() - 2 * DAY, retention_days=1
    )
    await memory.append(NewTurn("user", "Please repair the pump."), conversation_id="c")
    await memory.close()
    listed = await asyncio.to_thread(run, "list")
    assert listed.out == ""
    assert "1 conversation is past its expiry by this machine's clock (20" in listed.err
    assert "deleted nothing" in listed.err
    assert "No conversations yet" not in listed.err
    shown = await asyncio.to_thread(run, "show", "last")
    assert (shown.code, "is past its expiry" in shown.err) == (1, True)
