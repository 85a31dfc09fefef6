"""Titles name what was done in their section, and do not claim what was not."""

from __future__ import annotations

import json

import pytest

from ctxmem_mcp.models import Highlight, Node, Summary, Turn
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.summarizers.headlines import as_title, without_ellipsis
from ctxmem_mcp.summarizers.lead_ins import announced_thing
from ctxmem_mcp.summarizers.requests import strip_politeness
from ctxmem_mcp.summarizers.section_reader import read_section
from ctxmem_mcp.summarizers.statements import find_statements
from ctxmem_mcp.summarizers.title_options import with_blocked
from tests.summarizers.sections import turns


def _call(tool: str, **arguments: str) -> tuple[str, str]:
    return json.dumps(arguments), tool


def _section(*rows: tuple[str, ...]) -> list[Turn]:
    return turns(*rows)  # type: ignore[arg-type]


def _title(*rows: tuple[str, ...], before: list[Turn] | None = None) -> str:
    return ExtractiveSummarizer().summarize_leaf(_section(*rows), before or ()).title


READ = ("assistant", *_call("Read", file_path="src/scan.go"), "r1")
READ_RESULT = ("tool", "430 }\n431 return nil\n", "Read", "r1")


@pytest.mark.parametrize(
    ("sentence", "thing"),
    [
        ("Now the scroll helpers and the budget function:", "the scroll helpers and the budget function"),
        ("Great! Then the two parallel scans:", "the two parallel scans"),
        ("Now the tests fail because of the cache:", ""),
        ("Now the scan is shared by both providers:", ""),
        ("Now the scroll helpers are next.", ""),
    ],
)
def test_what_is_named_before_a_call_is_found(sentence: str, thing: str) -> None:
    assert announced_thing(sentence) == thing


def test_a_section_that_only_names_a_thing_gets_the_verb_of_its_call() -> None:
    title = _title(("assistant", "Now the two duplicated parallel scans of the providers:"), READ, READ_RESULT)
    assert title == "Read the two duplicated parallel scans of the providers"


def test_a_section_that_only_reads_is_named_after_its_file() -> None:
    before = _section(("assistant", "The branch does not build because the provider `cursoride` was never updated."))
    assert _title(READ, READ_RESULT, before=before) == "Reading scan.go"


def test_a_report_on_the_session_gives_no_title_to_the_section_that_closes_it() -> None:
    report = (
        "I have successfully completed two full tasks in this work session:\n\n## Summary\n\n"
        "- Added traceparent and metadata headers to all requests of the hooks\n"
        "- Created the `trace_context.sh` helper library for the shell scripts\n"
        "- Configured the stdout exporter for development\n"
        "- Wired the startup into the application before its children\n"
        "- Instrumented the hook controllers with spans\n"
        "- Documented the remaining environment variables of the exporter\n"
    )
    title = _title(
        ("assistant", "Let me close the task:"),
        ("assistant", *_call("Bash", command="bd close app-4te.3 --reason done"), "c1"),
        ("tool", "Closed app-4te.3", "Bash", "c1"),
        ("assistant", report),
    )
    assert title == "Close app-4te.3"


BLOCKED = (
    "Pre-commit validation failed:\n\nlib/hooks.ex:57: pattern can never match\n\nFix these issues before committing."
)


def test_work_whose_commit_was_refused_is_not_called_done() -> None:
    edit = _call("Edit", file_path="lib/hooks.ex", old_string="try do", new_string="def run do")
    rows = [
        ("assistant", "Let me fix the implicit try in the hook controller:"),
        ("assistant", *edit, "e1"),
        ("tool", "The file was updated.", "Edit", "e1"),
        ("assistant", *_call("Bash", command="git commit -am 'fix: implicit try'"), "c1"),
        ("tool", BLOCKED, "Bash", "c1"),
    ]
    assert _title(*rows) == "Fix the implicit try in the hook controller; commit blocked"
    rows += [
        ("assistant", *_call("Bash", command="git commit -am 'fix: implicit try'"), "c2"),
        ("tool", "[main 12e2d10] fix: implicit try\n 1 file changed", "Bash", "c2"),
    ]
    assert "blocked" not in _title(*rows)


def test_a_state_that_does_not_fit_is_left_out() -> None:
    assert with_blocked("Update the tool call; Require the helpers") == "Update the tool call; Require the helpers"


def test_a_question_beside_a_request_is_no_title() -> None:
    request = "Set up the linters credo and dialyzer for the project. Maybe there are igniter scripts?"
    section = read_section(_section(("user", request), READ, READ_RESULT))
    may_be_title = {statement.text: statement.may_be_title for statement in find_statements(section, ())}
    assert not may_be_title["Maybe there are igniter scripts?"]
    assert may_be_title["Set up the linters credo and dialyzer for the project"]


def test_the_word_address_before_a_colon_is_left_out_of_a_request() -> None:
    assert strip_politeness("Let's address: projectsHeight ignores the headers") == "projectsHeight ignores the headers"
    assert strip_politeness("Let's address: the scroll budget of projects") == "The scroll budget of projects"
    assert strip_politeness("Let's address MII: 2 and 4") == "Address MII: 2 and 4"


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Evaluate Cursor IDE provider against current provider SPI…", None),
        ("Fall back to origin/entire/sessions when local branch…", "Fall back to origin/entire/sessions"),
        ("Update `GetTranscript` and `GetSessionLog` to use new…", ""),
        ("Change removed one use of checkpoint.ShadowBranchHashLengt…", ""),
        ("Transcript created by test harness doesn't include…", ""),
        ("`reindex.go` deadlock is real: the feed loop's `select`…", "`reindex.go` deadlock is real"),
        ("Filter `handleAmendCommitMsg` to only sessions whose…", ""),
    ],
)
def test_a_cut_title_has_an_ellipsis_only_if_it_says_too_little_without(title: str, expected: str | None) -> None:
    assert without_ellipsis(title) == {None: title[:-1], "": title}.get(expected, expected)


def test_a_parent_of_two_long_commits_names_both() -> None:
    def child(first: int, subject: str) -> tuple[Node, Summary]:
        commit = Highlight("outcome", first + 8, "tool", f"Committed 12e2d1{first}: feat: {subject}")
        lines = (commit, Highlight("file", first + 1, "assistant", f"Edited hooks{first}.ex"))
        return Node(b"", 0, first, first + 9, 3_000, 1), Summary("extractive", subject, lines, (), "")

    children = [
        child(0, "Instrument hook controllers with OTEL trace correlation"),
        child(10, "Trace LiveView interactions and TerminalChannel lifecycle"),
    ]
    title = ExtractiveSummarizer().title_of_parent(children)
    assert title == "Instrument hook controllers; Trace LiveView interactions"


def test_a_parent_whose_last_commit_was_refused_says_so() -> None:
    def child(first: int, title: str) -> tuple[Node, Summary]:
        lines = (Highlight("file", first + 1, "assistant", f"Edited hooks{first}.ex"),)
        return Node(b"", 0, first, first + 9, 3_000, 1), Summary("extractive", title, lines, (), "")

    children = [
        child(0, "Fix the credo issue"),
        child(10, "Create a .dialyzerignore file; commit blocked"),
        child(20, "Continue with the remaining tasks"),
    ]
    assert ExtractiveSummarizer().title_of_parent(children).endswith("; commit blocked")


def test_words_on_both_sides_of_an_open_quotation_mark_stay_two() -> None:
    assert as_title('Keep aFa"Umlaut in the name', 60) == "Keep aFa Umlaut in the name"
