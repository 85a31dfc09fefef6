"""`ctxmem-mcp principals`, `spaces` and `audit`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ctxmem_mcp.private_files import TEAM
from tests.cli.test_commands import EXAMPLE, Ran, run

__all__ = ["run"]

Run = Callable[..., Ran]


def test_a_principal_is_added_listed_rotated_and_removed(run: Run) -> None:
    first = run("principals", "add", "alice", "--expires-days", "9", "--json").json
    assert first["token"].startswith("ctxmem_")
    (listed,) = run("principals", "list", "--json").json
    assert (listed["principal"], len(listed["tokens"]), listed["removed_at"]) == ("alice", 1, None)
    assert listed["tokens"][0]["expires_at"] == first["expires_at"]
    assert first["token"] not in run("principals", "list").out
    second = run("principals", "rotate", "alice", "--keep-hours", "2").out
    assert first["token"] not in second
    assert len(run("principals", "list", "--json").json[0]["tokens"]) == 2
    run("principals", "rotate", "alice")
    assert len(run("principals", "list", "--json").json[0]["tokens"]) == 1
    assert "memory is kept" in run("principals", "remove", "alice").out
    assert "--restore" in run("principals", "add", "alice").err
    assert "ctxmem_" in run("principals", "add", "alice", "--restore").out


def test_a_space_is_added_shared_and_removed(run: Run) -> None:
    run("principals", "add", "alice")
    run("spaces", "add", "web")
    assert "alice may read" in run("spaces", "share", "web", "alice", "--right", "read").out
    run("spaces", "share", "web", "oauth:https://login.example kim", "--right", "manage")
    (listed,) = run("spaces", "list", "--json").json
    assert listed["members"] == {"alice": "read", "oauth:https://login.example kim": "manage"}
    run("spaces", "unshare", "web", "alice")
    assert "alice" not in run("spaces", "list").out
    assert run("spaces", "remove", "web").code == 0
    assert "no shared spaces" in run("spaces", "list").out
    actions = [line["action"] for line in run("audit", "--json").json]
    assert actions == ["add-principal", "add-space", "share", "share", "unshare", "remove-space"]
    assert "local  share  space=web  target=alice read" in run("audit", "--action", "share").out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["principals", "add"], "NAME: is required to add"),
        (["principals", "add", "a b"], "NAME: the name must be"),
        (["principals", "rotate", "nobody"], "No principal 'nobody'"),
        (["spaces", "add", "Web Shop"], "SPACE: must be"),
        (["spaces", "share", "web", "nobody"], "principals add nobody"),
        (["spaces", "share", "web", "token:x", "--right", "own"], "--right: must be one of read, continue, manage"),
        (["spaces", "share", "web", "token:x"], "No space 'web'"),
        (["spaces", "share", "web", "oauth:x"], "oauth:ISSUER SUBJECT"),
        (["audit", "--since", "soon"], "--since: must be ISO 8601"),
        (["backup", "there", "--space", "web"], "No space 'web'"),
        (["backup", "there", "--principal", "nobody"], "Nothing of 'nobody'"),
        (["backup", "there", "--principal", "a", "--space", "b"], "can't be combined"),
    ],
)
def test_a_wrong_call_says_what_to_do(run: Run, words: list[str], problem: str) -> None:
    ran = run(*words)
    assert ran.code != 0
    assert problem in ran.err


def test_commands_on_a_folder_without_a_team_leave_no_audit(run: Run, tmp_path: Path) -> None:
    run("import", str(EXAMPLE))
    run("forget", "last", "--yes")
    assert run("audit", "--json").json == []
    assert run("audit").out.startswith("No such line.")
    assert list(tmp_path.rglob(TEAM)) == []


def test_forgetting_redacting_and_exporting_by_command_is_in_the_audit(run: Run, tmp_path: Path) -> None:
    run("principals", "add", "alice")
    conversation = run("import", str(EXAMPLE), "--json").json[0]["conversation_id"]
    run("export", conversation, str(tmp_path / "one.ctxmem"))
    assert run("redact", conversation, "--pattern", "LimitError", "--yes").code == 0
    run("forget", conversation, "--yes")
    lines = run("audit", "--conversation", conversation, "--json").json
    assert [(line["principal"], line["action"]) for line in lines] == [
        ("local", "export"), ("local", "redact"), ("local", "forget"),
    ]  # fmt: skip
