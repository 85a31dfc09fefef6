"""The folder behind SSH, with a command `ssh` that runs its commands on this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxmem_mcp.errors import InvalidArgument, StoreUnavailable
from ctxmem_mcp.machine_sync.remote import FolderRemote, Remote, SshRemote, open_remote
from tests.cli.test_commands import Ran, imported, run

__all__ = ["imported", "run"]

SSH = """#!/bin/sh
while [ "$1" != "--" ]; do shift; done
shift
[ "$1" = "unreachable" ] && exit 255
shift
cd "$HOME_THERE" && exec sh -c "$*"
"""


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder on the other machine."""
    command, home = tmp_path / "bin" / "ssh", tmp_path / "home there"
    command.parent.mkdir()
    home.mkdir()
    command.write_text(SSH)
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME_THERE", str(home))
    return home


@pytest.mark.parametrize("kind", ["folder", "ssh"])
def test_files_are_written_read_and_removed(tmp_path: Path, there: Path, kind: str) -> None:
    folder = tmp_path / "a folder; it's"
    remote: Remote = FolderRemote(folder) if kind == "folder" else SshRemote("host", str(folder))
    assert remote.list_names() == set()
    assert remote.create("key", b"1")
    assert not remote.create("key", b"2"), "somebody else was faster"
    remote.write({"a.machine": b"\0\n" * 70_000, "b.conversation": b""})
    remote.write({"a.machine": b"new"})
    (folder / "Notes.txt").write_text("not ours")
    assert remote.list_names() == {"key", "a.machine", "b.conversation"}
    assert remote.read(["key", "a.machine", "gone"]) == {"key": b"1", "a.machine": b"new"}
    assert remote.read(["gone"]) == {}
    remote.remove(["a.machine", "gone"])
    remote.remove([])
    assert remote.list_names() == {"key", "b.conversation"}
    assert (folder / "Notes.txt").exists()


@pytest.mark.parametrize(
    "target", ["ssh://", "ssh://host", "ssh://host/", "ssh://-oProxyCommand=x/dir", "ssh://h:x/dir"]
)
def test_a_malformed_address_is_refused(target: str) -> None:
    with pytest.raises(InvalidArgument, match="ssh://HOST/DIR"):
        open_remote(target)


def test_a_host_that_is_not_reached_is_named(there: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unreachable"):
        open_remote("ssh://unreachable/dir").list_names()


def test_two_machines_sync_through_ssh(
    run: Callable[..., Ran], imported: str, there: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CTXMEM_PASSPHRASE", "correct horse")
    target, other = "ssh://ada@host:2222/~/shared", ("--data-dir", str(tmp_path / "other"))
    assert "sent 1 conversation" in run("sync", target, "--encrypt").out
    assert "received 63 turns" in run(*other, "sync", target).out
    run(*other, "redact", imported, "t5", "--yes")
    run(*other, "sync", target)
    shown = run("sync", target)
    assert (shown.code, "redacted 1 turn" in shown.out) == (0, True)
    assert "[redacted 20" in run("expand", imported, "t5").out
    assert run("verify", imported).code == 0
    assert run(*other, "sync", target, "--json").json["unchanged"] == 1
    assert all(file.read_bytes().startswith(b"age-encryption.org") for file in (there / "shared").iterdir())


def test_a_folder_in_the_data_folder_is_refused(run: Callable[..., Ran], imported: str, tmp_path: Path) -> None:
    assert "in the data folder" in run("sync", str(tmp_path / "data" / "shared")).err
