"""An inner node's summary, made from its children's summaries and nothing else. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ctxmem_mcp.models import EXTRACTIVE, Highlight, HighlightKind, Node, Summary
from ctxmem_mcp.summarizers.base import OPEN_THERE, UNRESOLVED
from ctxmem_mcp.summarizers.headlines import as_title, without_ellipsis
from ctxmem_mcp.summarizers.highlights import Candidate, select_best
from ctxmem_mcp.summarizers.identifiers import COUNT_MAX, first_fitting
from ctxmem_mcp.summarizers.open_hints import count_omitted, join_within_limit
from ctxmem_mcp.summarizers.parent_ranker import ParentRanker
from ctxmem_mcp.summarizers.sentences import shorten
from ctxmem_mcp.summarizers.title_options import TITLE_CHARS
from ctxmem_mcp.summarizers.topics import common_topic, join_topics

HIGHLIGHT_TOKENS, NAMES_TOKENS = 126, 24
# A parent's line is a headline of its child's, so that more of them fit.
LINE_CHARS = 85
_LINE_VALUE_SCALE = 70.0
# How an error ended is asked for later whatever the rest of the section is about.
_ENDED_VALUE = 40.0
# What the user rejected or ruled holds for all that follows.
_USERS_DECISION_VALUE = 4.0
_VALUES = {"request": 6.0, "error": 7.0, "decision": 5.5, "outcome": 4.5, "file": 2.5, "fact": 3.5, "ending": 1.0}
_WORK_KINDS = frozenset(("outcome", "file", "error", "ending"))
# Kinds whose omitted highlights are counted.
_COUNTED_KINDS: tuple[HighlightKind, ...] = ("error", "request", "decision", "outcome", "fact")


def summarize_parent(children: Sequence[tuple[Node, Summary]]) -> Summary:
    """Summarises an inner node from its children, in order."""
    summaries = [summary for _, summary in children]
    ranker = ParentRanker(children) if _is_work(children) else None
    selected = select_best(_candidates(children, ranker), HIGHLIGHT_TOKENS)
    open_for = _open_hint(summaries, selected)
    return Summary(EXTRACTIVE, _title(children, ranker), selected, _identifiers(summaries), open_for)


def title_of_parent(children: Sequence[tuple[Node, Summary]]) -> str:
    """Returns an inner node's title: at most 60 characters."""
    return _title(children, ParentRanker(children) if _is_work(children) else None)


def _title(children: Sequence[tuple[Node, Summary]], ranker: ParentRanker | None) -> str:
    title = ranker.best_title() if ranker is not None else common_topic(children)
    return without_ellipsis(title or shorten(join_topics(children), TITLE_CHARS))


def _is_work(children: Sequence[tuple[Node, Summary]]) -> bool:
    """Whether tools were called in any child."""
    return any(line.kind in _WORK_KINDS for _, summary in children for line in summary.highlights)


def _candidates(children: Sequence[tuple[Node, Summary]], ranker: ParentRanker | None) -> Iterator[Candidate]:
    total = max(1, sum(node.tokens for node, _ in children))
    for child, (node, summary) in enumerate(children):
        share = 1.0 + node.tokens / total
        is_last = child == len(children) - 1
        for rank, lines in enumerate(group_errors_with_ending(summary.highlights)):
            if lines[-1].text == UNRESOLVED and not is_last:
                lines = (*lines[:-1], replace(lines[-1], text=OPEN_THERE))
            value = (_VALUES[lines[0].kind] + 5.0 * (len(lines) > 1)) * share - 0.4 * rank
            if lines[0].kind == "decision" and lines[0].role == "user":
                value += _USERS_DECISION_VALUE
            if ranker is not None:
                value += max(_LINE_VALUE_SCALE * ranker.line_value(lines, child, rank), _ENDED_VALUE * (len(lines) > 1))
                lines = tuple(replace(line, text=as_title(line.text, LINE_CHARS)) for line in lines)
            yield Candidate(value, (lines[0].index, rank), lines)


def group_errors_with_ending(lines: Sequence[Highlight]) -> Iterator[tuple[Highlight, ...]]:
    """Groups errors with the ending that follows them; every other highlight stays alone."""
    pending: list[Highlight] = []
    for line in lines:
        if line.kind == "ending" and pending:
            yield (*pending, line)
            pending = []
            continue
        if pending and line.kind != "error":
            yield from ((error,) for error in pending)
            pending = []
        if line.kind == "error":
            pending.append(line)
        else:
            yield (line,)
    yield from ((error,) for error in pending)


def _identifiers(summaries: Sequence[Summary]) -> tuple[str, ...]:
    counts: Counter[str] = Counter()
    for summary in summaries:
        for rank, name in enumerate(summary.identifiers):
            counts[name] += COUNT_MAX - min(rank, COUNT_MAX - 1)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return first_fitting((name for name, _ in ranked), NAMES_TOKENS)


def _open_hint(summaries: Sequence[Summary], selected: Sequence[Highlight]) -> str:
    available = Counter(line.kind for summary in summaries for line in summary.highlights)
    shown = Counter(line.kind for line in selected)
    return join_within_limit(
        part for kind in _COUNTED_KINDS for part in count_omitted(available[kind] - shown[kind], kind)
    )
