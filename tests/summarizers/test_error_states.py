"""What a summary says of an error at the end of its section is right, or it says that nothing is known."""

from __future__ import annotations

import json

import pytest

from ctxmem_mcp.models import Node, Role, Summary
from ctxmem_mcp.summarizers.base import NOT_REPORTED_AGAIN, OPEN_THERE, UNRESOLVED
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.summarizers.sections import turns

FAILS = "Exit code 1\n--- FAIL: TestLoad\nrows_test.go:12: got 1, want 2"
Row = tuple[Role, str] | tuple[Role, str, str] | tuple[Role, str, str, str]


def run(number: int, command: str, output: str) -> list[Row]:
    call = f"c{number}"
    return [("assistant", json.dumps({"command": command}), "Bash", call), ("tool", output, "", call)]


def edit(number: int, path: str) -> list[Row]:
    call = f"c{number}"
    return [
        ("assistant", json.dumps({"file_path": path, "old_string": "a", "new_string": "b"}), "Edit", call),
        ("tool", "The file has been updated.", "", call),
    ]


def summarize(*rows: Row) -> Summary:
    return ExtractiveSummarizer().summarize_leaf(turns(("user", "make the tests of the rows pass"), *rows))


def endings(summary: Summary) -> list[str]:
    return [line.text for line in summary.highlights if line.kind == "ending"]


def test_an_error_that_is_the_last_result_is_open() -> None:
    assert endings(summarize(*run(1, "go test ./...", FAILS))) == [UNRESOLVED]


@pytest.mark.parametrize(
    "after",
    [
        edit(2, "/p/rows_test.go") + edit(3, "/p/TestLoad.go"),
        run(2, "make check", "12 passed in 0.30s"),
        [("assistant", "All tests pass now.")],
        run(2, "go test ./other -run TestOther", "ok  \tother\t0.1s"),
    ],
)
def test_an_error_that_may_be_settled_is_not_called_open(after: list[Row]) -> None:
    assert UNRESOLVED not in endings(summarize(*run(1, "go test ./...", FAILS), *after))


def test_a_run_of_other_tests_does_not_end_an_error() -> None:
    other = run(2, "go test ./other -run TestOther", "ok  \tother\t0.1s")
    assert endings(summarize(*run(1, "go test ./rows", FAILS), *other)) == [NOT_REPORTED_AGAIN]


def test_a_wider_run_ends_an_error() -> None:
    wider = run(2, "go test ./...", "ok  \trows\t0.1s")
    assert endings(summarize(*run(1, "go test ./... -run TestLoad", FAILS), *wider))[0].startswith(
        "`go test ./...`: ok"
    )


@pytest.mark.parametrize("command", ["go test ./...; echo $?", "cd /tmp/x && go test ./...", "go test ./... || true"])
def test_a_probe_leaves_nothing_open(command: str) -> None:
    assert UNRESOLVED not in endings(summarize(*run(1, command, FAILS)))


def test_a_parent_calls_only_the_errors_of_its_last_child_open() -> None:
    broken, quiet = summarize(*run(1, "go test ./...", FAILS)), summarize(*edit(1, "/p/a.go"))
    nodes = [Node(bytes([i]), 0, 10 * i, 10 * i + 9, 500, 1) for i in range(3)]
    summarizer = ExtractiveSummarizer()
    last = summarizer.summarize_parent(list(zip(nodes, [quiet, quiet, broken], strict=True)))
    first = summarizer.summarize_parent(list(zip(nodes, [broken, quiet, quiet], strict=True)))
    assert endings(last) == [UNRESOLVED]
    assert endings(first) == [OPEN_THERE]


@pytest.mark.parametrize(
    "command",
    [
        "cat > test_rows.py <<'EOF'\nassert load() == 1\nEOF\npython3 -m pytest -q",
        "ls; npm test",
        "cat rows.py && go test ./...",
        "for dir in a b; do make -C $dir; done",
    ],
)
def test_an_error_is_read_after_a_command_that_prints_or_writes_first(command: str) -> None:
    assert endings(summarize(*run(1, command, FAILS))) == [UNRESOLVED]


@pytest.mark.parametrize(
    "command",
    [
        "cat rows.log && grep -n 'FAIL; Error' rows.log | head",
        "for file in *.log; do cat $file; done",
        "echo '== a ==' && sed -n 1,5p a.log 2>/dev/null; git log -3",
    ],
)
def test_an_error_in_text_that_was_there_before_is_none_of_this_run(command: str) -> None:
    assert endings(summarize(*run(1, command, FAILS.removeprefix("Exit code 1\n")))) == []


def test_a_prompt_in_quotation_marks_is_read_without_them() -> None:
    rows = turns(("user", '"Find the cause of the burst at midnight. Never change the limiter\'s public interface."'))
    texts = [line.text for line in ExtractiveSummarizer().summarize_leaf(rows).highlights]
    assert texts
    assert not any('"' in text for text in texts)


@pytest.mark.parametrize(
    ("output", "error"),
    [
        ("Exit code 127\n/bin/bash: line 1: nosuch: command not found", "nosuch: command not found"),
        (
            "hi\n/bin/bash: line 1: nosuch: command not found\n<shellId: 0 completed with exit code 127>",
            "nosuch: command",
        ),
        ("Process exited with code 127\nnosuch: command not found", "nosuch: command not found"),
        ("one row is left over\n<shellId: 4 completed with exit code 2>", "Exit code 2: one row is left over"),
    ],
    ids=["Claude Code", "Copilot CLI", "Codex", "no known form"],
)
def test_a_failed_command_is_an_error_in_the_form_of_each_agent(output: str, error: str) -> None:
    summary = summarize(*run(1, "nosuch --all", output))
    assert [error in line.text for line in summary.highlights if line.kind == "error"] == [True]


def test_a_command_of_copilot_cli_that_succeeds_is_no_error() -> None:
    summary = summarize(*run(1, "make it", "0 rows are left over\n<shellId: 0 completed with exit code 0>"))
    assert [line for line in summary.highlights if line.kind == "error"] == []
