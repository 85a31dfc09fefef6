"""Titles: never a secret, a path, pasted output or a clause cut short; a plan's heading, a commit's subject."""

from __future__ import annotations

import json

import pytest

from ctxmem_mcp.models import Highlight, Node, Summary
from ctxmem_mcp.summarizers.base import is_uninformative
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.summarizers.headlines import as_title, headline, makes_title
from ctxmem_mcp.summarizers.lead_ins import is_narration, strip_lead_in
from ctxmem_mcp.summarizers.parent_ranker import ParentRanker
from ctxmem_mcp.summarizers.statement_features import Salience, statement_features
from ctxmem_mcp.summarizers.statement_ranker import load_weights
from ctxmem_mcp.summarizers.statements import Statement
from ctxmem_mcp.summarizers.title_options import with_name
from tests.summarizers.sections import summarize_sections, turn, turns


@pytest.mark.parametrize(
    "text",
    [
        "https://github.com/acme/cli/pull/201",
        "/home/dev/project/notes.txt has it",
        "[REDACTED_TEXT len=178 sha=ba799f97] and more",
        f"Use the key sk-ant-api03-{'Ab1' * 10} in the tests",
        "The hash is $2b$12$LQv3c1yqBWVHxkd0LHAkCOYz6TtxMQJqhN8/LewKyNiGYMTRsgWSe today",
        "Picture data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAUA",
        "(Y)es/(N)o/(A)ll/(S)kip all [Yes]: all",
        "➜ repo git:(main) ✗ npx tsx cli.ts",
        "Implement the following plan",
        "done.",
    ],
)
def test_what_is_never_a_title(text: str) -> None:
    assert not makes_title(as_title(text, 60), text)


@pytest.mark.parametrize(
    "text", ["Rename the retry option of the uploader", "Fix chat-simple.ts", "修复登录页面的错误"]
)
def test_what_can_be_a_title(text: str) -> None:
    assert makes_title(as_title(text, 60), text)


def test_a_clause_that_only_leads_to_its_sentence_is_no_title() -> None:
    text = "Based on my systematic investigation of the hooks, the stop hook parses each transcript twice"
    assert not makes_title("Based on my systematic investigation of the hooks", text)


def test_a_section_that_carries_out_a_plan_is_called_by_its_heading() -> None:
    plan = (
        "Implement the following plan:\n\n# Plan: Store the CLI version in checkpoint metadata\n\n## Context\n\nNone."
    )
    read = json.dumps({"file_path": "/p/a.go"})
    section = turns(("user", plan), ("assistant", read, "Read", "c1"), ("tool", "package a", "", "c1"))
    summary = ExtractiveSummarizer().summarize_leaf(section)
    assert summary.title == "Store the CLI version in checkpoint metadata"
    assert [line.text for line in summary.highlights if line.kind == "request"] == [summary.title]


def test_a_section_with_a_commit_is_called_by_its_subject() -> None:
    commit = json.dumps({"command": "git commit -qm x"})
    section = turns(
        ("assistant", commit, "Bash", "c1"),
        ("tool", "[main 1a2b3c4] fix(login): Reject an empty password in the login form", "", "c1"),
        ("assistant", "I committed it."),
    )
    assert ExtractiveSummarizer().summarize_leaf(section).title == "Reject an empty password in the login form"


def test_the_sentence_before_the_border_says_why_a_section_edits() -> None:
    edit = json.dumps({"file_path": "/p/rows.py", "old_string": "a", "new_string": "b"})
    before = [turn(0, "assistant", "Now let me close the file in load_rows before the next one opens.")]
    section = [turn(1, "assistant", edit, "Edit", "c1"), turn(2, "tool", "The file was updated.", None, "c1")]
    title = ExtractiveSummarizer().summarize_leaf(section, before).title
    assert title.startswith("Close the file in load_rows")


def test_what_a_user_said_in_refusing_a_call_is_a_decision_of_the_users() -> None:
    refused = (
        "The user doesn't want to proceed with this tool use. To tell you how to proceed, the user said:\n"
        "we don't need the auto strategy test"
    )
    call = json.dumps({"command": "go test ./auto"})
    section = turns(("user", "plan the tests"), ("assistant", call, "Bash", "c1"), ("tool", refused, "", "c1"))
    lines = ExtractiveSummarizer().summarize_leaf(section).highlights
    assert [line.text for line in lines if line.kind == "decision"] == ["we don't need the auto strategy test"]


@pytest.mark.parametrize(
    "text",
    [
        "Want me to implement the lock in the writer?",
        "Should I add the tests for the uploader now?",
        "User wants to continue from where we left off",
        "I was in the middle of updating the plan for the watch command",
        "manual_commit_rewind.go:758:9: error returned from external package is unwrapped",
        "uploader_logs.go: 52, 195- uploader_reset.go: 32",
        "Branch: `anna/move-clean-to-session`",
        "Committed as `22c57db7` on `anna/clean-fixes`",
        "The key changes",
    ],
)
def test_questions_recaps_places_and_hashes_are_no_titles(text: str) -> None:
    assert not makes_title(as_title(text, 60), text)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The key insight is: `WriteSession` uses the full path", "`WriteSession` uses the full path"),
        ("Root cause: the lock is released before the write", "The lock is released before the write"),
        ("Key finding: retries count the first attempt", "Retries count the first attempt"),
        ("Fix the remaining files:- upload_logs.go: 52, 195", "Fix the remaining files"),
    ],
)
def test_a_title_leaves_out_what_announces_it(text: str, title: str) -> None:
    assert as_title(text, 60) == title


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (
            "The bundled theme has been removed and error handling for themes that are missing was added to the loader",
            "The bundled theme has been removed",
        ),
        ('Resume tests are failing with "you have uncommitted changes',
         "Resume tests are failing with you have uncommitted changes"),
    ],
)  # fmt: skip
def test_a_title_is_not_cut_within_a_phrase(text: str, title: str) -> None:
    assert as_title(text, 60) == title


def test_an_assent_is_called_by_what_was_proposed() -> None:
    section = turns(
        ("assistant", "Two writers may lose data. Want me to add a lock around the metadata writer?"), ("user", "yes")
    )
    assert ExtractiveSummarizer().summarize_leaf(section).title == "Add a lock around the metadata writer"
    vague = turns(("assistant", "Two writers may lose each other's data. Want me to implement it?"), ("user", "yes"))
    assert ExtractiveSummarizer().summarize_leaf(vague).title == "Two writers may lose each other's data"


def test_an_error_that_was_mended_is_no_title() -> None:
    lint, edit = json.dumps({"command": "make lint"}), json.dumps({"file_path": "/p/rewind.go", "old_string": "a"})
    section = turns(
        ("assistant", lint, "Bash", "c1"),
        ("tool", "Exit code 1\nTestRewind: Error: the error of the reader is returned without a wrapper", "", "c1"),
        ("assistant", "That is fixed; the lint is green."),
        ("assistant", edit, "Edit", "c2"),
        ("tool", "The file was updated.", "", "c2"),
    )
    assert ExtractiveSummarizer().summarize_leaf(section).title == "Edited rewind.go"


@pytest.mark.parametrize(
    ("content", "title"),
    [
        (
            '<task-notification>\n<summary>Agent "Review reindex" finished</summary>\n</task-notification>',
            'Host: Agent "Review reindex" finished',
        ),
        ("# Review Command\n\nPerform exhaustive reviews.", "Host: Review Command"),
        ("You are an autonomous programmer.", "Host: system prompt"),
    ],
)
def test_a_section_of_the_host_alone_says_what_it_is(content: str, title: str) -> None:
    summary = ExtractiveSummarizer().summarize_leaf(turns(("system", content, "injected")))
    assert summary.title == title
    assert is_uninformative(summary.title)


def test_a_section_whose_texts_are_redacted_is_called_by_its_tools() -> None:
    hidden = "[REDACTED_ARGUMENTS len=132 sha=3dbb24e9]"
    section = turns(("assistant", "[REDACTED_TEXT len=180 sha=cfd]"), ("assistant", hidden, "exec_command", "c1"))
    assert ExtractiveSummarizer().summarize_leaf(section).title == "Calls of exec_command"


def test_a_parent_is_called_by_its_commit_without_the_commits_type() -> None:
    call = json.dumps({"command": "git commit -qm x"})
    edit = json.dumps({"file_path": "/p/login.py", "old_string": "a", "new_string": "b"})
    commit = "[main 1a2b3c4] fix(login): reject an empty password in the login form"
    first = turns(("assistant", "Now let me update login.py."), ("assistant", edit, "Edit", "c1"))
    second = turns(
        ("assistant", call, "Bash", "c1"), ("tool", commit, "", "c1"), ("assistant", "Committed as 1a2b3c4.")
    )
    assert ExtractiveSummarizer().title_of_parent(summarize_sections([first, second])) == (
        "Reject an empty password in the login form"
    )


@pytest.mark.parametrize("value", ["SCRIPT=[[{}]]", 'LOG: """{}"""', "Prompt = {{{{{}}}}}"])
def test_the_request_is_the_users_sentence_and_not_the_text_pasted_with_it(value: str) -> None:
    text = "Please can you create a scene where the captain should help me fix the ship? It must show the storm."
    pasted = value.format("\n".join([text] * 3))
    section = turns(("user", f"Turn the script below into a list of shots.\n\n{pasted}"), ("assistant", "Here it is."))
    lines = ExtractiveSummarizer().summarize_leaf(section).highlights
    assert [line.text for line in lines if line.kind == "request"] == ["Turn the script below into a list of shots"]


def test_the_order_that_begins_a_message_is_its_request() -> None:
    text = (
        "add markdown file rules to CONVENTIONS.md\nEnsure each sentence or long phrase is on its own line of the file."
    )
    section = turns(("user", text), ("assistant", "I added them."))
    assert ExtractiveSummarizer().summarize_leaf(section).title == "Add markdown file rules to CONVENTIONS.md"


def test_the_title_of_a_pasted_issue_is_the_request() -> None:
    text = (
        "We're solving the following issue within our repository. Here's the issue text:\nISSUE:\n"
        "TimeDelta serialization loses precision\nHi there!\n\nINSTRUCTIONS:\n"
        "Edit all the files you need to and run any checks or tests that you want."
    )
    ls = json.dumps({"command": "ls -F"})
    section = turns(("user", text), ("assistant", ls, "Bash", "c1"), ("tool", "setup.py", "", "c1"))
    assert ExtractiveSummarizer().summarize_leaf(section).title == "TimeDelta serialization loses precision"


def test_a_commit_in_a_folder_for_temporary_files_is_no_state() -> None:
    probe = json.dumps({"command": "cd /tmp && git init moved && cd moved && git commit -m init"})
    section = turns(
        ("user", "Is there a git command to move a worktree?"),
        ("assistant", probe, "Bash", "c1"),
        ("tool", "[main (root-commit) 3f91520] init", "", "c1"),
        ("assistant", "`git worktree move` does it and keeps the internal name."),
    )
    assert "committed" not in ExtractiveSummarizer().summarize_leaf(section).title


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Preserve what was there; tests pass", "Preserve what was there (AgentType); tests pass"),
        ("Run the strategy tests", "Run the strategy tests (AgentType)"),
        ("Keep `BaseCommit` as it was", "Keep `BaseCommit` as it was"),
        ("Why was it empty before?", "Why was it empty before?"),
        ("Set the agent type once", "Set the agent type once"),
        ("Configure the type in the config files", "Configure the type in the config files"),
        ("Preserve what was there in each of the strategies before the agent starts", None),
    ],
)
def test_a_title_without_a_name_gets_the_most_frequent_one(title: str, expected: str | None) -> None:
    assert with_name(title, ["git.go", "--force", "HEAD", "AgentType", "BaseCommit"][:4]) == (expected or title)


@pytest.mark.parametrize(
    ("text", "is_verbless"),
    [
        ("The scroll helper and the budget function", True),
        ("Rename the budget function of the scroll helper", False),
        ("The budget function was renamed", False),
    ],
)
def test_what_only_names_something_counts_less_as_a_title(text: str, is_verbless: bool) -> None:
    statement = Statement("before_edit", 0, "assistant", text, 0.5)
    assert ("verbless" in statement_features(statement, Salience([]))) == is_verbless
    assert load_weights("title")["verbless"] < 0


def test_the_mark_of_a_joined_list_is_cut_before_a_full_stop() -> None:
    assert as_title("Update `ListAllItems` in clean.go to:1.", 60) == "Update `ListAllItems` in clean.go"


@pytest.mark.parametrize(
    "text", ["Three changes made", "Continuing with Task 3", "Based on the summary, I was planning"]
)
def test_narration_is_no_title(text: str) -> None:
    assert is_narration(strip_lead_in(text)) or not makes_title(as_title(text, 60), text)


@pytest.mark.parametrize(
    "text",
    [
        "minor, this is a big change",
        "did you update docs/theme.md as well with the new tokens?",
        "fucking hell, the vs code colors still look the same for all gray levels",
    ],
)
def test_a_reply_a_follow_up_question_or_a_curse_is_no_title(text: str) -> None:
    assert not makes_title(as_title(text, 60), text)


def test_brackets_in_code_stay_in_a_title() -> None:
    text = "`Editor.borderColor` expects a function (of the theme) `(str: string) => string`"
    assert headline(text) == "`Editor.borderColor` expects function `(str: string) => string`"


def test_a_request_counts_by_the_share_of_the_work_that_follows_it() -> None:
    def child(first: int, size: int, title: str, *requests: str) -> tuple[Node, Summary]:
        lines = [Highlight("request", first, "user", text) for text in requests]
        lines += [Highlight("file", first + 1, "assistant", f"Edited watch{first}.go")]
        return Node(b"", 0, first, first + 9, size, 1), Summary("extractive", title, tuple(lines), (), "")

    children = [
        child(0, 500, "Explore config loader options", "Explore config loader options"),
        child(10, 3_000, "Print readable watch output", "Print readable watch output"),
        *(child(20 + 10 * n, 3_000, f"Edited watch{n}.go") for n in range(4)),
        child(60, 300, "Compare release notes wording", "Compare release notes wording"),
    ]
    governs = {option.title: option.features.get("governs", 0.0) for option in ParentRanker(children).title_options()}
    assert governs["Print readable watch output"] > 0.8
    assert 0 < governs["Compare release notes wording"] < 0.05
