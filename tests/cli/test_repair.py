"""A damaged conversation is named by doctor and verify, and saved by repair."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.test_commands import Ran, imported, run

__all__ = ["imported", "run"]

DAMAGE = {
    "a turn": ("UPDATE turns SET body = x'00ff' WHERE seq = 7", 1),
    "the state": ("UPDATE conversation SET head = 3", 0),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_conversation_is_saved(
    run: Callable[..., Ran], imported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    before = run("show", imported, "--json").out
    (path,) = (tmp_path / "data" / "conversations").glob("*.ctxmem")
    statement, lost = DAMAGE[damage]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute(statement)
    named = run("verify", imported) if damage == "a turn" else run("doctor")
    assert named.code == 1
    assert "does not match its checksum" in named.out
    done = run("repair", imported)
    assert done.code == (1 if lost else 0)
    assert done.out.startswith(f"{63 - lost} turns of {imported} saved.")
    assert ("lost: t6-" in done.out) == bool(lost)
    assert ".ctxmem.damaged-" in done.out
    verified = run("verify", imported)
    assert verified.code == 0
    assert (" ok\n  warning: t6-" in verified.out) == bool(lost)
    assert (": lost, repaired on 20" in verified.out) == bool(lost)
    if not lost:
        assert run("show", imported, "--json").out == before
        assert "is damaged" not in run("doctor").out


def damage_frontier(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE conversation SET frontier = '{}'")


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


UNREADABLE: dict[str, Callable[[Path], None]] = {
    "a frontier": damage_frontier,
    "a folder": replace_by_folder,
    "a pipe": replace_by_pipe,
    "an empty file": lambda path: os.truncate(path, 0),
    "a short file": lambda path: os.truncate(path, 5_000),
}


def import_other(run: Callable[..., Ran], tmp_path: Path) -> str:
    (tmp_path / "other.jsonl").write_text('{"role": "user", "content": "The port is 7412."}\n', "utf-8")
    return str(run("import", str(tmp_path / "other.jsonl"), "--json").json[0]["conversation_id"])


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
@pytest.mark.parametrize("kind", UNREADABLE)
def test_verify_and_doctor_report_a_file_that_cannot_be_read(
    run: Callable[..., Ran], imported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (path,) = (tmp_path / "data" / "conversations").glob("*.ctxmem")
    other = import_other(run, tmp_path)
    UNREADABLE[kind](path)
    verified = run("verify")
    assert verified.code == 1
    assert f"{other}: ok" in verified.out
    assert f"{path}:\n  " in verified.out
    assert "2 conversations verified, 1 with problems." in verified.out
    checked = run("doctor")
    assert checked.code == 1
    assert imported in checked.out


@pytest.mark.parametrize("name", ["notes.ctxmem", "notes.txt", "copy.ctxmem"])
def test_list_and_doctor_name_a_file_that_is_not_ours_once(
    run: Callable[..., Ran], imported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (path,) = (tmp_path / "data" / "conversations").glob("*.ctxmem")
    other = path.with_name(name)
    other.write_bytes(path.read_bytes() if name == "copy.ctxmem" else b"My notes\n" * 50)
    checked = run("doctor")
    assert (checked.code, checked.out.count(str(other))) == (1, 1)
    assert ("Rename it." if name == "copy.ctxmem" else "Move it out of the data directory.") in checked.out
    for command in (["list"], ["search", "token"], ["show", imported]):
        done = run(*command)
        assert (done.code, done.err.count(str(other))) == (0, int(name.endswith(".ctxmem") and command[0] != "show"))


@pytest.mark.parametrize("length", [0, 5_000])
def test_a_truncated_conversation_is_moved_aside_or_forgotten(
    run: Callable[..., Ran], tmp_path: Path, length: int
) -> None:
    row = {"type": "user", "uuid": "u", "sessionId": "s1", "message": {"role": "user", "content": "Fix the parser."}}
    transcript = tmp_path / "s1.jsonl"
    transcript.write_text(json.dumps(row) + "\n", "utf-8")
    imported = run("import", str(transcript), "--json").json[0]["conversation_id"]
    (path,) = (tmp_path / "data" / "conversations").glob("*.ctxmem")
    import_other(run, tmp_path)
    os.truncate(path, length)
    before = path.read_bytes()
    repaired = run("repair", imported)
    assert repaired.code == 1, (repaired, list(path.parent.iterdir()))
    assert "The damaged file is kept as" in repaired.out, repaired
    (aside,) = path.parent.glob("*.damaged-????????-??????")
    assert aside.read_bytes() == before
    assert str(aside) in repaired.out
    receipt = run("forget", imported, "--yes", "--json").json
    assert (receipt["turns"], receipt["bytes"]) == (0, length)
    assert not aside.exists()
    assert run("forget", imported, "--yes").code == 1
    refused = run("import", str(transcript), "--json")
    assert refused.code == 1
    assert "forgotten" in refused.err
    assert run("import", "--again", str(transcript), "--json").json[0]["new"] == 1
    os.truncate(path, length)
    assert run("repair", imported).code == 1
    assert run("import", str(transcript), "--json").json[0]["new"] == 1
    os.truncate(path, length)
    receipt = run("forget", imported, "--yes", "--json").json
    assert any("was unreadable" in warning for warning in receipt["warnings"])
    assert len(list(path.parent.iterdir())) == 1
