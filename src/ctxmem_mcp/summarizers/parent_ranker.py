"""Rates what the summaries of an inner node's children contain, as its title and as its lines. Pure.

A title is that of a child, or the result of a child, or two of these that fit beside each other. The weights
are trained, as for leaves (see `statement_ranker`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

from ctxmem_mcp.models import Highlight, Node, Summary
from ctxmem_mcp.summarizers.base import COMMITTED, TO_DO, TOPIC_SEPARATOR, is_uninformative
from ctxmem_mcp.summarizers.headlines import as_title, has_verb, headline, makes_title
from ctxmem_mcp.summarizers.lead_ins import wanted_by_user
from ctxmem_mcp.summarizers.section_states import BLOCKED_STATE, STATES
from ctxmem_mcp.summarizers.statement_features import (
    Features,
    Salience,
    is_detail,
    is_order,
    score,
    statement_features,
    stems,
    tells_only_tests,
    title_features,
)
from ctxmem_mcp.summarizers.statement_ranker import load_weights
from ctxmem_mcp.summarizers.statements import Source, Statement, commit_subject
from ctxmem_mcp.summarizers.title_options import (
    TITLE_CHARS,
    Single,
    TitleOption,
    core_of,
    fitting_parts,
    pair_options,
    part_of,
    with_blocked,
    with_state,
)
from ctxmem_mcp.summarizers.topics import common_topic

Children = Sequence[tuple[Node, Summary]]

_PART_SOURCES = frozenset(("title", "commit", "outcome", "request"))
_REQUEST_SOURCES = frozenset(("request", "title"))
_TITLE_CHARS_MIN = 8
# How much of the work before a commit its subject tells.
_OF_COMMIT = 0.7
# A title names what was done in this share of the work besides the main thing, if it is worth it.
_REST_SHARE_MIN, _REST_QUALITY_MIN = 0.15, 7.0
# The turn of a title that is no request.
_NO_TURN = -1
# The agent restates a request within so many turns.
_RESTATED_TURNS = 2
# A topic that most children have in common covers this share of the work.
_COMMON_SIZE = 0.6
# A child talks about the same as a statement from this share of the statement's stems on; it then counts so much at
# most.
_COMMON_LEAST, _COMMON_STEMS_MIN, _MENTIONED = 0.4, 3, 0.6
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
        self._committed = _committed_shares(children, self._total)
        self._words = [_words_of(summary) for _, summary in children]
        # A line is described once, whether as a line or as a title.
        self._described: dict[tuple[int, int, Source, str], Features] = {}

    def best_title(self) -> str:
        """Returns the best title; empty if the children offer none."""
        weights = load_weights("parent_title")
        singles = list(self._singles(_TITLES_TRIED))
        best = max(self._options(singles), key=lambda option: score(option.features, weights), default=None)
        if best is None:
            return ""
        topics = _topics_of(best.title)
        main = next((single for single in singles if [single.option.title] == topics), None)
        if _last_state(self._children) == BLOCKED_STATE and (main or not self._committed):
            return with_blocked(topics[-1] if len(topics) > 1 else best.title)
        return (main and self._with_rest(main, singles)) or best.title

    def _with_rest(self, main: Single, singles: Sequence[Single]) -> str:
        """Returns the main title joined with one for the rest of the work, in their order.

        Empty if the main title covers most of the work, or no other is worth a place beside it.
        """
        weights = load_weights("parent_title")
        best, best_value = "", 0.0
        words = frozenset(stems(main.option.title))
        for other in singles:
            gain = math.fsum(map(max, main.covered, other.covered)) - math.fsum(main.covered)
            quality = score(other.option.features | {"covered": 0.0}, weights)
            both = fitting_parts(*sorted((main, other), key=lambda single: single.statement.place))
            if both is None or gain < _REST_SHARE_MIN or quality < _REST_QUALITY_MIN:
                continue
            common = len(words.intersection(stems(other.option.title)))
            if 2 * common <= min(len(words), len(stems(other.option.title))):
                value = quality + weights["covered"] * gain
                if value > best_value:
                    best, best_value = TOPIC_SEPARATOR.join(both), value
        return best

    def line_value(self, lines: Sequence[Highlight], child: int, rank: int) -> float:
        """Returns the probability that a reader wants these lines of a child. rank: their number in the child."""
        return 1.0 / (1.0 + math.exp(-score(self.line_features(lines, child, rank), load_weights("parent_line"))))

    def title_options(self, tried: int | None = None) -> list[TitleOption]:
        """Returns the titles of one part and of two. tried: of how many statements; None for all."""
        return self._options(list(self._singles(tried)))

    def _options(self, singles: Sequence[Single]) -> list[TitleOption]:
        state = _last_state(self._children)
        stated = [option for single in singles if state and (option := with_state(single, state))]
        options = [*(single.option for single in singles), *stated, *pair_options(singles, self._salience)]
        if topic := common_topic(self._children):
            options.append(self._common_option(topic))
        return options

    def _common_option(self, topic: str) -> TitleOption:
        """The topic that most children have in common, as a title."""
        statement = Statement("title", _NO_TURN, "assistant", topic, 0.0)
        features = title_features(self._features(statement, 0), statement, topic, self._salience)
        return TitleOption(topic, features | {"common": 1.0, "size": _COMMON_SIZE, "covered": _COMMON_SIZE})

    def line_features(self, lines: Sequence[Highlight], child: int, rank: int) -> Features:
        """Returns the features of the lines of a child, which are shown together or not at all."""
        text = " ".join(line.text for line in lines)
        place = child / max(1, len(self._children) - 1)
        statement = Statement(_source(lines[0]), lines[0].index, lines[0].role, text, place, rank)
        return self._features(statement, child) | {"users": float(lines[0].role == "user")}

    def _singles(self, tried: int | None) -> Iterator[Single]:
        described = [
            (statement, self._features(statement, child), self._covered(statement, child))
            for child, statement in self._statements()
        ]
        if tried is not None and len(described) > tried:
            weights = load_weights("parent_title")
            described.sort(key=lambda entry: -score(entry[1], weights) - weights["covered"] * math.fsum(entry[2]))
            described = sorted(described[:tried], key=lambda entry: entry[0].place)
        for statement, features, covered in described:
            title = as_title(statement.title_text, TITLE_CHARS)
            if len(title) >= _TITLE_CHARS_MIN and makes_title(title, statement.title_text):
                found = title_features(features, statement, title, self._salience)
                option = TitleOption(title, found | {"covered": math.fsum(covered)})
                yield Single(
                    statement, option, part := _part(statement), core_of(part, statement.source == "commit"), covered
                )

    def _statements(self) -> Iterator[tuple[int, Statement]]:
        """The children's titles and lines that may be titles, with the child's number."""
        last = len(self._children) - 1
        for child, (node, summary) in enumerate(self._children):
            for statement in _statements_of(node, summary, child / max(1, last)):
                if child < last:  # what was to be done where a child ends is done in the next one
                    statement.text = statement.text.removeprefix(TO_DO)
                yield child, statement

    def _features(self, statement: Statement, child: int) -> Features:
        key = (child, statement.rank, statement.source, statement.text)
        if key not in self._described:
            size = self._children[child][0].tokens / self._total
            found = statement_features(statement, self._salience) | {"size": size}
            if self._may_govern(statement) and (shares := self._governed.get(statement.index)):
                found["governs"] = math.fsum(shares)
            self._described[key] = found
        return self._described[key]

    @staticmethod
    def _may_govern(statement: Statement) -> bool:
        return statement.source in _REQUEST_SOURCES or statement.title_text != statement.text

    def _covered(self, statement: Statement, child: int) -> tuple[float, ...]:
        """The share of all tokens that a statement of a child stands for, by child: its own, what it governs, and of
        the others as much as they talk about the same."""
        words = frozenset(stems(statement.title_text))
        governed: Sequence[float] = ()
        if statement.source == "commit":
            governed = self._committed.get(statement.text, ())
        elif self._may_govern(statement):
            governed = self._governed.get(statement.index, ())
        covered = []
        for i, (node, _) in enumerate(self._children):
            share = node.tokens / self._total
            common = len(words & self._words[i]) / max(_COMMON_STEMS_MIN, len(words))
            part = 1.0 if i == child else _MENTIONED * max(0.0, common - _COMMON_LEAST) / (1.0 - _COMMON_LEAST)
            covered.append(max(share * part, governed[i] if governed else 0.0))
        return tuple(covered)


def _statements_of(node: Node, summary: Summary, place: float) -> Iterator[Statement]:
    if not is_uninformative(summary.title):
        yield _title_statement(node, summary, place)
    if len(topics := _topics_of(summary.title)) > 1:
        for topic in topics:
            yield Statement("title", _NO_TURN, "assistant", topic, place)
    for rank, line in enumerate(summary.highlights):
        if (line.kind in _TITLE_KINDS and line.role != "tool") or line.text.startswith(COMMITTED):
            text = commit_subject(line.text) if line.text.startswith(COMMITTED) else line.text
            yield Statement(_source(line), line.index, line.role, text, place, rank)


def _governed_shares(children: Children, total: int) -> dict[int, tuple[float, ...]]:
    """The share of all tokens that follows each request up to the next one, by child, for each request's turn."""
    starts: dict[int, float] = {}
    restated: dict[int, int] = {}
    before, borders = 0, [0]
    for node, summary in children:
        for line in summary.highlights:
            wanted = wanted_by_user(line.text)
            if wanted and starts and line.index - (last := [*starts][-1]) <= _RESTATED_TURNS:
                restated[line.index] = last
            elif is_order(wanted) if wanted else line.kind == "request" and line.role == "user" and is_order(line.text):
                passed = (line.index - node.first) / (node.last - node.first + 1)
                starts[line.index] = before + node.tokens * max(0.0, min(1.0, passed))
        before += node.tokens
        borders.append(before)
    ends = [*[*starts.values()][1:], float(before)]
    shares = {
        index: tuple(max(0.0, min(end, to) - max(start, since)) / total for since, to in pairwise(borders))
        for (index, start), end in zip(starts.items(), ends, strict=False)
    }
    return shares | {index: shares[request] for index, request in restated.items()}


def _committed_shares(children: Children, total: int) -> dict[str, tuple[float, ...]]:
    """The share of all tokens that stands between each commit and the one before it, by child, for each subject."""
    shares: dict[str, tuple[float, ...]] = {}
    since = 0
    for child, (_, summary) in enumerate(children):
        if subjects := [commit_subject(line.text) for line in _commits(summary)]:
            sizes = [
                _OF_COMMIT * node.tokens / total / len(subjects) if since <= i <= child else 0.0
                for i, (node, _) in enumerate(children)
            ]
            shares |= dict.fromkeys(subjects, tuple(sizes))
            since = child + 1
    return shares


def _words_of(summary: Summary) -> frozenset[str]:
    texts = (summary.title, *summary.identifiers, *(line.text for line in summary.highlights))
    return frozenset[str]().union(*map(stems, texts))


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
    index = _NO_TURN
    for line in summary.highlights:
        wanted = wanted_by_user(line.text) or (line.text if line.kind == "request" else "")
        if wanted and as_title(wanted, TITLE_CHARS) == summary.title:
            index = line.index
    return Statement(source, index, "assistant", summary.title, place)


def _commits(summary: Summary) -> list[Highlight]:
    return [line for line in summary.highlights if line.text.startswith(COMMITTED)]


def _source(line: Highlight) -> Source:
    return "commit" if line.text.startswith(COMMITTED) else line.kind


def _part(statement: Statement) -> str:
    text = statement.title_text
    if statement.source not in _PART_SOURCES and text == statement.text:
        return ""
    topic, _, state = text.rpartition(TOPIC_SEPARATOR)
    text = topic if state in STATES else text
    if "…" in text or TOPIC_SEPARATOR in text or is_detail(text) or tells_only_tests(text):
        return ""
    part = part_of(text) if has_verb(text) else ""
    if not part and statement.source == "commit":  # a subject begins with a verb, known or not
        part = part_of(core_of(headline(text), is_order=True))
    return part


def _topics_of(title: str) -> list[str]:
    """The topics of a title, without the state in which its section ended."""
    return [topic for topic in title.split(TOPIC_SEPARATOR) if topic not in STATES]


def _last_state(children: Children) -> str:
    """The state that the title of the last child ends with, if any, or that a commit was blocked and none followed."""
    for _, summary in reversed(children):
        if _commits(summary):
            break
        if summary.title.endswith(BLOCKED_STATE):
            return BLOCKED_STATE
    state = children[-1][1].title.rsplit(TOPIC_SEPARATOR, 1)[-1]
    return state if state in STATES else ""
