"""Builds what a recap, a host's summary of the history that it compacted, left out. Pure.

The lines are those of a hand-off brief, without the lines that the recap states already. A recap words things in its
own way, so a line counts as stated if a few adjacent lines of the recap have most of its words; names and numbers
count double, because a line is about them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from ctxmem_mcp.models import Highlight
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.analyzer import EXACT, analyze
from ctxmem_mcp.views.brief_parts import BriefLine, BriefPart, Section, brief_parts
from ctxmem_mcp.views.handoff_brief import parts_text, select_lines
from ctxmem_mcp.views.layout import Quote

# A line is stated if adjacent lines of the recap have this share of its words.
STATED_SHARE = 0.7
ADJACENT_LINES = 3
_NAME_WEIGHT = 2.0
# Each part's share of the tokens. Recaps best report what was requested, and what came of it.
_SHARES = {
    "Standing instructions": 0.1,
    "Goal": 0.05,
    "Open at the end": 0.1,
    "What came of it": 0.03,
    "Causes and findings": 0.16,
    "The user's terms": 0.12,
    "Decisions": 0.12,
    "Changed": 0.06,
    "Errors, and how each ended": 0.2,
    "Tests that failed": 0.1,
    "Other requests": 0.1,
    "Also stated": 0.1,
    "Where to look (expand_node)": 0.06,
}
_FAILED = "Tests that failed"
_TESTS_PER_LINE = 3
_LOOK = "Where to look (expand_node)"
# Sections named there at most: the others are in the outline.
_SECTIONS_MAX = 8
_TURN_AT_END = lazy_regex(r" \(t\d[\w-]*(?: \w+)?\)\Z")
_NOT_WORD = lazy_regex(r"\W+")
_MARKUP = lazy_regex(r"^\s*(?:- )?(?:later: |ended: )?")


class RecapWords:
    """The words of a recap, by its lines."""

    def __init__(self, recap: str) -> None:
        lines = [frozenset(analyze(line)) for line in recap.split("\n") if line.strip()]
        self._windows = [frozenset().union(*lines[i : i + ADJACENT_LINES]) for i in range(len(lines))]

    def share_of(self, text: str) -> float:
        """Returns the largest share of the text's words that adjacent lines have; 1 if the text has no words."""
        weights = {term: _weight(term) for term in analyze(text)}
        total = sum(weights.values())
        found = (sum(weight for term, weight in weights.items() if term in window) for window in self._windows)
        return max(found, default=0.0) / total if total else 1.0

    def state(self, text: str) -> bool:
        """Returns whether the recap states the text already."""
        return self.share_of(text) >= STATED_SHARE


def build_supplement(
    sections: Sequence[Section],
    standing: Sequence[Quote],
    reasons: Sequence[Highlight],
    failed_tests: Sequence[Highlight],
    recap: str,
    budget: int,
    count: Callable[[str], int],
) -> str:
    """Returns the lines that a recap leaves out, as many as fit; empty if it leaves out nothing.

    Args:
        sections: The nodes of the compacted history with their summaries, in order.
        standing: The user's standing instructions, newest first.
        reasons: The agent's statements of a reason or a decision, in order.
        failed_tests: The names of tests that failed, each with the turn that reports it.
        recap: The host's summary of that history.
        budget: Maximum tokens of the text.
        count: Counts tokens.
    """
    words = RecapWords(recap)
    parts = [_left_out(part, words) for part in _with_facts(brief_parts(sections, standing), reasons, sections)]
    reported = {_bare(line.text) for part in parts for line in part.lines}
    parts.insert(-1, _failed_part([test for test in failed_tests if test.text not in reported], words))
    parts = [part for part in parts if part.lines]
    room = budget
    while parts and room > 0:
        taken = select_lines(parts, room, room, count)
        text = parts_text(parts, taken)
        over = count(text) - budget
        if over <= 0:
            return text if any(taken) else ""
        room -= over + 1
    return ""


def _with_facts(
    parts: Sequence[BriefPart], reasons: Sequence[Highlight], sections: Sequence[Section]
) -> Iterator[BriefPart]:
    """The parts with the reasons and all other facts before the last one, the newest first."""
    seen = {_NOT_WORD.sub("", _bare(line.text)) for part in parts for line in part.lines}
    facts = [line for _, summary in sections for line in summary.highlights if line.kind == "fact"]
    lines: list[BriefLine] = []
    for number, fact in enumerate([*reversed(reasons), *reversed(facts)]):
        words = _NOT_WORD.sub("", fact.text)
        if fact.role in ("user", "assistant") and words not in seen:
            seen.add(words)
            lines.append(BriefLine((fact.index, number), f"- {fact.text} (t{fact.index} {fact.role})"))
    yield from (part for part in parts if part.title != _LOOK)
    yield BriefPart("Also stated", 0.1, lines)
    yield from (replace(part, lines=part.lines[:_SECTIONS_MAX]) for part in parts if part.title == _LOOK)


def _failed_part(failed_tests: Sequence[Highlight], words: RecapWords) -> BriefPart:
    """A line for each turn that reports failed tests, the newest first, without those that the recap names."""
    names: dict[int, list[str]] = {}
    for test in sorted(failed_tests, key=lambda test: -test.index):
        if not words.state(test.text):
            names.setdefault(test.index, []).append(test.text)
    lines = [
        BriefLine((index, number), f"- {', '.join(tests[at : at + _TESTS_PER_LINE])} (t{index} tool)")
        for index, tests in names.items()
        for number, at in enumerate(range(0, len(tests), _TESTS_PER_LINE))
    ]
    return BriefPart(_FAILED, _SHARES[_FAILED], lines)


def _left_out(part: BriefPart, words: RecapWords) -> BriefPart:
    """The part without the lines that the recap states. An error's ending stays or goes with the error."""
    lines: list[BriefLine] = []
    is_stated = False
    for line in part.lines:
        if not line.text.startswith("  "):
            is_stated = words.state(_bare(line.text))
        if not is_stated:
            lines.append(line)
    return replace(part, share=_SHARES.get(part.title, part.share), lines=lines)


def _bare(line: str) -> str:
    """A line's text without what marks it as a line."""
    return _MARKUP.sub("", _TURN_AT_END.sub("", line))


def _weight(term: str) -> float:
    return _NAME_WEIGHT if term.startswith(EXACT) or any(map(str.isdigit, term)) else 1.0
