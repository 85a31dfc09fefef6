"""The commands, run as a person or a script runs them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ctxmem_mcp.__main__ import main
from ctxmem_mcp.cli import conversation_table, demo
from ctxmem_mcp.results import ConversationInfo

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.jsonl"


@dataclass
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    monkeypatch.setenv("CTXMEM_DATA_DIR", str(tmp_path / "data"))

    def command(*words: str) -> Ran:
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return command


@pytest.fixture
def imported(run: Callable[..., Ran]) -> str:
    """The id of the example session, imported."""
    return str(run("import", str(EXAMPLE), "--json").json[0]["conversation_id"])


def test_importing_again_adds_nothing(run: Callable[..., Ran], imported: str) -> None:
    again = run("import", str(EXAMPLE), "--json").json[0]
    assert (again["conversation_id"], again["new"], again["known"]) == (imported, 0, 63)


def test_importing_a_grown_file_adds_the_new_turns(run: Callable[..., Ran], tmp_path: Path) -> None:
    lines = EXAMPLE.read_text("utf-8").splitlines(keepends=True)
    file = tmp_path / "grows.jsonl"
    file.write_text("".join(lines[:40]), "utf-8")
    first = run("import", str(file), "--json").json[0]
    file.write_text("".join(lines), "utf-8")
    second = run("import", str(file), "--json").json[0]
    assert (first["new"], second["new"], second["known"]) == (40, 23, 40)
    assert first["conversation_id"] == second["conversation_id"]


def test_list_prints_the_conversations(run: Callable[..., Ran], imported: str) -> None:
    assert [info["conversation_id"] for info in run("list", "--json").json] == [imported]
    assert "oken estimation function" in run("list").out


def test_list_of_an_empty_memory_says_what_to_do_next(run: Callable[..., Ran]) -> None:
    shown = run("list")
    assert (shown.code, "ctxmem-mcp import" in shown.out) == (0, True)


def test_an_unknown_conversation_is_an_error_in_the_command_lines_words(run: Callable[..., Ran], imported: str) -> None:
    done = run("show", "nobody")
    assert (done.code, done.err.startswith("ctxmem-mcp: No conversation 'nobody'")) == (1, True)
    assert "`ctxmem-mcp list`" in done.err
    assert "append_turn" not in done.err


@pytest.mark.parametrize("width", [20, 40, 80, 115, 140])
def test_a_list_shows_ids_titles_and_days_at_every_width(width: int) -> None:
    ids, at = ["491e126e-1e71-469c-ade2-fcc8af567c74:afb92ff", "c1"], "2026-03-12T09:25:00Z"
    infos = [
        ConversationInfo(id, title, None, 1_119, 137_200, 1, "t1", at, at, at, 30, 1)
        for id, title in zip(ids, ("Refactor it all " * 9, ""), strict=True)
    ]
    written = io.StringIO()
    out = Console(file=written, width=width, force_terminal=True, color_system=None, highlight=False)
    conversation_table.print_conversations(out, list(map(conversation_table.Listed, infos)))
    shown = written.getvalue()
    assert all(id in shown for id in ids)
    assert "Refactor it all"[: width - 1] in shown
    assert "Untitled" in shown
    assert shown.count("2026-03-12") == 4
    assert all(len(line) <= max(width, len(ids[0]) + 2) for line in shown.splitlines())


def test_show_draws_the_tree(run: Callable[..., Ran], imported: str) -> None:
    drawn = run("show", imported).out
    assert "├── Refactoring to support integer inputs" in drawn
    assert 'Error: "exceeds the character limit"' in drawn
    assert "Fixed by changing test params from strings to integers" in drawn
    assert "Fixed by" not in run("show", imported, "--titles").out
    roots = run("show", imported, "--json").json["roots"]
    assert [root["first"] for root in roots] == [0, 18, 39, 48]


def test_a_conversation_is_named_by_a_prefix_of_its_id_or_as_last(run: Callable[..., Ran], imported: str) -> None:
    for name in (imported, imported[:6], "last"):
        assert run("show", name, "--json").json["conversation_id"] == imported


def test_last_is_the_session_and_not_a_sub_agent_of_it(run: Callable[..., Ran], tmp_path: Path) -> None:
    row = {"type": "user", "uuid": "1", "sessionId": "s-1", "message": {"role": "user", "content": "Look for it."}}
    session = tmp_path / "s-1.jsonl"
    session.write_text(json.dumps(row) + "\n", "utf-8")
    (tmp_path / "s-1" / "subagents").mkdir(parents=True)
    beside = tmp_path / "s-1" / "subagents" / "agent-a1.jsonl"
    beside.write_text(json.dumps({**row, "isSidechain": True, "agentId": "a1"}) + "\n", "utf-8")
    run("import", str(session))
    assert [info["conversation_id"] for info in run("list", "--json").json] == ["s-1:a1", "s-1"]
    assert run("show", "last", "--json").json["conversation_id"] == "s-1"


def test_context_prints_the_view_that_an_agent_gets(run: Callable[..., Ran], imported: str) -> None:
    shown = run("context", "last", "What errors did we encounter?", "--budget", "2500")
    header, _, text = shown.out.partition("\n")
    assert json.loads(header)["shown_tokens"] <= 2_500
    assert "[n39-47-019] Error" in text
    assert "Fixed by changing test params" in text
    as_json = run("context", "last", "What errors did we encounter?", "--budget", "2500", "--json").json
    assert as_json["text"] + "\n" == text
    stable = run("context", "last", "--layout", "stable", "--json").json
    assert stable["stable_prefix_chars"] <= len(stable["text"])


def test_expand_prints_a_turn_byte_for_byte(run: Callable[..., Ran], imported: str) -> None:
    first = json.loads(EXAMPLE.read_text("utf-8").splitlines()[0])["content"]
    assert run("expand", "last", "t0", "--json").json["text"] == first


def test_the_header_of_a_span_counts_its_turns_and_tokens(run: Callable[..., Ran], imported: str) -> None:
    shown = run("expand", "last", "t0-t2", "--json").json
    alone = [run("expand", "last", f"t{i}", "--json").json["tokens"] for i in range(3)]
    assert (shown["turns"], shown["tokens"]) == (3, sum(alone))


def test_counts_of_one_are_in_the_singular(run: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "one.jsonl").write_text('{"role": "user", "content": "Look for it."}\n', "utf-8")
    out = run("import", str(tmp_path / "one.jsonl")).out
    assert "1 new turn, 0 already stored" in out
    assert "1 conversation: 1 new turn, 0 already stored." in out
    assert run("show", "last").out.count("1 turn ·") == 2


def test_search_finds_turns(run: Callable[..., Ran], imported: str) -> None:
    hits = run("search", "MAX_TEXT_CHARS", "--json").json
    assert hits
    assert all(hit["turn_id"].startswith("t") for hit in hits)
    assert run("search", "MAX_TEXT_CHARS").out.startswith(f"{imported} {hits[0]['turn_id']}")
    assert "Nothing found" in run("search", "xyzzyplugh").out


def test_reverting_to_the_previous_head_undoes_a_revert(run: Callable[..., Ran], imported: str) -> None:
    done = run("revert", "last", "t20", "--json").json
    assert done["head"].startswith("t20-")
    back = run("revert", "last", done["previous_head"], "--json").json
    assert back["head"] == done["previous_head"]


def test_forget_requires_confirmation_and_leaves_no_byte(
    run: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    refused = run("forget", "last")
    assert (refused.code, "--yes" in refused.err) == (1, True)
    receipt = run("forget", "last", "--yes", "--json").json
    assert receipt["turns"] == 63
    assert run("list", "--json").json == []
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or b"estimate_tokens" not in file.read_bytes()


def test_retention_is_printed_and_set(run: Callable[..., Ran], imported: str) -> None:
    assert run("retention", "last", "--json").json["retention_days"] == 30
    assert run("retention", "last", "90", "--json").json["retention_days"] == 90
    assert run("retention", "last", "--json").json["retention_days"] == 90


def test_verify_finds_no_problem_in_an_intact_conversation(
    run: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    assert run("verify", "--json").json == {imported: []}


def test_the_demo_shows_question_view_and_tree(run: Callable[..., Ran]) -> None:
    shown = run("demo")
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert len(lines) <= 35
    assert demo.QUESTION in shown.out
    assert "\nRefactor the token estimation function in src/promptkit/tokens.py\n" in shown.out
    assert shown.out.count("Fixed by changing test params from strings to integers") >= 2
    assert [line.startswith("└── ") for line in lines[-4:]] == [True, False, False, False]
    assert lines[-2:] == list(demo.NEXT_STEPS)
    assert run("list", "--json").json == []


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show", "last"], 1, "no conversations yet. `ctxmem-mcp import"),
        (["search", "anything", "--role", "User"], 1, "must be one of user, assistant, system, tool"),
        (["import", "/nowhere/at.all"], 1, "does not exist"),
        (["context", "last", "--layout", "flat"], 1, "--layout: must be one of tree, stable"),
        (["retention", "last", "0"], 2, "greater than or equal to 1"),
        (["frobnicate"], 2, "No such command"),
        (["--data-dir", "", "list"], 1, "--data-dir: must be the path of a folder; got ''"),
        (["--data-dir", "", "serve"], 1, "--data-dir: must be the path of a folder; got ''"),
        (["install", "codex", "--dry-run", "--data-dir", ""], 1, "--data-dir: must be the path of a folder; got ''"),
        (["serve", "--transport", "http", "--port", "99999"], 1, "--port: must be a whole number from 0 to 65535"),
        (["--transport", "http", "--port", "99999"], 1, "--port: must be a whole number from 0 to 65535"),
        (["list", "--nonsense"], 2, "No such option"),
    ],
)
def test_errors_name_the_argument_the_rule_and_the_remedy(
    run: Callable[..., Ran], words: list[str], code: int, message: str
) -> None:
    done = run(*words)
    assert done.code == code
    assert message in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["context", "last", "-b", "1"], "ctxmem-mcp: --budget: 1 tokens are too few"),
        (["hand-off", "last", "-b", "1"], "Use --budget "),
        (["search", "x", "--since", "noon"], "ctxmem-mcp: --since: "),
        (["search", "x", "--role", "bot"], "ctxmem-mcp: --role: "),
        (["expand", "last", "t0", "--cursor", "x"], "ctxmem-mcp: --cursor: "),
        (["expand", "last", "n9-9"], "`ctxmem-mcp context` and `ctxmem-mcp search` print the ids."),
        (["show", "last", "--turn", "t99"], "`ctxmem-mcp context` and `ctxmem-mcp search` print the ids."),
    ],
)
def test_errors_name_arguments_as_the_command_spells_them(
    run: Callable[..., Ran], imported: str, words: list[str], message: str
) -> None:
    done = run(*words)
    assert (done.code, message in done.err) == (1, True), done.err


def test_export_refuses_a_folder_as_its_file(run: Callable[..., Ran], imported: str, tmp_path: Path) -> None:
    done = run("export", "last", str(tmp_path), "--force")
    assert (done.code, "is a folder" in done.err) == (1, True)


@pytest.mark.parametrize("words", [["--data-dir", "here", "list"], ["doctor"], ["install", "codex", "--dry-run"]])
def test_a_removed_current_folder_is_an_error(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    done = run(*words)
    monkeypatch.undo()
    assert (done.code, "the current folder" in done.err) == (1, True)


def test_a_data_folder_that_cannot_be_created_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = started("--data-dir", str(tmp_path / "file" / "below"), "list")
    assert (done.returncode, "can't be used" in done.stderr, "Traceback" in done.stderr) == (1, True, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
@pytest.mark.parametrize("words", [["list", "--json"], ["demo"], ["--version"]])
def test_output_that_cannot_be_written_is_an_error_without_a_traceback(tmp_path: Path, words: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = started("--data-dir", str(tmp_path), *words, stdout=full)
    assert (done.returncode, done.stderr) == (1, "ctxmem-mcp: No space left on device.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell that closes a stream")
def test_a_closed_stdout_is_no_error(tmp_path: Path) -> None:
    line = f"exec {sys.executable} -m ctxmem_mcp --data-dir {tmp_path} list --json >&-"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def started(*words: str, stdout: Any = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    """The command, run in its own process."""
    command = [sys.executable, "-m", "ctxmem_mcp", *words]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=60)


def test_a_file_in_no_known_format_is_refused_and_the_others_are_imported(
    run: Callable[..., Ran], tmp_path: Path
) -> None:
    odd = tmp_path / "odd.bin"
    odd.write_bytes(b"\x00\xff nothing")
    done = run("import", str(odd), str(EXAMPLE), "--json")
    assert (done.code, "is in none of the known formats" in done.err) == (1, True)
    assert json.loads(done.out)[0]["new"] == 63


def test_an_ambiguous_prefix_is_refused_with_the_matching_ids(run: Callable[..., Ran], tmp_path: Path) -> None:
    for name in ("aa1", "aa2"):
        row = {"type": "user", "sessionId": name, "uuid": name, "message": {"role": "user", "content": f"hi {name}"}}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row), "utf-8")
    run("import", str(tmp_path))
    done = run("show", "aa")
    assert (done.code, "aa1, aa2" in done.err or "aa2, aa1" in done.err) == (1, True)


def test_without_a_command_the_server_runs_until_stdin_ends(tmp_path: Path) -> None:
    hello = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }
    done = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path)],
        input=json.dumps(hello) + "\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ, "CTXMEM_CONFIG": ""},
    )
    assert json.loads(done.stdout)["result"]["serverInfo"]["name"] == "ctxmem"


def test_piped_output_is_never_wrapped(tmp_path: Path) -> None:
    environment = {**os.environ, "CTXMEM_DATA_DIR": str(tmp_path), "COLUMNS": "40"}
    command = [sys.executable, "-m", "ctxmem_mcp"]
    subprocess.run([*command, "import", str(EXAMPLE)], env=environment, check=True, capture_output=True, timeout=60)
    shown = subprocess.run(
        [*command, "show", "last"], env=environment, check=True, capture_output=True, text=True, timeout=60
    ).stdout
    assert max(map(len, shown.splitlines())) > 100
    assert "\x1b[" not in shown


def test_explain_prints_why_each_turn_was_chosen(run: Callable[..., Ran], imported: str) -> None:
    question = "why did test_tokens.py fail with the character limit?"
    plain = run("context", "last", question, "--budget", "2500")
    explained = run("context", "last", question, "--budget", "2500", "--explain")
    assert explained.out == plain.out
    assert "score" in explained.err
    as_json = run("context", "last", question, "--budget", "2500", "--explain", "--json").json
    assert all(reason["why"] and reason["turn_id"].startswith("t") for reason in as_json["reasons"])
    assert all(hit["why"] for hit in run("search", "character limit", "--json", "--explain").json)
    assert not any({"why", "score"} & set(hit) for hit in run("search", "character limit", "--json").json)
    found = run("search", "character limit")
    assert "1 conversation searched." in found.err
    assert "score" not in found.out
    assert "score" in run("search", "character limit", "--explain").out
