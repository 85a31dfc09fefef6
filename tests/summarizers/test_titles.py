"""Titles: never a secret, a path, pasted output or a clause cut short; a plan's heading, a commit's subject."""

from __future__ import annotations

import json

import pytest

from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.summarizers.headlines import as_title, makes_title
from tests.summarizers.sections import turn, turns


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
