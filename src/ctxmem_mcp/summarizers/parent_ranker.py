"""Rates what the summaries of an inner node's children contain, as its title and as its lines. Pure.

A title is what one child is called or what was finished in it, or two of these that fit beside each other. The weights
are trained, as for leaves (see `statement_ranker`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from ctxmem_mcp.models import Highlight, Node, Summary
from ctxmem_mcp.summarizers.base import COMMITTED, FALLBACK_TITLE, TOPIC_SEPARATOR
from ctxmem_mcp.summarizers.statement_features import (
    Features,
    Salience,
    score,
    statement_features,
    stems,
    title_features,
)
from ctxmem_mcp.summarizers.statement_ranker import TITLE_CHARS, load_weights
from ctxmem_mcp.summarizers.statements import Source, Statement, as_title, headline, makes_title

Children = Sequence[tuple[Node, Summary]]

# A title of two parts has parts of at most this many characters each, of which at most two fifths are cut off.
_PART_CHARS_MIN, _PART_CHARS_MAX, _PART_SHARE_MIN = 14, 40, 0.6
_PART_SOURCES = frozenset(("title", "commit", "outcome", "request"))
_TITLE_CHARS_MIN = 8
_TITLE_KINDS = frozenset(("request", "decision", "outcome", "fact"))
# The same lines are shortened again each time a section closes.
_short = functools.lru_cache(maxsize=4_096)(as_title)
# How much a line's words count for what the children are about.
_TITLE_WEIGHT, _IDENTIFIERS_WEIGHT = 1.0, 0.5
_LINE_WEIGHTS = {"request": 1.5, "commit": 2.0, "outcome": 1.0, "decision": 0.7, "fact": 0.4, "error": 0.3, "file": 0.5}
# Titles of sections that are named after their calls.
_WORK_TITLES = ("Edited ", "Reading ", "Running ", "Searching ", "Calls of ")


class TitleOption(NamedTuple):
    """A title that an inner node may get, and its features."""

    title: str
    features: Features


class _Single(NamedTuple):
    statement: Statement
    option: TitleOption


class ParentRanker:
    """Rates the titles and lines that children offer their parent."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._total = max(1, sum(node.tokens for node, _ in children))
        self._salience = Salience(_texts(children))

    def best_title(self) -> str:
        """Returns the best title; empty if the children offer none."""
        weights = load_weights("parent_title")
        best = max(self.title_options(), key=lambda option: score(option.features, weights), default=None)
        return best.title if best else ""

    def line_value(self, lines: Sequence[Highlight], child: int, rank: int) -> float:
        """Returns the probability that a reader wants these lines of a child. rank: their number in the child."""
        return 1.0 / (1.0 + math.exp(-score(self.line_features(lines, child, rank), load_weights("parent_line"))))

    def title_options(self) -> list[TitleOption]:
        """Returns all titles, of one part and of two."""
        singles = list(self._singles())
        return [*(single.option for single in singles), *self._pairs(singles)]

    def line_features(self, lines: Sequence[Highlight], child: int, rank: int) -> Features:
        """Returns the features of the lines of a child, which are shown together or not at all."""
        text = " ".join(line.text for line in lines)
        place = child / max(1, len(self._children) - 1)
        statement = Statement(_source(lines[0]), lines[0].index, lines[0].role, text, place, rank)
        return self._features(statement, child) | {"users": float(lines[0].role == "user")}

    def _singles(self) -> Iterator[_Single]:
        last = max(1, len(self._children) - 1)
        for child, (node, summary) in enumerate(self._children):
            statements = [_title_statement(node, summary, child / last)] if summary.title != FALLBACK_TITLE else []
            statements += [
                Statement(_source(line), line.index, line.role, _without_hash(line.text), child / last, rank)
                for rank, line in enumerate(summary.highlights)
                if (line.kind in _TITLE_KINDS and line.role != "tool") or line.text.startswith(COMMITTED)
            ]
            for statement in statements:
                title = _short(statement.text, TITLE_CHARS)
                if len(title) >= _TITLE_CHARS_MIN and makes_title(title, statement.text):
                    features = self._features(statement, child)
                    yield _Single(
                        statement, TitleOption(title, title_features(features, statement, title, self._salience))
                    )

    def _pairs(self, singles: Sequence[_Single]) -> Iterator[TitleOption]:
        parts = [(part, single) for single in singles if (part := _part_of(single.statement))]
        for (left, first), (right, second) in combinations(parts, 2):
            title = f"{left}{TOPIC_SEPARATOR}{right}"
            if first.statement.place == second.statement.place or len(title) > TITLE_CHARS:
                continue
            words, others = frozenset(stems(left)), frozenset(stems(right))
            if 2 * len(words & others) <= min(len(words), len(others)):
                yield TitleOption(title, self._pair_features(title, words | others, first, second))

    def _pair_features(self, title: str, words: frozenset[str], first: _Single, second: _Single) -> Features:
        one, other = first.option.features, second.option.features
        mean, share = self._salience.of(words)
        found = {name: (one.get(name, 0.0) + other.get(name, 0.0)) / 2 for name in {*one, *other}}
        return found | {
            "pair": 1.0,
            "salience": mean,
            "share": share,
            "top": self._salience.top(words),
            "chars": len(title) / TITLE_CHARS,
            "size": one.get("size", 0.0) + other.get("size", 0.0),
        }

    def _features(self, statement: Statement, child: int) -> Features:
        size = self._children[child][0].tokens / self._total
        return statement_features(statement, self._salience) | {"size": size}


def _texts(children: Children) -> Iterator[tuple[str, float]]:
    for _, summary in children:
        yield summary.title, _TITLE_WEIGHT
        yield " ".join(summary.identifiers[:4]), _IDENTIFIERS_WEIGHT
        for line in summary.highlights:
            yield line.text, _LINE_WEIGHTS.get(_source(line), _IDENTIFIERS_WEIGHT)


def _title_statement(node: Node, summary: Summary, place: float) -> Statement:
    source: Source = "file" if summary.title.startswith(_WORK_TITLES) else "title"
    return Statement(source, node.first, "assistant", summary.title, place)


def _source(line: Highlight) -> Source:
    return "commit" if line.text.startswith(COMMITTED) else line.kind


def _without_hash(text: str) -> str:
    """'Close files' of 'Committed 1a2b3c4: Close files'."""
    return text.split(": ", 1)[-1] if text.startswith(COMMITTED) else text


def _part_of(statement: Statement) -> str:
    """The statement as one of a title's two parts; empty if it makes none."""
    if statement.source not in _PART_SOURCES:
        return ""
    whole = headline(statement.text)
    part = as_title(whole, _PART_CHARS_MAX)
    is_whole_enough = len(part) >= _PART_SHARE_MIN * len(whole) and not part.endswith("…")
    return part if is_whole_enough and len(part) >= _PART_CHARS_MIN else ""
