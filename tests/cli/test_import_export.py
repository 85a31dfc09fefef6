"""A conversation exported to a file and imported elsewhere is the same."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.test_commands import EXAMPLE, Ran, imported, run

__all__ = ["imported", "run"]


@pytest.fixture
def elsewhere(tmp_path: Path, run: Callable[..., Ran]) -> Callable[..., Ran]:
    """The same commands, on another data folder."""

    def command(*words: str) -> Ran:
        return run("--data-dir", str(tmp_path / "elsewhere"), *words)

    return command


def branches(ran: Callable[..., Ran], conversation: str) -> dict[str, object]:
    (info,) = ran("list", "--json").json
    assert info["conversation_id"] == conversation
    return {key: info[key] for key in ("head", "turns", "tokens", "branches", "title", "retention_days")}


def branch_off(run: Callable[..., Ran], folder: Path, turns: int, words: str) -> None:
    """Adds a branch: the example's first turns, then other words."""
    lines = EXAMPLE.read_text("utf-8").splitlines()
    other = folder / "other.jsonl"
    other.write_text("\n".join([*lines[:turns], json.dumps({"role": "user", "content": words})]), "utf-8")
    run("import", str(other))


def test_an_imported_conversation_equals_the_exported_one(
    run: Callable[..., Ran], elsewhere: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    branch_off(run, tmp_path, 30, "Something else")
    run("retention", imported, "77")
    file = tmp_path / "session.ctxmem"
    sent = run("export", imported, str(file), "--json").json
    assert (sent["turns"], sent["new"]) == (64, 64)
    there = elsewhere("import", str(file), "--json").json[0]
    assert (there["conversation_id"], there["new"]) == (imported, 64)
    assert branches(elsewhere, imported) == branches(run, imported)
    assert elsewhere("verify", "--json").json == {imported: []}
    question = ("What errors did we encounter?", "--budget", "2500")
    assert elsewhere("context", "last", *question).out == run("context", "last", *question).out
    again = elsewhere("import", str(file), "--json").json[0]
    assert (again["new"], again["known"]) == (0, 64)


def test_an_import_moves_the_head_unless_the_conversation_went_on_since(
    run: Callable[..., Ran], elsewhere: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    branch_off(run, tmp_path, 30, "Something else")
    further = run("revert", imported, "t25", "--json").json["head"]
    nearer = run("revert", imported, "t20", "--json").json["head"]
    file, later = tmp_path / "session.ctxmem", tmp_path / "later.ctxmem"
    run("export", imported, str(file))
    elsewhere("import", str(file))
    assert branches(elsewhere, imported) == branches(run, imported)
    elsewhere("revert", imported, further)
    elsewhere("import", str(file))
    assert branches(elsewhere, imported)["head"] == further
    branch_off(run, tmp_path, 28, "A third way")
    run("revert", imported, nearer)
    run("export", imported, str(later))
    assert elsewhere("import", str(later), "--json").json[0]["new"] == 1
    assert branches(elsewhere, imported)["head"] == further


def test_one_branch_is_forgotten_and_is_not_imported_again(
    run: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    before = branches(run, imported)
    branch_off(run, tmp_path, 30, "Something else")
    branch = branches(run, imported)["head"]
    receipt = run("forget", imported, "--turn", str(branch), "--yes", "--json").json
    assert (receipt["turns"], receipt["other_branches"]) == (1, 0)
    assert branches(run, imported) == before
    again = run("import", str(tmp_path / "other.jsonl"), "--json").json[0]
    assert (again["new"], again["warnings"]) == (0, ["a branch that was forgotten was left out"])
    assert branches(run, imported) == before
    assert run("import", str(tmp_path / "other.jsonl"), "--again", "--json").json[0]["new"] == 1
    assert "branches besides the head's: 1" in run("forget", imported, "--yes").out


def test_an_existing_file_is_not_overwritten_without_force(
    run: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    file = tmp_path / "session.ctxmem"
    file.write_text("mine", "utf-8")
    refused = run("export", imported, str(file))
    assert (refused.code, file.read_text("utf-8")) == (1, "mine")
    assert run("export", imported, str(file), "--force").code == 0
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("ctxmem-")] == []


def test_a_broken_file_is_refused(run: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "broken.ctxmem"
    file.write_bytes(b"SQLite format 3\x00 but no more")
    done = run("import", str(file))
    assert done.code == 1
    assert run("list", "--json").json == []


DAMAGE = {
    "words": "UPDATE turns SET codec = 0, body = 'other words' WHERE seq = 7",
    "bytes": "UPDATE turns SET codec = 1, body = x'00ff' WHERE seq = 7",
    "a turn": "DELETE FROM turns WHERE seq = 5",
    "a role": "UPDATE turns SET role = 99 WHERE seq = 3",
    "an id": "UPDATE turns SET digest = zeroblob(16) WHERE seq = 7",
    "a field": "UPDATE turns SET codec = 'x' WHERE seq = 7",
    "a circle": "UPDATE runs SET parent_seq = first_seq",
    "no beginning": "UPDATE runs SET first_seq = 2, parent_seq = 1 WHERE first_seq = 1",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_nothing_of_a_damaged_file_is_imported(
    damage: str, run: Callable[..., Ran], elsewhere: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    file = tmp_path / "session.ctxmem"
    run("export", imported, str(file))
    with closing(sqlite3.connect(file)) as db, db:
        db.execute(DAMAGE[damage])
    refused = elsewhere("import", str(file))
    assert (refused.code, elsewhere("list", "--json").json) == (1, [])
    assert "damaged" in refused.err
    assert "Traceback" not in refused.err
