"""Properties of every extractive summary, for any turns."""

from __future__ import annotations

import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import Summary, Turn
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from tests.summarizers.sections import (
    example_session,
    split_into_sections,
    summarize_sections,
    summary_text,
    turn,
    turns,
)

SNIPPETS = st.sampled_from(
    [
        'Can you fix `load_rows` in src/rows.py? It fails with "bad row 17".',
        "yes",
        "2",
        "ok, continue",
        "Never use eval here.",
        "My sister Ana moved to Lisbon on 3 May 2021.",
        "Fixed by closing the file in load_rows: it was opened twice.",
        "Want me to run the tests?",
        "1. Keep it\n2. Drop it",
        "Exit code 1\nE   ValueError: bad row 17\nFAILED tests/test_rows.py::test_load - ValueError: bad row 17",
        "12 passed in 0.30s",
        "[main 1a2b3c4] Close files",
        "<system-reminder>be quiet 99</system-reminder>",
        '{"file_path": "/a/rows.py", "old_string": "a", "new_string": "def load_rows(path):\\n  pass"}',
        '{"command": "pytest -q"}',
        "$ pytest -q",
        "Edit /a/b.py\n<<<<<<< old\ndef f1(x):\n=======\n>>>>>>> new",
        "```\nTypeError: unsupported\n```\nwhat is this?",
        "…",
        "\x1b[31mred\x1b[0m\u202e",
        "数値は42です。明日会いましょう。",
    ]
)
CONTENTS = st.lists(SNIPPETS | st.text(max_size=60), min_size=1, max_size=4).map("\n".join)
TURNS = st.lists(
    st.tuples(
        st.sampled_from(["user", "assistant", "system", "tool"]),
        CONTENTS,
        st.sampled_from(["", "", "Bash", "Edit", "Ana", "Ben"]),
        st.sampled_from(["", "", "c1", "c2"]),
    ),
    min_size=1,
    max_size=10,
)
_NAMES_AND_NUMBERS = re.compile(r"\d+|[A-Za-z]\w*_\w+|[a-z]+[A-Z]\w+|\w+\.\w{2,4}\b")


def lines_of(summary: Summary) -> list[str]:
    return [summary.title, summary.open_for, *summary.identifiers, *(line.text for line in summary.highlights)]


def content_of(summary: Summary) -> str:
    return "\n".join([summary.title, *summary.identifiers, *(line.text for line in summary.highlights)])


def source_of(section: list[Turn]) -> str:
    return "\n".join(turn.content + "\n" + (turn.name or "") for turn in section)


@given(TURNS)
def test_law_every_part_of_a_summary_is_one_line_without_control_characters(
    rows: list[tuple[str, str, str, str]],
) -> None:
    summary = ExtractiveSummarizer().summarize_leaf(turns(*rows))  # type: ignore[arg-type]
    assert summary.title
    assert len(summary.title) <= 60
    assert len(summary.open_for) <= 100
    assert all(line.isprintable() for line in lines_of(summary))


@given(TURNS)
def test_law_names_and_numbers_in_a_summary_come_from_its_turns(rows: list[tuple[str, str, str, str]]) -> None:
    section = turns(*rows)  # type: ignore[arg-type]
    source = source_of(section)
    summary = ExtractiveSummarizer().summarize_leaf(section)
    assert [name for name in _NAMES_AND_NUMBERS.findall(content_of(summary)) if name not in source] == []
    assert {line.index for line in summary.highlights} <= {turn.index for turn in section}


@given(st.lists(TURNS, min_size=1, max_size=5))
def test_law_names_and_numbers_in_a_parent_come_from_its_children(parts: list[list[tuple[str, str, str, str]]]) -> None:
    children = summarize_sections([turns(*part) for part in parts])  # type: ignore[arg-type]
    source = "\n".join(content_of(summary) for _, summary in children)
    parent = ExtractiveSummarizer().summarize_parent(children)
    assert [name for name in _NAMES_AND_NUMBERS.findall(content_of(parent)) if name not in source] == []
    assert parent.title
    assert len(parent.title) <= 60
    assert all(line.isprintable() for line in lines_of(parent))


@given(TURNS)
def test_law_the_same_turns_give_the_same_summary(rows: list[tuple[str, str, str, str]]) -> None:
    section = turns(*rows)  # type: ignore[arg-type]
    assert ExtractiveSummarizer().summarize_leaf(section) == ExtractiveSummarizer().summarize_leaf(list(section))


@given(st.lists(TURNS, min_size=2, max_size=6))
def test_an_ending_follows_its_error_at_every_level(parts: list[list[tuple[str, str, str, str]]]) -> None:
    children = summarize_sections([turns(*part) for part in parts])  # type: ignore[arg-type]
    for summary in [ExtractiveSummarizer().summarize_parent(children), *(summary for _, summary in children)]:
        kinds = [line.kind for line in summary.highlights]
        assert all(kinds[i - 1] == "error" and i > 0 for i, kind in enumerate(kinds) if kind == "ending")


def test_a_parent_stays_small_at_every_level() -> None:
    level = summarize_sections(split_into_sections(example_session() * 6))
    while len(level) > 1:
        groups = [level[i : i + 6] for i in range(0, len(level), 6)]
        level = [(group[0][0], ExtractiveSummarizer().summarize_parent(group)) for group in groups]
        assert max(tokenizer.count(summary_text(summary)) for _, summary in level) <= 180


@pytest.mark.parametrize("line", ["x" * 79 + "\n", "all is well here, row 17 of 20\n", "\n", "(" * 60 + "\n"])
def test_a_huge_output_costs_no_more_than_its_ends_and_its_error_is_found(line: str) -> None:
    output = line * (2_000_000 // len(line)) + "\nfatal: the disk said no\n" + line * 1_000
    call = turn(0, "assistant", json.dumps({"command": "make all"}), "Bash", "c1")
    section = [call, Turn(2, 1, b"", "tool", output, None, None, "c1", 500_000)]
    start = time.process_time()
    summary = ExtractiveSummarizer().summarize_leaf(section)
    # Generous: reading every line would take seconds, reading both ends takes a few milliseconds.
    assert time.process_time() - start < 0.5
    assert any("the disk said no" in line.text for line in summary.highlights)
