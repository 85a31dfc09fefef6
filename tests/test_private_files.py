"""Modes of files and folders: only their owner reads what is stored, whatever the umask is."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ctxmem_mcp import private_files, record_files, usage_ledger
from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.sync_state import SyncRecord, SyncRecords
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.folders import load_or_create_salt

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")]


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes_under(folder: Path) -> dict[str, int]:
    return {str(path): stat.S_IMODE(path.lstat().st_mode) for path in (folder, *folder.rglob("*"))}


def assert_private(folder: Path) -> None:
    found = modes_under(folder)
    assert found == {path: 0o700 if Path(path).is_dir() else 0o600 for path in found}


async def store_everything(data: Path) -> None:
    """Leaves a file of every kind in the data folder."""
    async with open_memory(Settings(data_dir=data)) as memory:
        await memory.append(NewTurn("user", "The port is 7412."), conversation_id="c")
        await memory.conversations()
        spool.put(str(data), "cursor", b"{}")
        SyncRecords(data).put(data / "transcript.jsonl", SyncRecord(size=1))
        record_files.RecordFiles(data, record_files.SESSIONS).put(record_files.new_id("session"), {})
        usage_ledger.add(data, usage_ledger.LedgerEntry(1, "c", 1, 1, 1, 1, 1))
        load_or_create_salt(data)
        assert any(name.endswith("-wal") for name in os.listdir(data / "conversations"))
        assert_private(data)


async def test_files_are_0600_and_folders_0700_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    await store_everything(tmp_path / "above" / "data")
    assert_private(tmp_path / "above")


async def test_other_modes_are_corrected_and_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = tmp_path / "data"
    await store_everything(data)
    for path in (data, *data.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for _ in range(2):
        async with open_memory(Settings(data_dir=data)) as memory:
            await memory.conversations()
        assert_private(data)
    assert caplog.text.count(f"folders in {data} private") == 1


def test_a_folder_that_holds_other_things_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "catalog.db").touch()
    (tmp_path / "notes.txt").write_text("mine")
    before = (stat.S_IMODE((tmp_path / "notes.txt").stat().st_mode), 0o755)
    tmp_path.chmod(0o755)
    private_files.correct_modes(tmp_path)
    assert tuple(stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "notes.txt", tmp_path)) == before


def test_reading_a_pipe_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(OSError, match="not a regular file"):
            private_files.read_file(path)
