"""Copies a data folder to a database and back: everything arrives, also if it is killed again and again."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import anyio.to_thread
import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import Forgotten, StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.migration import MigrationResult, migrate
from ctxmem_mcp.models import NewTurn, Source, Summary
from ctxmem_mcp.private_files import PRINCIPALS, SALT
from ctxmem_mcp.record_files import EXPIRES, SESSIONS, SPACES
from ctxmem_mcp.record_stores import open_record_store
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import Right, Token
from ctxmem_mcp.team.stores import open_team
from ctxmem_mcp.usage_ledger import FORGOTTEN, LedgerEntry
from tests.postgres_server import started_server
from tests.stores.samples import sample_turns

pytestmark = pytest.mark.anyio

SECOND = "a" * 40


async def fill(settings: Settings) -> None:
    """Stores a forked conversation with a summary, and a long one; forgets one; gives a second principal another."""
    async with open_memory(settings, background=False) as memory:
        done = await memory.sync(sample_turns(80), conversation_id="forked", retention_days=90)
        await memory.append(NewTurn("user", "another"), conversation_id="forked", parent_id=done.turn_ids[40])
        node = next(one.id for one in await memory.outline("forked") if one.id)
        await memory.add_summary("forked", node, Summary("agent", "better"))
        await memory.revert("forked", done.turn_ids[60])
        await memory.set_title("forked", "A title")
        await memory.set_agent("forked", "codex")
        await memory.sync(sample_turns(250, "the trip", sentences=8), conversation_id="long")
        await memory.sync(sample_turns(4, "a secret"), conversation_id="forgotten")
        await memory.forget("forgotten", "forgotten")
    await fill_records(settings)
    team = open_team(settings)
    await team.add_principal("alice", Token(b"digest", 1.0, None))
    await team.set_right((await team.add_space("web", 2.0)).name, "token:alice", Right.READ)
    await team.close()
    folder = settings.data_dir / PRINCIPALS / SECOND
    folder.mkdir(parents=True)
    (folder / SALT).write_bytes(bytes(range(32)))
    async with open_memory(of_second(settings), principal=SECOND, background=False) as memory:
        await memory.sync(sample_turns(6, "their own"), conversation_id="theirs")


async def fill_records(settings: Settings) -> None:
    """Stores a session and a group, and usage and requests of the gateway."""
    records = open_record_store(settings, "")
    await records.put(SESSIONS, "session_0123456789abcdef", {"name": "One", EXPIRES: 9e9})
    await records.put(SPACES, "space_0123456789abcdef", {"name": "All", "default": True})
    for name in ("long", FORGOTTEN):
        await records.add_usage(LedgerEntry(20_000, name, 2, 9_000, 100, 6_000, 50_000))
    await records.add_sent(SentRequest("long", 1.5, "t0-1", "t2-3", NO_VIEW, 30, 10, 0, 20))
    await records.close()


async def records_of(settings: Settings) -> object:
    records = open_record_store(settings, "")
    usage, sent = list(await records.usage()), list(await records.sent("long"))
    found = usage, sent, await records.all(SESSIONS), await records.all(SPACES)
    assert all(found)
    await records.close()
    return found


def of_second(settings: Settings) -> Settings:
    return Settings(settings.data_dir / PRINCIPALS / SECOND, store_url=settings.store_url)


async def contents(settings: Settings) -> object:
    async with open_memory(settings, background=False) as memory:
        first = [await _contents(memory, name) for name in ("forked", "long")]
        with pytest.raises(Forgotten):
            await memory.sync(sample_turns(4, "a secret"), conversation_id="forgotten", source=Source.TRANSCRIPT)
    async with open_memory(of_second(settings), principal=SECOND, background=False) as memory:
        return [*first, await _contents(memory, "theirs")]


async def _contents(memory: Memory, name: str) -> object:
    await memory.index_all()
    (info,) = [one for one in await memory.all_conversations() if one.conversation_id == name]
    branches = [await memory.history(name, turn_id=tip.id) for tip in await memory.branches(name)]
    views = [await memory.view(name, query=query, token_budget=2_000) for query in (None, "word5 about the parser")]
    assert await memory.verify(name) == []
    return info.title, info.agent, info.head, info.expires_at, branches, views, await memory.outline(name)


@dataclass(frozen=True)
class Filled:
    """A filled data folder, which no test changes, and what is in it."""

    settings: Settings
    contents: object


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    settings = Settings(tmp_path_factory.mktemp("filled") / "files")
    asyncio.run(fill(settings))
    return Filled(settings, asyncio.run(contents(settings)))


async def team_of(settings: Settings) -> object:
    team = open_team(settings)
    found = await team.principals(), await team.spaces(), await team.members("web")
    await team.close()
    return found


async def run(source: Settings, target: Settings) -> MigrationResult:
    return await migrate(source, target, lambda _: None)


async def test_everything_is_copied_to_a_database_and_back(filled: Filled, tmp_path: Path) -> None:
    database = Settings(tmp_path / "none", store_url=started_server().create_database())
    back = Settings(tmp_path / "back")
    for source, target in ((filled.settings, database), (database, back)):
        done = await run(source, target)
        assert (sorted(done.copied), done.failed) == (sorted(["forked", "long", f"{SECOND}/theirs"]), {})
        again = await run(source, target)
        assert (again.copied, len(again.present), again.failed) == ([], 3, {})
        assert await contents(target) == filled.contents
        assert await team_of(target) == await team_of(filled.settings)
        assert await records_of(target) == await records_of(filled.settings)
    assert (back.data_dir / PRINCIPALS / SECOND / SALT).read_bytes() == bytes(range(32))


async def test_a_conversation_that_went_on_in_the_target_is_left_alone(tmp_path: Path) -> None:
    source, target = Settings(tmp_path / "a"), Settings(tmp_path / "b")
    async with open_memory(source, background=False) as memory:
        await memory.sync(sample_turns(6), conversation_id="c")
    assert (await run(source, target)).copied == ["c"]
    async with open_memory(target, background=False) as memory:
        await memory.append(NewTurn("user", "more"), conversation_id="c")
    done = await run(source, target)
    assert "TARGET: has another conversation 'c'" in done.failed["c"]
    async with open_memory(target, background=False) as memory:
        assert (await memory.head("c")).content == "more"


@pytest.fixture(params=["files", "postgres"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = started_server().create_database() if request.param == "postgres" else None
    return Settings(tmp_path / "source", store_url=url)


async def test_a_redaction_that_a_killed_process_left_is_finished_before_the_copy(
    source: Settings, tmp_path: Path
) -> None:
    target = Settings(tmp_path / "target")
    async with open_memory(source, background=False) as memory:
        await memory.sync([NewTurn("user", "the password is hunter2"), NewTurn("user", "more")], conversation_id="c")
        (found,) = await memory.find_matches(re.compile("hunter2"))
    records = open_record_store(source, "")
    await records.redactions.add("2026-01-01", {"c": [found.turn.digest]})
    async with records.redactions.lock(1):
        with pytest.raises(StoreUnavailable, match="redaction that is not finished"):
            await run(source, target)
    assert (await run(source, target)).copied == ["c"]
    assert list(await records.redactions.all()) == []
    await records.close()
    async with open_memory(target, background=False) as memory:
        assert [turn.is_redacted for turn in await memory.history("c")] == [True, False]
        assert await memory.find_matches(re.compile("hunter2")) == []


async def test_another_migration_brings_back_nothing_that_the_target_has_forgotten(
    source: Settings, tmp_path: Path
) -> None:
    target, name = Settings(tmp_path / "target"), "session_0123456789abcdef"
    async with open_memory(source, background=False) as memory:
        for one in (name, "again"):
            await memory.sync(sample_turns(4), conversation_id=one)
        await memory.forget("again", "again")
        await memory.sync(sample_turns(4, "something else"), conversation_id="again")
    old = open_record_store(source, "")
    await old.put(SESSIONS, name, {"name": "One", EXPIRES: 9e9})
    for one in (name, "again"):
        await old.add_usage(LedgerEntry(20_000, one, 2, 9_000, 100, 6_000, 50_000))
        await old.add_sent(SentRequest(one, 1.5, "t0-1", "t2-3", NO_VIEW, 30, 10, 0, 20))
    await old.close()
    assert sorted((await run(source, target)).copied) == ["again", name]
    new = open_record_store(target, "")
    async with open_memory(target, background=False) as memory:
        await memory.forget(name, name)
    for _ in range(2):
        done = await run(source, target)
        assert (done.copied, done.present, list(done.failed)) == ([], ["again"], [name])
        assert "TARGET: has forgotten" in done.failed[name]
        assert await new.all(SESSIONS) == []
        assert [len(await new.sent(one)) for one in (name, "again")] == [0, 1]
        assert [(one.conversation_id, one.requests) for one in await new.usage()] == [(FORGOTTEN, 2), ("again", 2)]
    await new.close()


async def test_a_migration_that_is_killed_goes_on(filled: Filled, tmp_path: Path) -> None:
    url = started_server().create_database()
    environ = {**os.environ, "CTXMEM_DATA_DIR": str(filled.settings.data_dir)}
    environ.pop("CTXMEM_STORE_URL", None)
    await anyio.to_thread.run_sync(kill_and_finish, url, environ)
    assert await contents(Settings(tmp_path / "none", store_url=url)) == filled.contents


def kill_and_finish(url: str, environ: dict[str, str]) -> None:
    """Kills the command three times, later each time, and then lets it finish."""
    command = [sys.executable, "-m", "ctxmem_mcp", "migrate"]
    start = time.monotonic()
    subprocess.run([*command, started_server().create_database()], env=environ, check=True)
    whole = time.monotonic() - start
    for share in (0.4, 0.7, 0.85):
        process = subprocess.Popen([*command, url], env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(whole * share)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    done = subprocess.run([*command, url], env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
