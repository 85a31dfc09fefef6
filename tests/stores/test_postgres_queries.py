"""Every statement of the PostgreSQL store reads rows of its conversation only, and sees no other principal's.

Every statement of its team store that a request executes reads by an index.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

import psycopg
import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Summary
from ctxmem_mcp.record_files import SESSIONS
from ctxmem_mcp.record_stores.postgres import PostgresRecordStore
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest
from ctxmem_mcp.stores.postgres import (
    PostgresStore,
    catalog,
    changes,
    check,
    commits,
    model_calls,
    queries,
    record_tables,
    removal,
    schema,
    term_index,
    tombstone_table,
)
from ctxmem_mcp.stores.records import KEPT, Commit, ModelCall, SpendLimits
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, new_state
from ctxmem_mcp.stores.tombstones import TombstoneRecords
from ctxmem_mcp.team import postgres as team_postgres
from ctxmem_mcp.team.postgres import PostgresTeam
from ctxmem_mcp.team.records import AuditLine, Right, Token
from ctxmem_mcp.usage_ledger import LedgerEntry
from tests.postgres_server import ROLE, PostgresServer, started_server
from tests.stores.samples import memory_over, sample_turns, sweep

pytestmark = pytest.mark.anyio

PRINCIPAL, ROWS = "ours", 100_000
TEAM_ROWS = 10_000
LIMITS = SpendLimits(tokens_per_day=10_000, tokens_per_conversation=5_000, lost_after_seconds=60)
MODULES = (catalog, changes, check, commits, model_calls, queries, record_tables, removal, term_index, tombstone_table)
VERBS = ("SELECT", "INSERT", "UPDATE", "DELETE", "(SELECT", "WITH")
# Read whole: it has a row per principal.
SHARED = {"principals"}
# Tables of which a principal's rows are read together. Many rows of one principal are many reads there.
OF_PRINCIPALS = (
    "conversations", "listings", "extra", "roots", "tombstones", "spending", "keys", "waiting", *record_tables.NAMES,
)  # fmt: skip
TEAM_TABLES = ("team_principals", "team_tokens", "team_spaces", "team_rights", "team_audit")
# Statements of commands, which read a whole table of the team. A request executes none of them.
OF_COMMANDS = {
    team_postgres.PRINCIPALS, team_postgres.TOKENS, team_postgres.SPACES, team_postgres.REMOVE_TOKENS,
    team_postgres.LIMIT_TOKENS, team_postgres.REMOVE_EXPIRED,
}  # fmt: skip
# These read the first rows of a table, or those at an index's end.
LIMITED = {team_postgres.IS_CONFIGURED, team_postgres.TRIM, team_postgres.AUDIT}


def statements_of(module: ModuleType) -> Iterator[str]:
    for name, value in vars(module).items():
        for text in value if isinstance(value, tuple) and name.isupper() else (value,):
            is_named = name.isupper() and not name.startswith("_")
            if is_named and isinstance(text, str) and text.split()[0] in VERBS:
                yield text


async def use_everything(store: PostgresStore, memory: Memory) -> None:
    """Calls every operation that has a statement of its own."""
    await store.set_salt(await store.salt())
    await store.adopt_tombstones(TombstoneRecords(bytes(32), []))
    done = await memory.sync(sample_turns(120), conversation_id="c")
    await memory.append(NewTurn("user", "another way"), conversation_id="c", parent_id=done.turn_ids[50])
    await memory.append(NewTurn("user", "one more"), conversation_id="c")
    await memory.view("c", query="what about the parser?", token_budget=2_000)
    await memory.search("parser")
    (node, *_) = [one for one in await memory.outline("c") if one.id]
    assert node.id is not None
    await memory.add_summary("c", node.id, Summary("agent", "better"))
    await store.pieces("c", [1, 2])
    await store.nodes_over("c", 0, 1)
    await store.branch_roots("c", [(1, 120)])
    await store.vectors("c", [1])
    await store.replace_vectors("c", NOW, b"", {1: b"x"})
    await store.term_counts(["c"], ["parser"])
    await store.vocabulary("c")
    await store.set_extra("c", "agent", b"codex", NOW)
    await store.add_dense_vectors("c", await store.dense_generation("c"), {1: b"x"})
    await store.dense_vectors("c", b"x", [1])
    (closing, *_) = await store.closings("c", 1, 120)
    for digest in (closing[1].digest, (await store.closings("c", 1, 120))[1][1].digest):
        call = await store.begin_call("c", ModelCall(digest, "model:m", NOW, 10, 10), LIMITS, NOW)
        if isinstance(call, ModelCall):
            await store.end_call("c", replace(call, outcome=KEPT if digest == closing[1].digest else ""), None, NOW)
    await store.spent(1)
    await memory.verify("c")
    await memory.conversations()
    await store.unindexed()
    await store.principals()
    redacted = await memory.turn("c", done.turn_ids[3])
    assert await memory.redact("c", [redacted.digest], "2026-01-01")
    await memory.forget("c", "c", turn_id=done.turn_ids[-1])
    await store.find(bytes(16), NOW)
    await commit_in_two_parts(store)


async def use_records(records: PostgresRecordStore) -> None:
    """Calls every operation of a record store that has a statement of its own."""
    session = "session_0123456789abcdef"
    await records.put(SESSIONS, session, {})
    await records.replace(SESSIONS, session, {})
    await records.get(SESSIONS, session)
    await records.all(SESSIONS)
    await records.expired_sessions(NOW)
    await records.add_usage(LedgerEntry(1, "c", 1, 1, 1, 1, 1))
    await records.usage()
    sent = SentRequest("c", NOW, "t0-1", "t0-1", NO_VIEW, 1, 1, 1, 1)
    await records.add_sent(sent)
    await records.adopt(await records.usage("c"), [sent], {SESSIONS: {session: {}}})
    await records.forget(["c"])
    await records.remove(SESSIONS, session)
    async with records.redactions.lock(0):
        order = await records.redactions.add("2026-01-01", {"c": [b"1"]})
        await records.redactions.all()
        await records.redactions.remove(order)


async def use_team(team: PostgresTeam) -> None:
    """Calls every operation of a team store that has a statement of its own."""
    await team.is_configured()
    await team.add_principal("alice", Token(b"1", NOW, None))
    await team.replace_tokens("alice", Token(b"2", 0, None), NOW)
    await team.principal_of(b"2", NOW)
    await team.add_space("web", NOW)
    await team.set_right("web", "token:alice", Right.READ)
    await team.right_in("web", "token:alice")
    await team.spaces_of("token:alice")
    await team.members("web")
    await team.adopt([*await team.principals()][:1], {})
    await team.spaces()
    await team.record(AuditLine(NOW, "token:alice", "read"), 2 * ROWS)
    await team.audit(limit=1)
    await team.set_right("web", "token:alice", None)
    await team.remove_space("web")
    await team.remove_principal("alice", NOW)


async def commit_in_two_parts(store: PostgresStore) -> None:
    """Stores a turn first, and what indexing finds of it later; then looks whether the last commit was stored."""
    whole = extend(new_state("v"), ["one"], terms=[["one"]])
    first = replace(whole, pieces=(), state=replace(whole.state, next_piece=1, unindexed=(1,)))
    await store.commit(first, NOW)
    pieces = [replace(stored, vector=b"v") for stored in whole.pieces]
    second = Commit(replace(whole.state, version=2), pieces=pieces, indexed=whole.turns)
    await store.commit(second, NOW)
    encoded = commits.encode(second, NOW)
    assert not await store._run(lambda connection: commits.was_stored(connection, PRINCIPAL, encoded))


@pytest.fixture(scope="module")
def server() -> PostgresServer:
    return started_server()


@pytest.fixture(scope="module")
def filled(server: PostgresServer) -> str:
    """The URL of a database with ROWS rows of other conversations in every table."""
    url = server.create_database()
    with server.connect(url.split("/")[3].split("?")[0]) as connection:
        connection.execute(f"SET ROLE {ROLE}")
        connection.execute("CREATE SCHEMA ctxmem")
        connection.execute("CREATE TABLE ctxmem.format (version integer NOT NULL)")
        connection.execute(f"INSERT INTO ctxmem.format VALUES ({schema.FORMAT})")
        connection.execute("SET search_path TO ctxmem")
        for script in schema.MIGRATIONS:
            connection.execute(script)
        connection.execute("RESET ROLE")
        connection.execute("SET search_path TO ctxmem")
        others = ("tombstones", "spending", "keys", *record_tables.NAMES)
        for table in (*schema.CONVERSATION_TABLES, *others, *TEAM_TABLES):
            fill(connection, table)
        connection.execute("ANALYZE")
    return url


def fill(connection: psycopg.Connection[Any], table: str) -> None:
    """Adds ROWS rows, of one other conversation of this principal, or of many other principals; TEAM_ROWS of a team.

    The log and the indexes are left out meanwhile, for that takes a fifth of the time.
    """
    keys = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE conrelid = %s::regclass AND contype IN ('p', 'u')",
        (table,),
    ).fetchall()
    connection.execute(f"ALTER TABLE {table} SET UNLOGGED, {', '.join(f'DROP CONSTRAINT {name}' for name, _ in keys)}")
    found = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'ctxmem' AND tablename = %s"
    indexes = connection.execute(found, (table,)).fetchall()
    for index, _ in indexes:
        connection.execute(f"DROP INDEX {index}")
    connection.execute(filling(connection, table))
    connection.execute(f"ALTER TABLE {table} {', '.join(f'ADD {key}' for _, key in keys)}")
    for _, definition in indexes:
        connection.execute(definition)


def filling(connection: psycopg.Connection[Any], table: str) -> str:
    """The INSERT of the rows."""
    columns = connection.execute(
        "SELECT column_name, data_type, is_identity FROM information_schema.columns "
        "WHERE table_schema = 'ctxmem' AND table_name = %s ORDER BY ordinal_position",
        (table,),
    ).fetchall()
    values = {
        "bigint": "i", "integer": "1", "smallint": "1", "double precision": "i", "bytea": "int8send(i)",
        "text": "'t' || i", "ARRAY": "'{}'",
    }  # fmt: skip
    named = {name: values[kind] for name, kind, identity in columns if identity == "NO"}
    if table in TEAM_TABLES:  # names, as bytes
        return _insert(
            table, {name: v.replace("int8send(i)", "convert_to('t' || i, 'UTF8')") for name, v in named.items()}
        )
    named["principal"] = "'p' || i" if table in OF_PRINCIPALS else f"'{PRINCIPAL}'"
    if "conversation" in named:
        named["conversation"] = "'c'" if table in OF_PRINCIPALS else "'other'"
    return _insert(table, named)


def _insert(table: str, named: Mapping[str, str]) -> str:
    rows = TEAM_ROWS if table in TEAM_TABLES else ROWS
    return (
        f"INSERT INTO {table} ({', '.join(named)}) "
        f"SELECT {', '.join(named.values())} FROM generate_series(1, {rows}) AS i"
    )


@pytest.fixture
async def recorded(filled: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[dict[str, Any]]:
    """The statements that every operation has executed, each with its last parameters."""
    found: dict[str, Any] = {}
    execute = psycopg.AsyncCursor.execute

    async def record(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        found[str(query)] = params
        return await execute(self, query, params, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", record)
    clock = [NOW]
    store = PostgresStore(filled, PRINCIPAL)
    memory = memory_over(store, lambda: clock[0])
    await use_everything(store, memory)
    clock[0] += 31 * DAY
    await memory.append(NewTurn("user", "to be forgotten"), conversation_id="d")
    assert sorted(await sweep(memory)) == ["c", "v"]
    await memory.forget("d", "d")
    records = PostgresRecordStore(filled, PRINCIPAL, 1)
    await use_records(records)
    await records.close()
    team = PostgresTeam(filled, 1)
    await use_team(team)
    await team.close()
    yield found
    await memory.close()


async def test_no_statement_reads_rows_of_other_conversations(filled: str, recorded: dict[str, Any]) -> None:
    ours = {text for module in MODULES for text in statements_of(module)}
    teams = set(statements_of(team_postgres))
    assert len(ours) > 60
    assert len(teams) > 20
    never = (ours | teams) - recorded.keys()
    assert never == set(), "each statement is executed by some operation"
    async with await psycopg.AsyncConnection.connect(filled, autocommit=True) as connection:
        await connection.execute("SET search_path TO ctxmem")
        await connection.execute("SELECT set_config('ctxmem.principal', %s, false)", (PRINCIPAL,))
        for text in sorted(ours | teams - OF_COMMANDS - LIMITED):
            cursor = await connection.execute(f"EXPLAIN (FORMAT JSON) {text}", recorded[text])
            (plan,) = await cursor.fetchone() or ([],)
            shown = f"{text}\n{json.dumps(plan, indent=1)[:3000]}"
            for node in nodes_of(plan[0]["Plan"]):
                if node["Node Type"] == "Seq Scan":
                    assert node["Relation Name"] in SHARED, shown
                elif "Index Name" in node:
                    assert "Index Cond" in node if text in teams else "principal = " in node["Index Cond"], shown


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes_of(child)


async def test_a_query_without_the_principal_sees_nothing(server: PostgresServer) -> None:
    url = server.create_database()
    store = PostgresStore(url, "one")
    memory = memory_over(store, lambda: NOW)
    await memory.sync(sample_turns(60), conversation_id="c")
    await memory.conversations()
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SET search_path TO ctxmem")
        counts = {}
        for principal in (None, "other", "one"):
            if principal is not None:
                await connection.execute("SELECT set_config('ctxmem.principal', %s, false)", (principal,))
            for table in (*schema.CONVERSATION_TABLES, *record_tables.NAMES, "keys"):
                cursor = await connection.execute(f"SELECT count(*) FROM {table}")
                counts[principal, table] = (await cursor.fetchone() or (0,))[0]
        assert {count for (principal, _), count in counts.items() if principal != "one"} == {0}
        assert all(counts["one", table] for table in ("conversations", "turns", "pieces", "nodes", "summaries", "keys"))
        await connection.execute("SELECT set_config('ctxmem.principal', 'other', false)")
        cursor = await connection.execute("UPDATE turns SET tokens = 0")
        assert cursor.rowcount == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("INSERT INTO tombstones VALUES ('one', 1, '')")
    stranger = PostgresStore(url, "other")
    assert await stranger.load("c", NOW) is None
    for opened in (store, stranger):
        await opened.close()


@pytest.mark.parametrize("role", [ROLE, "postgres"])
async def test_a_role_that_no_policy_binds_is_warned_of(
    server: PostgresServer, role: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = PostgresStore(server.create_database().replace(f"{ROLE}@", f"{role}@"))
    await store.load("c", NOW)
    await store.close()
    assert ("BYPASSRLS" in caplog.text) == (role == "postgres")
