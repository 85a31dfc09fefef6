"""Damaged files (cut off, a line overwritten, a field of another type), and checks of what must survive."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ctxmem_mcp.transcripts.base import Parser, Transcript

GARBAGE = ("{", "\0\0\0", "[1, 2]", '"text"', "null", "}{", "�", '{"type":', "<<<<<<< HEAD", "[" * 5000)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@dataclass(frozen=True)
class DamagedText:
    """A text with a damaged line.

    Attributes:
        text: the text.
        intact: the whole lines before the damaged one.
        line: the damaged line's number, counted from 1.
    """

    text: str
    intact: str
    line: int


@st.composite
def damaged_lines(draw: st.DrawFn, text: str) -> DamagedText:
    """Draws the text with one line overwritten, or cut off with nothing after it."""
    lines = text.rstrip("\n").split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    intact = "".join(line + "\n" for line in lines[:at])
    if draw(st.booleans()):
        length = draw(st.integers(0, len(lines[at])))
        return DamagedText(intact + lines[at][:length], intact, at + 1)
    return DamagedText("\n".join([*lines[:at], draw(st.sampled_from(GARBAGE)), *lines[at + 1 :]]), intact, at + 1)


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """Draws the value with one part of it replaced by any value that JSON has."""
    inner = [*value] if isinstance(value, dict) else [*range(len(value))] if isinstance(value, list) else []
    if not inner or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    copy = value.copy()
    key = draw(st.sampled_from(inner))
    copy[key] = draw(mutated(value[key]))
    return copy


@st.composite
def mutated_lines(draw: st.DrawFn, text: str) -> str:
    """Draws the text with a part of one of its lines replaced."""
    lines = text.rstrip("\n").split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    return "\n".join([*lines[:at], json.dumps(draw(mutated(json.loads(lines[at])))), *lines[at + 1 :]])


def brief(transcript: Transcript) -> list[tuple[str, str | None, str]]:
    """Returns the role, the name and the content of each turn."""
    return [(turn.role, turn.name, turn.content) for turn in transcript.turns]


def contents(transcript: Transcript) -> Counter[str]:
    """Counts the contents of all turns, those of threads and abandoned branches included."""
    branches = (transcript.turns, *transcript.abandoned_branches)
    found = Counter(turn.content for branch in branches for turn in branch)
    for thread in transcript.threads:
        found += contents(thread)
    return found


def assert_intact_lines_survive(parse: Parser, damaged: DamagedText, name: str) -> Transcript:
    """Asserts that damage loses none of the turns in the lines before it. Returns the damaged file's transcript."""
    found = parse(damaged.text, name)
    lost = contents(parse(damaged.intact, name)) - contents(found)
    assert not lost
    return found


def assert_results_have_calls(transcript: Transcript) -> None:
    """Asserts that every result comes after its call."""
    called: set[str | None] = set()
    for turn in transcript.turns:
        if turn.role == "assistant":
            called.add(turn.call_id)
        if turn.role == "tool":
            assert turn.call_id in called, f"a result without its call: {turn}"
