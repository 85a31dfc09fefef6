"""Two writers in every order, connections that are cut, a server that restarts: nothing is lost and nothing doubled."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import psycopg
import pytest

from ctxmem_mcp.errors import HeadMoved, InvalidArgument, StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_stores.postgres import PostgresRecordStore
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest
from ctxmem_mcp.stores.postgres import PostgresStore, commits, database, queries, schema, term_index
from ctxmem_mcp.stores.testing.builders import NOW, extend, new_state
from ctxmem_mcp.stores.testing.fixtures import load
from ctxmem_mcp.team.postgres import PostgresTeam
from ctxmem_mcp.team.records import Right, Token
from ctxmem_mcp.usage_ledger import LedgerEntry
from tests.postgres_server import new_principal, started_server
from tests.stores.samples import memory_over

pytestmark = pytest.mark.anyio

T = TypeVar("T")

WRITER: ContextVar[str] = ContextVar("writer", default="")
# The statements before which a writer stops: it reads, swaps the version, writes the turn, writes the index.
STOPS = (queries.STATE_QUERY, commits.SWAP, commits.ADD_TURNS, term_index.ADD_WAITING)
# A writer that has not come to its next stop by then waits for the other one's transaction.
BLOCKED_SECONDS = 0.05


def orders(steps: int) -> Iterator[str]:
    """Yields every order of the steps of two writers."""
    for places in itertools.combinations(range(2 * steps), steps):
        yield "".join("A" if place in places else "B" for place in range(2 * steps))


class Stepper:
    """Lets a writer go on to its next stop, or to its end."""

    def __init__(self) -> None:
        self._gates = {name: asyncio.Event() for name in "AB"}
        self._arrived = {name: asyncio.Event() for name in "AB"}
        self.is_over = False

    async def stop(self) -> None:
        name = WRITER.get()
        if name and not self.is_over:
            self._arrived[name].set()
            await self._gates[name].wait()
            self._gates[name].clear()

    async def step(self, name: str, writer: asyncio.Task[None]) -> None:
        if writer.done() or not self._arrived[name].is_set():  # it is done, or waits for the other one
            return
        self._arrived[name].clear()
        self._gates[name].set()
        arrival = asyncio.ensure_future(self._arrived[name].wait())
        await asyncio.wait([arrival, writer], timeout=BLOCKED_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        arrival.cancel()

    def finish(self) -> None:
        self.is_over = True
        for gate in self._gates.values():
            gate.set()


async def append(store: PostgresStore, conversation_id: str, name: str) -> None:
    """Appends a turn to the head as a memory does: reads, commits, and starts again if another was faster."""
    WRITER.set(name)
    while True:
        state = await load(store, conversation_id)
        try:
            return await store.commit(extend(state, [f"by {name}"], terms=[["by", name.lower()]]), NOW)
        except HeadMoved:
            continue


async def test_two_writers_in_every_order_of_one_append(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper: Stepper | None = None
    execute = psycopg.AsyncCursor.execute

    async def execute_stopping(self: Any, query: Any, params: Any = None, **options: Any) -> Any:
        if stepper is not None and query in STOPS:
            await stepper.stop()
        return await execute(self, query, params, **options)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", execute_stopping)
    store = PostgresStore(started_server().url, new_principal())
    for order in orders(len(STOPS)):
        await store.commit(extend(new_state(order), ["first"], terms=[["first"]]), NOW)
        stepper = Stepper()
        writers = {name: asyncio.create_task(append(store, order, name)) for name in "AB"}
        for name in order:
            await asyncio.sleep(0)
            await stepper.step(name, writers[name])
        stepper.finish()
        await asyncio.gather(*writers.values())
        stepper = None
        state = await load(store, order)
        assert (state.version, state.turns, len(state.runs)) == (3, 3, 1), order
        assert sorted(turn.content for turn in await store.turns(order, [1, 2, 3])) == ["by A", "by B", "first"], order
        hits = await store.term_hits(order, ["by", "a", "b"], 10)
        assert {term: list(hit.pieces) for term, hit in hits.items()}["by"] == [2, 3], order
        assert await store.check(order) == []
    await store.close()


class Proxy:
    """Forwards to the server's socket, and cuts connections at a commit: before the server gets it, or after.

    A held one is cut before, and the server does not notice.
    """

    def __init__(self) -> None:
        self.cut_before, self.cut_after, self.hold = 0, 0, 0
        self._held: list[asyncio.StreamWriter] = []
        self.port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def run(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        url = started_server().url.partition("?")
        async with server:
            yield url[0].replace("@/", f"@127.0.0.1:{self.port}/")
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)
            for upstream in self._held:
                upstream.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        path = f"{started_server().folder}/data/.s.PGSQL.5432"
        upstream_reader, upstream = await asyncio.open_unix_connection(path)
        is_cut = False

        async def back() -> None:
            while (data := await upstream_reader.read(65_536)) and not is_cut:
                writer.write(data)

        answers = asyncio.create_task(back())
        try:
            while data := await reader.read(65_536):
                if b"COMMIT" in data and self.hold:
                    self.hold -= 1
                    self._held.append(upstream)
                    break
                if b"COMMIT" in data and self.cut_before:
                    self.cut_before -= 1
                    break
                is_cut = b"COMMIT" in data and self.cut_after > 0
                upstream.write(data)
                if is_cut:
                    self.cut_after -= 1
                    await answers  # the server has answered, and nobody hears it
                    break
        except ConnectionError:
            pass
        finally:
            answers.cancel()
            writer.close()
            closing = [answers, writer.wait_closed()]
            if upstream not in self._held:
                upstream.close()
                closing.append(upstream.wait_closed())
            await asyncio.gather(*closing, return_exceptions=True)


async def contents(memory: Memory) -> list[str]:
    return [turn.content for turn in await memory.history("c")]


async def test_a_commit_whose_answer_is_lost_is_stored_once() -> None:
    proxy = Proxy()
    async with proxy.run() as url:
        memory = memory_over(PostgresStore(url, new_principal()), lambda: NOW)
        await memory.append(NewTurn("user", "x"), conversation_id="other")  # creates the tables and the keys
        said = [f"turn {i}" for i in range(12)]
        for i, text in enumerate(said):
            if i in (0, 3, 7):
                proxy.cut_after = 1
            elif i in (1, 5, 9):
                proxy.cut_before = 1
            await memory.append(NewTurn("user", text), conversation_id="c")
            assert (proxy.cut_before, proxy.cut_after) == (0, 0), "it was cut"
        assert await contents(memory) == said
        assert await memory.verify("c") == []
        proxy.cut_after = 1
        receipt = await memory.forget("c", "c")
        assert (receipt.turns, proxy.cut_after) == (12, 0)
        await memory.close()


async def test_a_change_of_the_team_whose_answer_is_lost_is_made_once() -> None:
    proxy = Proxy()
    async with proxy.run() as url:
        team, name = PostgresTeam(url, 2), new_principal()
        await team.is_configured()  # creates the tables

        async def lose(change: Awaitable[T]) -> T:
            proxy.cut_after = 1
            done = await change
            assert proxy.cut_after == 0, "it was cut"
            return done

        token = Token(name.encode(), 1.0, None)
        await lose(team.add_principal(name, token))
        assert await team.principal_of(token.digest, 2.0) == f"token:{name}"
        space = await lose(team.add_space(name, 1.0))
        assert space in await team.spaces()
        assert await lose(team.set_right(name, f"token:{name}", Right.READ))
        await lose(team.replace_tokens(name, Token(b"2" + token.digest, 2.0, None), 2.0))
        assert await lose(team.remove_space(name)) == space
        await lose(team.remove_principal(name, 3.0))
        with pytest.raises(InvalidArgument, match="was removed"):
            await team.add_principal(name, token)
        await team.close()


async def test_usage_whose_answer_is_lost_is_added_once() -> None:
    proxy = Proxy()
    async with proxy.run() as url:
        records, entry = PostgresRecordStore(url, new_principal(), 2), LedgerEntry(7, "c", 1, 10, 2, 5, 90)
        sent = SentRequest("c", 1.0, "t0-1", "t2-3", NO_VIEW, 30, 10, 0, 20)
        assert await records.usage() == []
        for change in (records.add_usage(entry), records.add_sent(sent)):
            proxy.cut_after = 1
            await change
            assert proxy.cut_after == 0, "it was cut"
        assert (list(await records.usage()), list(await records.sent("c"))) == ([entry], [sent])
        await records.close()


async def lose_without_notice(proxy: Proxy, records: PostgresRecordStore) -> None:
    """Adds usage over a connection that is lost before the commit, while the server still waits for the commit."""
    proxy.hold = 1
    try:
        await records.add_usage(LedgerEntry(7, "c", 1, 10, 2, 5, 90))
    finally:
        assert proxy.hold == 0, "it was cut"


async def test_a_transaction_that_the_server_does_not_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    async with proxy.run() as url:
        records = PostgresRecordStore(url, new_principal(), 2)
        assert await records.usage() == []
        monkeypatch.setattr(database, "RETRY_SECONDS", 0.5)
        with pytest.raises(StoreUnavailable, match="it is not known whether"):
            await asyncio.wait_for(lose_without_notice(proxy, records), 60)
        await records.close()


async def test_the_server_ends_a_transaction_whose_client_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "IDLE_TRANSACTION_SECONDS", 0.3)
    proxy = Proxy()
    async with proxy.run() as url:
        records = PostgresRecordStore(url, new_principal(), 2)
        assert await records.usage() == []
        await asyncio.wait_for(lose_without_notice(proxy, records), 60)
        assert await records.usage() == [LedgerEntry(7, "c", 1, 10, 2, 5, 90)]
        await records.close()


async def test_appends_go_on_while_connections_are_terminated_and_the_server_restarts() -> None:
    server, principal = started_server(), new_principal()
    memory = memory_over(PostgresStore(server.url, principal), lambda: NOW)
    said = [f"turn {i}" for i in range(40)]

    def terminate() -> None:
        with server.connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ctxmem_test'")

    parent: str | None = None
    for i, text in enumerate(said):
        disturbance = None
        if i % 4 == 3:  # while the turn is appended; the server restarts once
            disturbance = asyncio.create_task(asyncio.to_thread(server.restart if i == 23 else terminate))
        while True:
            try:
                turn = NewTurn("user", text)
                parent = (await memory.append(turn, conversation_id="c", parent_id=parent)).turn_id
                break
            except StoreUnavailable:
                continue  # refused: the caller sends it again
        if disturbance is not None:
            await disturbance
    assert await contents(memory) == said
    assert await memory.verify("c") == []
    assert (await memory.info("c")).turns == len(said)
    await memory.close()


async def test_a_database_of_an_earlier_version_is_migrated(monkeypatch: pytest.MonkeyPatch) -> None:
    url = started_server().create_database()
    with monkeypatch.context() as earlier:
        earlier.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        earlier.setattr(schema, "FORMAT", 1)
        store = PostgresStore(url)
        await memory_over(store, lambda: NOW).append(NewTurn("user", "before"), conversation_id="c")
        await store.close()
    team = PostgresTeam(url, 1)
    assert not await team.is_configured()
    store = PostgresStore(url)
    assert (await memory_over(store, lambda: NOW).head("c")).content == "before"
    await store.close()
    await team.close()
