"""A damaged conversation is named by doctor and verify, and saved by repair."""

from __future__ import annotations

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
