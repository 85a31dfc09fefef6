"""What is not a sound file of ours where one is expected: pipes, folders, links, truncated files, disk errors."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ctxmem_mcp.errors import BrokenHistory, StoreUnavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.sqlite.connection import translate_error
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over, sample_turns

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")]


def open_memory(data: Path) -> Memory:
    return memory_over(SqliteStore(data, durability="normal"), lambda: NOW)


async def fill(data: Path, *names: str) -> None:
    memory = open_memory(data)
    for name in names:
        await memory.sync(sample_turns(30, f"the parser of {name}"), conversation_id=name)
    await memory.close()


def path_of(data: Path, name: str) -> Path:
    return data / FOLDER / file_name(name)


async def list_ids(memory: Memory) -> list[str]:
    return [info.conversation_id for info in (await memory.conversations(limit=100)).conversations]


async def test_a_pipe_in_place_of_a_conversation_blocks_nothing(tmp_path: Path) -> None:
    await fill(tmp_path, "ours")
    os.mkfifo(path_of(tmp_path, "pipe"))
    memory = open_memory(tmp_path)
    for attempt in (
        lambda: memory.info("pipe"),
        lambda: memory.append(NewTurn("user", "x"), conversation_id="pipe"),
        lambda: memory.forget("pipe", "pipe"),
    ):
        with pytest.raises(StoreUnavailable, match="not a regular file"):
            await attempt()
    assert await list_ids(memory) == ["ours"]
    assert await memory.sweep() == []
    await memory.close()
    assert path_of(tmp_path, "pipe").is_fifo()


@pytest.mark.parametrize("target", ["inside", "outside", "missing"])
async def test_a_linked_conversation_is_refused_and_nothing_is_removed(tmp_path: Path, target: str) -> None:
    data = tmp_path / "data"
    await fill(data, "ours", "linked")
    path = path_of(data, "linked")
    real = data / FOLDER / "real.bin" if target == "inside" else tmp_path / "real.bin"
    path.rename(real)
    if target == "missing":
        real = tmp_path / "nothing"
    path.symlink_to(real)
    before = real.read_bytes() if real.exists() else b""
    memory = open_memory(data)
    with pytest.raises(StoreUnavailable, match=r"symbolic link to .*Move the file itself"):
        await memory.forget("linked", "linked")
    with pytest.raises(StoreUnavailable, match="symbolic link"):
        await memory.append(NewTurn("user", "x"), conversation_id="linked")
    assert await list_ids(memory) == ["ours"]
    assert await memory.sweep() == []
    await memory.close()
    assert path.is_symlink()
    assert (real.read_bytes() if real.exists() else b"") == before


@pytest.mark.parametrize("length", [0, 1, 15, 50, 71, 99, 100, 600, 4095, 4096, 10_000, -4096, -1])
async def test_a_truncated_conversation_can_be_forgotten_and_started_again(tmp_path: Path, length: int) -> None:
    await fill(tmp_path, "c", "other")
    path = path_of(tmp_path, "c")
    os.truncate(path, length % path.stat().st_size)
    catalog = tmp_path / "catalog.db"
    memory = open_memory(tmp_path)
    await memory.conversations()
    inode = catalog.stat().st_ino
    if 0 <= length <= 4096:
        with pytest.raises(BrokenHistory, match="repair c"):
            await memory.append(NewTurn("user", "x"), conversation_id="c")
    assert (await memory.forget("c", "c")).checked[:1] == [
        f"neither the file {path.name} nor its write-ahead log or another side file exists"
    ]
    assert (await memory.append(NewTurn("user", "x"), conversation_id="c")).index == 0
    assert sorted(await list_ids(memory)) == ["c", "other"]
    assert catalog.stat().st_ino == inode
    await memory.close()


async def test_zeros_in_place_of_a_conversation_can_be_forgotten(tmp_path: Path) -> None:
    await fill(tmp_path, "c")
    path_of(tmp_path, "c").write_bytes(bytes(path_of(tmp_path, "c").stat().st_size))
    memory = open_memory(tmp_path)
    assert (await memory.forget("c", "c")).bytes
    assert (await memory.append(NewTurn("user", "x"), conversation_id="c")).index == 0
    await memory.close()


@pytest.mark.parametrize("kind", ["folder", "pipe"])
async def test_a_folder_or_pipe_in_place_of_the_catalog_is_renamed(
    tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await fill(tmp_path, "c")
    catalog = tmp_path / "catalog.db"
    catalog.unlink()
    if kind == "folder":
        catalog.mkdir()
        (catalog / "notes").write_text("mine")
    else:
        os.mkfifo(catalog)
    memory = open_memory(tmp_path)
    assert await list_ids(memory) == ["c"]
    assert (await memory.forget("c", "c")).turns == 30
    await memory.close()
    assert "catalog.db is not a file" in caplog.text
    assert sum(name.endswith(".aside") for name in os.listdir(tmp_path)) == 1


async def test_a_folder_in_place_of_an_unfinished_file_is_reported(tmp_path: Path) -> None:
    await fill(tmp_path, "other")
    (tmp_path / FOLDER / f"{file_name('c')}.new").mkdir()
    memory = open_memory(tmp_path)
    with pytest.raises(StoreUnavailable, match=r"\.new: "):
        await memory.append(NewTurn("user", "x"), conversation_id="c")
    assert await list_ids(memory) == ["other"]
    await memory.close()


def test_an_io_error_is_not_reported_as_damage() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_IOERR_READ, "SQLITE_IOERR_READ"
    translated = translate_error(error)
    assert isinstance(translated, StoreUnavailable)
    assert "can't be read or written: I/O error" in str(translated)


# ------------------------------------------------------------ a disk that fails

_FAILING_READS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int fails(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    return length > 7 && !strncmp(path + length - 7, ".ctxmem", 7);
}
#define READ(name, parameters, arguments) \
    ssize_t name parameters { \
        static ssize_t (*real) parameters; \
        if (!real) real = (ssize_t (*) parameters) dlsym(RTLD_NEXT, #name); \
        if (fails(file)) { errno = EIO; return -1; } \
        return real arguments; \
    }
READ(read, (int file, void *to, size_t size), (file, to, size))
READ(pread, (int file, void *to, size_t size, off_t at), (file, to, size, at))
READ(pread64, (int file, void *to, size_t size, off64_t at), (file, to, size, at))
"""


@pytest.fixture
def failing_reads(tmp_path: Path) -> dict[str, str]:
    """An environment in which reading a conversation's file fails with EIO."""
    source, library = tmp_path / "reads.c", tmp_path / "reads.so"
    source.write_text(_FAILING_READS, encoding="utf-8")
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("needs Linux and a C compiler")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return {**os.environ, "LD_PRELOAD": str(library)}


def test_a_disk_that_fails_is_reported_as_that_and_not_as_damage(tmp_path: Path, failing_reads: dict[str, str]) -> None:
    data, transcript = tmp_path / "data", tmp_path / "transcript.jsonl"
    transcript.write_text('{"role": "user", "content": "The port is 7412."}\n', encoding="utf-8")
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data)]
    subprocess.run([*command, "import", str(transcript)], check=True, capture_output=True)
    done = subprocess.run([*command, "list", "--json"], check=True, capture_output=True, text=True)
    (listed,) = json.loads(done.stdout)
    before = {path: path.read_bytes() for path in (data / FOLDER).iterdir()}
    for words in (["list"], ["context", listed["conversation_id"]], ["verify", listed["conversation_id"]]):
        done = subprocess.run(
            [*command, *words], capture_output=True, text=True, timeout=60, check=False, env=failing_reads
        )
        if words != ["list"]:  # the catalog has it
            assert done.returncode == 1
            assert re.search("can't be read.*(I/O error|Input/output error)", done.stderr + done.stdout)
        assert "damage" not in done.stderr + done.stdout
        assert "Traceback" not in done.stderr
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("whole", [True, False])
async def test_a_receipt_names_hard_links_of_what_was_forgotten(tmp_path: Path, whole: bool) -> None:
    """They may be anywhere, so the bytes stay; a backup made of links is the user's to delete."""
    memory = memory_over(SqliteStore(tmp_path / "data"), time.time)
    await memory.sync(sample_turns(4), conversation_id="c")
    branch = await memory.sync([*sample_turns(2), NewTurn("user", "other")], conversation_id="c")
    (file,) = (tmp_path / "data" / "conversations").glob("*.ctxmem")
    link = tmp_path / "link"
    link.hardlink_to(file)
    receipt = await memory.forget("c", "c", None if whole else branch.head)
    assert len(receipt.warnings) == 1
    assert f"{file.name} has 1 more hard links" in receipt.warnings[0]
    assert str(link.stat().st_ino) in receipt.warnings[0]
    await memory.sync(sample_turns(3, "another topic"), conversation_id="d")
    assert (await memory.forget("d", "d")).warnings == []
    await memory.close()
