"""What happens to files: cut off, a line overwritten, a field that is not what it was. And what must survive it."""

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
class Damaged:
    """intact: the whole lines before the damage. line: the damaged one's number, from 1."""

    text: str
    intact: str
    line: int


@st.composite
def damaged_lines(draw: st.DrawFn, text: str) -> Damaged:
    """The text with one line cut off (and nothing after it) or overwritten."""
    lines = text.rstrip("\n").split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    intact = "".join(line + "\n" for line in lines[:at])
    if draw(st.booleans()):
        kept = draw(st.integers(0, len(lines[at])))
        return Damaged(intact + lines[at][:kept], intact, at + 1)
    return Damaged("\n".join([*lines[:at], draw(st.sampled_from(GARBAGE)), *lines[at + 1 :]]), intact, at + 1)


@st.composite
def twisted(draw: st.DrawFn, value: Any) -> Any:
    """The value with one part of it replaced by whatever JSON can hold."""
    inner = [*value] if isinstance(value, dict) else [*range(len(value))] if isinstance(value, list) else []
    if not inner or draw(st.integers(0, 9)) == 0:
        return draw(VALUES)
    copy = value.copy()
    key = draw(st.sampled_from(inner))
    copy[key] = draw(twisted(value[key]))
    return copy


@st.composite
def twisted_lines(draw: st.DrawFn, text: str) -> str:
    """The text with something in one of its lines replaced."""
    lines = text.rstrip("\n").split("\n")
    at = draw(st.integers(0, len(lines) - 1))
    return "\n".join([*lines[:at], json.dumps(draw(twisted(json.loads(lines[at])))), *lines[at + 1 :]])


def contents(transcript: Transcript) -> Counter[str]:
    """All that a transcript tells, threads and ways that were left included."""
    told = Counter(turn.content for way in (transcript.turns, *transcript.abandoned_branches) for turn in way)
    for thread in transcript.threads:
        told += contents(thread)
    return told


def assert_intact_lines_survive(parse: Parser, damaged: Damaged, name: str) -> Transcript:
    """All that the lines before the damage told is told still. Gives the damaged file's transcript."""
    found = parse(damaged.text, name)
    lost = contents(parse(damaged.intact, name)) - contents(found)
    assert not lost
    return found


def assert_results_have_calls(transcript: Transcript) -> None:
    """Every result's call stands before it."""
    called: set[str | None] = set()
    for turn in transcript.turns:
        if turn.role == "assistant":
            called.add(turn.call_id)
        if turn.role == "tool":
            assert turn.call_id in called, f"a result without its call: {turn}"
