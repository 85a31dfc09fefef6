"""What a brief leaves out: replaced runs, plans among the findings, output among the user's terms."""

from __future__ import annotations

import pytest

from ctxmem_mcp.models import Highlight, HighlightKind, Node, Role, Summary
from ctxmem_mcp.views.brief_parts import brief_parts


def lines_of(title: str, *lines: tuple[HighlightKind, Role, str]) -> list[str]:
    """Returns a part's lines, without dash and turn, of a brief of one section with these highlights."""
    highlights = tuple(Highlight(kind, at, role, text) for at, (kind, role, text) in enumerate(lines))
    sections = [(Node(b"", 0, 0, len(lines), 900, 0), Summary("extractive", "Title", highlights))]
    parts = {part.title: part.lines for part in brief_parts(sections, ())}
    shown = sorted(parts.get(title, ()), key=lambda line: line.place)
    return [line.text.removeprefix("- ").rsplit(" (t", 1)[0] for line in shown]


def test_only_the_newest_run_of_a_program_came_of_it() -> None:
    runs = [
        "`mix test test/a_test.exs`: 84 tests, 0 failures",
        "`mix test 2>&1 | tail -5`: 397 tests, 0 failures",
        "`go test ./...`: ok all",
        "Committed 64f1b9a: feat: retries",
        "`mix test 2>&1 | tail -20`: 410 tests, 0 failures",
        "`mix test test/b_test.exs`: 15 tests, 0 failures",
        "`mix test test/b_test.exs`: 16 tests, 0 failures",
        "`MIX_ENV=test mix compile`: 0 issues.",
    ]
    assert lines_of("What came of it", *(("outcome", "tool", run) for run in runs)) == [
        *runs[2:5], *runs[6:]
    ]  # fmt: skip


def test_runs_of_other_files_and_of_other_modules_came_of_it_too() -> None:
    runs = [
        "`python -m build`: ok",
        "`pytest tests/a.py`: 3 passed",
        "`pytest tests/b.py`: 4 passed",
        "`python -m pytest`: 7 passed",
    ]
    assert lines_of("What came of it", *(("outcome", "tool", run) for run in runs)) == runs


@pytest.mark.parametrize(
    ("text", "is_finding"),
    [
        ("The guard can never be false because the clause binds it", True),
        ("Test failures are caused by the missing index", True),
        ("Fix this by removing the guard and using a pattern match instead", False),
        ("Add a `seen` set and suppress output if the file already existed", False),
        ("User wants the watch command moved, because main.go is too long already", False),
        ('The instructions also say "NEVER skip hooks", due to the policy', False),
    ],
)
def test_a_finding_is_neither_a_plan_nor_an_instruction(text: str, is_finding: bool) -> None:
    assert lines_of("Causes and findings", ("fact", "assistant", text)) == [text] * is_finding


def test_a_line_that_a_program_printed_is_no_term_of_the_user() -> None:
    texts = ["Press Ctrl+C to stop watching", "Never amend commits"]
    assert lines_of("The user's terms", *(("decision", "user", text) for text in texts)) == texts[1:]


def test_a_placeholder_is_no_goal() -> None:
    texts = ["[REDACTED_TEXT len=225 sha=f1c9b7b8]", "Retry failed uploads"]
    assert lines_of("Goal", *(("request", "user", text) for text in texts)) == texts[1:]
