"""What a title lacks: its end, its verb, its matter; what is taken off before a text becomes one."""

from __future__ import annotations

import json

import pytest

from ctxmem_mcp.models import Turn
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.summarizers.headlines import as_title, makes_title
from ctxmem_mcp.summarizers.lead_ins import strip_lead_in, wanted_by_user
from ctxmem_mcp.summarizers.statement_features import Salience, is_description, statement_features
from ctxmem_mcp.summarizers.statement_ranker import load_weights
from ctxmem_mcp.summarizers.statements import Source, Statement
from ctxmem_mcp.summarizers.title_faults import ends_vaguely, is_fragment
from ctxmem_mcp.summarizers.title_options import core_of, part_of
from tests.summarizers.sections import summarize_sections, turn, turns


@pytest.mark.parametrize(
    "text",
    [
        "AutoCommitStrategy (`auto_commit.go:992-1098`)",
        "Strategy-specific setup (`strat.EnsureSetup()`)",
        "Subcommands - `entire session cleanup states`",
        "`thinkingLow`: `#5f87af`",
        "`model.go` - Data structures",
        "`strategy/clean.go` → `strategy/cleanup.go`",
        "For the manual strategy, orphaned items include",
        "The `entire enable` command will now show",
        "The `describe` function is called",
        "During the second commit's `PrepareCommitMsg`",
        "The full transcript is available at: /private/tmp/task/output",
        "User wants to continue with the implementation",
    ],
)
def test_an_item_a_place_or_a_sentence_without_its_end_is_no_title(text: str) -> None:
    assert not makes_title(text, text)


@pytest.mark.parametrize(
    "text", ["Update the helper (`main.go:12`)", "Added tests for the cleanup", "The issue is the git status calls"]
)
def test_an_order_a_deed_or_a_finding_is_no_fragment(text: str) -> None:
    assert not is_fragment(text, text)


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("The user wants to move the `clean` command under `session`.", "Move the `clean` command under `session`."),
        ("The user is asking whether the cleanup is still needed", "Whether the cleanup is still needed"),
        ("The user wants to know where the state is stored", "Where the state is stored"),
        ("The user is suggesting moving `clean` under `session`", "Moving `clean` under `session`"),
        ("The user wants to continue with the implementation", ""),
        ("The user wants me to do it again, please", ""),
        ("The user chose option 2", ""),
    ],
)
def test_what_the_user_wanted_is_an_order(text: str, title: str) -> None:
    assert wanted_by_user(strip_lead_in(text).text) == title


def test_a_request_that_the_agent_says_again_names_the_section_better_than_the_users_remark() -> None:
    read = json.dumps({"file_path": "/p/root.go"})
    section = turns(
        ("user", "I feel the command is too present on the top level so I wonder if it makes sense to move it away?"),
        ("assistant", "The user wants to move the `clean` command under `session`. Let me look at the commands."),
        ("assistant", read, "Read", "c1"),
        ("tool", "package cli", "", "c1"),
    )
    assert ExtractiveSummarizer().summarize_leaf(section).title == "Move the `clean` command under `session`"


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("`main.go` — removed the `provider` parameter", "Removed the `provider` parameter"),
        (
            "Thread 1 (Copilot): Only update BaseCommit for active sessions",
            "Only update BaseCommit for active sessions",
        ),
        ("Task 4: Add WorktreeID to WriteTemporaryOptions", "Add WorktreeID to WriteTemporaryOptions"),
        ("`65f0669` - perf: reuse the git status in the stop hook", "Reuse the git status in the stop hook"),
        ("`RewindPoint` has an `Agent` field (lines 117-119)", "`RewindPoint` has an `Agent` field"),
        ("The prompt is asked in `PrepareCommitMsg` at line 265", "The prompt is asked in `PrepareCommitMsg`"),
        ("Line 270 in `parseEnd()`: Checked the flag and skipped it", "Checked the flag and skipped it"),
        ("Added a Themes section to the README that covers", "Added a Themes section to the README"),
        (
            "The `WithAgent` function is defined and the logger extracts it, but `WithAgent` is never called",
            "`WithAgent` is never called",
        ),
    ],
)
def test_labels_lines_and_what_only_leads_to_the_point_are_taken_off(text: str, title: str) -> None:
    assert as_title(text, 60) == title


@pytest.mark.parametrize(
    ("text", "feature", "use"),
    [
        ("Use the new helper instead", "ends_vaguely", "title"),
        ("Spec review passed", "process", "title"),
        ("Fix the remaining files", "relative", "title"),
        ("Creates a regular file and a link", "third_person", "title"),
        ("Update `readMetadata`", "one_name", "parent_title"),
    ],
)
def test_what_needs_the_sections_around_it_counts_less(text: str, feature: str, use: str) -> None:
    assert statement_features(Statement("text", 0, "assistant", text, 0.5), Salience([]))[feature] > 0
    assert load_weights(use)[feature] < 0


@pytest.mark.parametrize(
    ("text", "source", "is_deed"),
    [
        ("Added symlink detection to the copy", "closing", True),
        ("Deleted items are not logged", "closing", False),
        ("Renamed files (R) - the new path is changed", "closing", False),
        ("Added symlink detection to the copy", "before_edit", False),
    ],
)
def test_what_was_done_is_told_in_the_past(text: str, source: Source, is_deed: bool) -> None:
    assert ("deed" in statement_features(Statement(source, 0, "assistant", text, 0.5), Salience([]))) == is_deed


def test_a_remark_of_the_user_counts_less_than_an_order() -> None:
    def features(text: str) -> dict[str, float]:
        return statement_features(Statement("request", 0, "user", text, 0.0), Salience([]))

    assert "remark" in features("The colours still look the same")
    assert "remark" not in features("Change the colours of the theme")


def test_an_order_is_no_description_of_the_code() -> None:
    assert not is_description("Consolidate git status calls in the stop hook")
    assert is_description("The helper reads both files")


@pytest.mark.parametrize(
    ("part", "core"),
    [
        ("Consolidate git status calls in stop hook", "Consolidate git status calls"),
        ("Add tests for `setupDirectory`", ""),  # "Add tests" says too little
        ("Move `clean` command under `session`", "Move `clean` command"),
        ("Rename the flag to `--all`", ""),
        ("Subagent transcripts weren't read in hook", ""),
    ],
)
def test_the_core_of_a_part_is_what_was_done(part: str, core: str) -> None:
    assert core_of(part) == core


def test_a_part_goes_without_the_file() -> None:
    assert part_of("Add tests for `setupDirectory` in `setup_test.go`") == "Add tests for `setupDirectory`"
    assert ends_vaguely("Gemini hooks as well")
    assert not ends_vaguely("Gemini hooks")


def test_what_was_to_be_done_where_a_child_ended_is_done_in_the_next() -> None:
    edit = json.dumps({"file_path": "/p/format.go", "old_string": "a", "new_string": "b"})
    first = turns(
        ("user", "Use the new types everywhere"),
        ("assistant", edit, "Edit", "c1"),
        ("tool", "Updated.", "", "c1"),
        ("assistant", "Now let me update `formatOutput` to use the new types."),
    )
    second = [turn(4, "assistant", edit, "Edit", "c2"), turn(5, "tool", "Updated.", call_id="c2")]
    title = ExtractiveSummarizer().title_of_parent(summarize_sections([first, second]))
    assert not title.startswith("To do: ")


def test_a_parents_title_names_two_things_that_were_done() -> None:
    def commit(index: int, subject: str) -> list[Turn]:
        call = json.dumps({"command": "git commit -qam x"})
        return [
            turn(index, "assistant", f"Let me {subject}."),
            turn(index + 1, "assistant", json.dumps({"file_path": f"/p/f{index}.go"}), "Edit", f"e{index}"),
            turn(index + 2, "tool", "Updated.", call_id=f"e{index}"),
            turn(index + 3, "assistant", call, "Bash", f"c{index}"),
            turn(index + 4, "tool", f"[main 1a2b3c{index}] {subject}", call_id=f"c{index}"),
        ]

    sections = [commit(0, "Remove the timing output from the stop hook"), commit(5, "Add an index to the users table")]
    title = ExtractiveSummarizer().title_of_parent(summarize_sections(sections))
    assert title == "Remove timing output; Add index to users table"
