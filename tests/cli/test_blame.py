"""`blame` on the command line: the edits of a file or a line, and what git knows where no edit has the line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.cli.test_commands import Ran, run

__all__ = ["run"]

OLD, NEW = "2026-02-05T10:00:00Z", "2026-02-07T10:00:00Z"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository with a file that an agent edited twice, committed between the edits by a formatter."""
    folder = tmp_path / "shop"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "token.py").write_text("TTL = (\n    900\n)\nNAME = 'a'\n")
    at = "2026-02-06T10:00:00Z"
    author = {f"GIT_{who}_{what}": value for who in ("AUTHOR", "COMMITTER") for what, value in
              (("NAME", "Ann"), ("EMAIL", "ann@example.org"), ("DATE", at))}  # fmt: skip
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "Format"]):
        subprocess.run(["git", *command], cwd=folder, env={**os.environ, **author}, check=True)
    return folder


def edits(folder: Path) -> list[NewTurn]:
    def edit(old: str, new: str, at: str, call: str) -> NewTurn:
        fields = {"file_path": str(folder / "src" / "token.py"), "old_string": old, "new_string": new}
        return NewTurn("assistant", json.dumps(fields), "Edit", at, call)

    return [
        NewTurn("user", "The audit wants tokens to live fifteen minutes, not an hour.", None, OLD),
        edit("TTL = 3600", "TTL = 900", OLD, "a"),
        NewTurn("user", "Give the shop the short name that the print shop wants.", None, NEW),
        edit("NAME = 'shop'", "NAME = 'a'", NEW, "b"),
    ]


@pytest.fixture
def stored(repository: Path, tmp_path: Path) -> Path:
    async def store() -> None:
        memory = Memory(SqliteStore(tmp_path / "data"), ExtractiveSummarizer())
        await memory.sync(edits(repository), conversation_id="work", space=str(repository))
        await memory.close()

    asyncio.run(store())
    return repository / "src" / "token.py"


def test_a_file_names_its_edits_and_the_talk_newest_first(run: Callable[..., Ran], stored: Path) -> None:
    lines = run("blame", str(stored)).out.splitlines()
    assert [line.split(": ")[1] for line in lines if " user: " in line] == [
        "Give the shop the short name that the print shop wants.",
        "The audit wants tokens to live fifteen minutes, not an hour.",
    ]
    assert [one["new"] for one in run("blame", str(stored), "--json").json] == ["NAME = 'a'", "TTL = 900"]


def test_a_line_names_the_edit_that_wrote_it(run: Callable[..., Ran], stored: Path) -> None:
    assert [one["new"] for one in run("blame", f"{stored}:4", "--json").json] == ["NAME = 'a'"]


def test_a_line_that_no_edit_has_is_looked_up_in_git(run: Callable[..., Ran], stored: Path) -> None:
    """No edit has the formatter's line: the newest edit before its commit is shown, not the later one."""
    assert [one["new"] for one in run("blame", f"{stored}:2", "--json").json] == ["TTL = 900"]


def test_a_file_without_git_and_a_line_that_is_not_there(run: Callable[..., Ran], tmp_path: Path, stored: Path) -> None:
    alone = tmp_path / "alone.py"
    alone.write_text("x = 100\n")
    assert "No agent's edit of it is stored." in run("blame", f"{alone}:1").out + run("blame", f"{alone}:1").err
    refused = run("blame", f"{stored}:9")
    assert refused.code != 0
    assert "LINE: must be from 1 to 4; got 9" in refused.err
