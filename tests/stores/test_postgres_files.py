"""What PostgreSQL's files hold of a conversation after it was forgotten, redacted, or has expired.

Deleted rows stay in the tables' pages until VACUUM FULL writes the tables anew, as docs/postgresql.md says.
"""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_stores.postgres import PostgresRecordStore
from ctxmem_mcp.stores.postgres import PostgresStore
from ctxmem_mcp.stores.testing.builders import DAY, NOW
from ctxmem_mcp.usage_ledger import LedgerEntry
from tests.postgres_server import PostgresServer, started_server
from tests.stores.samples import memory_over, sweep

pytestmark = pytest.mark.anyio

SECRETS = {name: f"vandrubel{name}" for name in ("forgotten", "redacted", "expired", "stays")}


def database_of(url: str) -> str:
    return url.split("/")[3].split("?")[0]


def files_with(server: PostgresServer, url: str, word: str) -> list[Path]:
    """Returns the database's files that contain a word, after all pages were written."""
    with server.connect(database_of(url)) as connection:
        connection.execute("CHECKPOINT")
        row = connection.execute("SELECT oid FROM pg_database WHERE datname = current_database()").fetchone()
    assert row is not None
    files = (server.folder / "data" / "base" / str(row[0])).iterdir()
    return [path for path in files if word.encode() in path.read_bytes()]


async def test_after_vacuum_full_no_file_of_the_database_holds_what_was_removed() -> None:
    server = started_server()
    url = server.create_database()
    now = [NOW]
    store, records = PostgresStore(url, "p"), PostgresRecordStore(url, "p", 2)
    memory = memory_over(store, lambda: now[0])
    for name, secret in SECRETS.items():
        turn = NewTurn("user", f"the word is {secret}")
        await memory.append(turn, conversation_id=name, retention_days=1 if name == "expired" else 365)
        await memory.set_title(name, f"about {secret}")
    await records.add_usage(LedgerEntry(7, SECRETS["forgotten"], 1, 1, 1, 1, 1))
    for secret in SECRETS.values():
        assert files_with(server, url, secret), "it is not compressed, so the search finds it"
    receipt = await memory.forget("forgotten", "forgotten")
    assert "VACUUM" in receipt.checked[0]
    await records.forget([SECRETS["forgotten"]])
    await memory.redact("redacted", [(await memory.turn("redacted", "t0")).digest], "2026-01-01")
    await memory.set_title("redacted", "about nothing")
    now[0] += 2 * DAY
    assert await sweep(memory) == ["expired"]
    await memory.close()
    await records.close()
    with psycopg.connect(url, autocommit=True) as connection:  # as the tables' owner, who needs no further right
        connection.execute("VACUUM (FULL)")
    found = {name for name, secret in SECRETS.items() if files_with(server, url, secret)}
    assert found == {"stays"}
