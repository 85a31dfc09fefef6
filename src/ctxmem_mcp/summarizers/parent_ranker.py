"""Rates what the summaries of an inner node's children contain, as its title and as its lines. Pure.

A title is that of a child, or the result of a child, or two of these that fit beside each other. The weights
are trained, as for leaves (see `statement_ranker`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ctxmem_mcp.models import Highlight, Node, Summary
from ctxmem_mcp.summarizers.base import COMMITTED, TOPIC_SEPARATOR, is_uninformative
from ctxmem_mcp.summarizers.headlines import as_title, has_verb, makes_title
from ctxmem_mcp.summarizers.section_states import STATES
from ctxmem_mcp.summarizers.statement_features import (
    Features,
    Salience,
    is_detail,
    is_order,
    score,
    statement_features,
    title_features,
)
from ctxmem_mcp.summarizers.statement_ranker import load_weights
from ctxmem_mcp.summarizers.statements import Source, Statement, commit_subject
from ctxmem_mcp.summarizers.title_options import TITLE_CHARS, Single, TitleOption, pair_options, part_of, with_state
from ctxmem_mcp.summarizers.topics import common_topic

Children = Sequence[tuple[Node, Summary]]

_PART_SOURCES = frozenset(("title", "commit", "outcome", "request"))
_REQUEST_SOURCES = frozenset(("request", "title"))
_TITLE_CHARS_MIN = 8
# Only the statements that promise the best titles are tried as such.
_TITLES_TRIED = 12
_TITLE_KINDS = frozenset(("request", "decision", "outcome", "fact"))
# How much a line's words count for what the children are about.
_TITLE_WEIGHT, _IDENTIFIERS_WEIGHT = 1.0, 0.5
_LINE_WEIGHTS = {"request": 1.5, "commit": 2.0, "outcome": 1.0, "decision": 0.7, "fact": 0.4, "error": 0.3, "file": 0.5}
# Titles of sections that are named after their calls.
_ERROR_TITLE = "Error: "
_WORK_TITLES = ("Edited ", "Reading ", "Running ", "Searching ", "Calls of ")


class ParentRanker:
    """Rates the titles and lines that children offer their parent."""

    def __init__(self, children: Children) -> None:
        self._children = children
        self._total = max(1, sum(node.tokens for node, _ in children))
        self._salience = Salience(_texts(children))
        self._governed = _governed_shares(children, self._total)
        # A line is described once, whether as a line or as a title.
        self._described: dict[tuple[int, int, str], Features] = {}

    def best_title(self) -> str:
        """Returns the best title; empty if the children offer none."""
        weights = load_weights("parent_title")
        options = self.title_options(tried=_TITLES_TRIED)
        best = max(options, key=lambda option: score(option.features, weights), default=None)
        return best.title if best else ""

    def line_value(self, lines: Sequence[Highlight], child: int, rank: int) -> float:
        """Returns the probability that a reader wants these lines of a child. rank: their number in the child."""
        return 1.0 / (1.0 + math.exp(-score(self.line_features(lines, child, rank), load_weights("parent_line"))))

    def title_options(self, tried: int | None = None) -> list[TitleOption]:
        """Returns the titles of one part and of two. tried: of how many statements; None for all."""
        singles = list(self._singles(tried))
        state = _last_state(self._children)
        stated = [option for single in singles if state and (option := with_state(single, state))]
        options = [*(single.option for single in singles), *stated, *pair_options(singles, self._salience)]
        if topic := common_topic(self._children):
            options.append(self._common_option(topic))
        return options

    def _common_option(self, topic: str) -> TitleOption:
        """The topic that most children have in common, as a title."""
        statement = Statement("title", self._children[0][0].first, "assistant", topic, 0.0)
        features = title_features(self._features(statement, 0), statement, topic, self._salience)
        return TitleOption(topic, features | {"common": 1.0, "size": 1.0})

    def line_features(self, lines: Sequence[Highlight], child: int, rank: int) -> Features:
        """Returns the features of the lines of a child, which are shown together or not at all."""
        text = " ".join(line.text for line in lines)
        place = child / max(1, len(self._children) - 1)
        statement = Statement(_source(lines[0]), lines[0].index, lines[0].role, text, place, rank)
        return self._features(statement, child) | {"users": float(lines[0].role == "user")}

    def _singles(self, tried: int | None) -> Iterator[Single]:
        described = [(statement, self._features(statement, child)) for child, statement in self._statements()]
        if tried is not None and len(described) > tried:
            weights = load_weights("parent_title")
            described = sorted(described, key=lambda entry: -score(entry[1], weights))[:tried]
            described.sort(key=lambda entry: entry[0].place)
        for statement, features in described:
            title = as_title(statement.text, TITLE_CHARS)
            if len(title) >= _TITLE_CHARS_MIN and makes_title(title, statement.text):
                option = TitleOption(title, title_features(features, statement, title, self._salience))
                yield Single(statement, option, _part(statement))

    def _statements(self) -> Iterator[tuple[int, Statement]]:
        """The children's titles and lines that may be titles, with the child's number."""
        last = max(1, len(self._children) - 1)
        for child, (node, summary) in enumerate(self._children):
            if not is_uninformative(summary.title):
                yield child, _title_statement(node, summary, child / last)
            for rank, line in enumerate(summary.highlights):
                if (line.kind in _TITLE_KINDS and line.role != "tool") or line.text.startswith(COMMITTED):
                    text = commit_subject(line.text) if line.text.startswith(COMMITTED) else line.text
                    yield child, Statement(_source(line), line.index, line.role, text, child / last, rank)

    def _features(self, statement: Statement, child: int) -> Features:
        key = (child, statement.rank, statement.text)
        if key not in self._described:
            size = self._children[child][0].tokens / self._total
            found = statement_features(statement, self._salience) | {"size": size}
            if statement.source in _REQUEST_SOURCES and (share := self._governed.get(statement.index)):
                found["governs"] = share
            self._described[key] = found
        return self._described[key]


def _governed_shares(children: Children, total: int) -> dict[int, float]:
    """The share of the children's tokens that follows each request, up to the next one, by the request's turn."""
    starts: dict[int, float] = {}
    before = 0
    for node, summary in children:
        for line in summary.highlights:
            if line.kind == "request" and line.role == "user" and is_order(line.text):
                passed = (line.index - node.first) / (node.last - node.first + 1)
                starts[line.index] = before + node.tokens * max(0.0, min(1.0, passed))
        before += node.tokens
    ends = [*[*starts.values()][1:], float(before)]
    return {index: (end - start) / total for (index, start), end in zip(starts.items(), ends, strict=False)}


def _texts(children: Children) -> Iterator[tuple[str, float]]:
    for _, summary in children:
        yield summary.title, _TITLE_WEIGHT
        yield " ".join(summary.identifiers[:4]), _IDENTIFIERS_WEIGHT
        for line in summary.highlights:
            yield line.text, _LINE_WEIGHTS.get(_source(line), _IDENTIFIERS_WEIGHT)


def _title_statement(node: Node, summary: Summary, place: float) -> Statement:
    is_error = summary.title.startswith(_ERROR_TITLE)
    source: Source = "file" if summary.title.startswith(_WORK_TITLES) else "error" if is_error else "title"
    if any(as_title(commit_subject(line.text), TITLE_CHARS) == summary.title for line in _commits(summary)):
        source = "commit"
    index = node.first
    for line in summary.highlights:
        if line.kind == "request" and as_title(line.text, TITLE_CHARS) == summary.title:
            index = line.index
    return Statement(source, index, "assistant", summary.title, place)


def _commits(summary: Summary) -> list[Highlight]:
    return [line for line in summary.highlights if line.text.startswith(COMMITTED)]


def _source(line: Highlight) -> Source:
    return "commit" if line.text.startswith(COMMITTED) else line.kind


def _part(statement: Statement) -> str:
    if statement.source not in _PART_SOURCES:
        return ""
    text, _, state = statement.text.rpartition(TOPIC_SEPARATOR)
    text = text if state in STATES else statement.text
    is_clear = "…" not in text and TOPIC_SEPARATOR not in text and has_verb(text) and not is_detail(text)
    return part_of(text) if is_clear else ""


def _last_state(children: Children) -> str:
    """The state that the title of the last child ends with, if any."""
    state = children[-1][1].title.rsplit(TOPIC_SEPARATOR, 1)[-1]
    return state if state in STATES else ""
