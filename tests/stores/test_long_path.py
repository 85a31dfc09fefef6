"""A data folder whose path is longer than SQLite opens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite.connection import PATH_BYTES_MAX
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from tests.stores.samples import memory_over

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name != "posix", reason="SQLite's limit on POSIX systems")]


def folder_of_length(within: Path, length: int) -> Path:
    path = str(within)
    while len(path) < length - 60:
        path += "/" + "d" * 50
    return Path(path + "/" + "e" * (length - len(path) - 1))


# The catalog's path is the data folder's and 11 bytes; that of a conversation's file is longer.
@pytest.mark.parametrize("length", [PATH_BYTES_MAX - 30, PATH_BYTES_MAX - 10, PATH_BYTES_MAX + 200])
async def test_a_path_beyond_sqlites_limit_names_the_limit_and_the_setting(tmp_path: Path, length: int) -> None:
    memory = memory_over(SqliteStore(folder_of_length(tmp_path, length)), lambda: 1_800_000_000.0)
    with pytest.raises(
        StoreUnavailable, match=rf"has \d+ bytes.*up to {PATH_BYTES_MAX}.*CTXMEM_DATA_DIR or --data-dir"
    ):
        await memory.append(NewTurn("user", "hello"), conversation_id="a" * 60)
    await memory.close()


async def test_a_path_within_sqlites_limit_is_used(tmp_path: Path) -> None:
    memory = memory_over(SqliteStore(folder_of_length(tmp_path, PATH_BYTES_MAX - 90)), lambda: 1_800_000_000.0)
    await memory.append(NewTurn("user", "hello"), conversation_id="a" * 60)
    assert [turn.content for turn in await memory.history("a" * 60)] == ["hello"]
    await memory.close()
