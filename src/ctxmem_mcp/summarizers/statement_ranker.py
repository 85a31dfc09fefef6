"""Rates the statements of a section, as its title and as lines of its summary, with trained weights. Pure.

weights.json holds the weights and where they come from. They were fitted to titles and facts that people wrote for
sections of coding sessions (python -m bench.train.titles), starting from weights set by hand.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.headlines import as_title, makes_title
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.section_states import BLOCKED_STATE, COMMITTED_STATE, state_at_end
from ctxmem_mcp.summarizers.sentences import Message
from ctxmem_mcp.summarizers.statement_features import (
    Features,
    Salience,
    score,
    section_salience,
    statement_features,
    title_features,
)
from ctxmem_mcp.summarizers.statements import Statement, find_statements
from ctxmem_mcp.summarizers.title_options import (
    TITLE_CHARS,
    Single,
    TitleOption,
    pair_options,
    part_of,
    with_blocked,
    with_state,
)

# Only the statements that promise the best titles are tried as such: shortening takes most of the time.
_TITLES_TRIED = 8
# Only if no statement reaches this score is a section called by the files that were edited, or by what a call is about.
_STATED_SCORE_MIN = 1.0
_WEAK = frozenset(("edit", "names_only"))
# What a section is about and what came of it: a title of two parts has one of each, of the best statements.
_TOPICS = frozenset(("request", "plan", "task", "user", "correction"))
_OUTCOMES = frozenset(("closing", "commit", "refusal", "text", "before_edit"))
_PARTS = _TOPICS | _OUTCOMES
_PAIRED = 6


class RatedStatement(NamedTuple):
    """A statement, and the probability that a reader wants it as a line."""

    statement: Statement
    line_value: float


class RatedStatements(NamedTuple):
    """The statements of a section. title: the best title that they make, else ''."""

    lines: Sequence[RatedStatement] = ()
    title: str = ""


@functools.cache
def load_weights(use: str) -> Mapping[str, float]:
    """Returns the trained weights for a use: "title" or "line"."""
    text = resources.files("ctxmem_mcp.summarizers").joinpath("weights.json").read_text("utf-8")
    weights: dict[str, float] = json.loads(text)["weights"][use]
    return weights


def rate_statements(
    section: Section, outcomes: Sequence[ErrorOutcome], preceding: Sequence[Message]
) -> RatedStatements:
    """Rates the statements of a section. preceding: the messages just before it."""
    salience, weights = section_salience(section), load_weights("line")
    described = [
        (statement, statement_features(statement, salience))
        for statement in find_statements(section, outcomes, preceding)
    ]
    lines = [RatedStatement(statement, 1.0 / (1.0 + math.exp(-score(f, weights)))) for statement, f in described]
    return RatedStatements(lines, _best_title(described, salience, state_at_end(section)))


def _best_title(described: Sequence[tuple[Statement, Features]], salience: Salience, state: str) -> str:
    weights = load_weights("title")
    described = [entry for entry in described if entry[0].may_be_title]
    promising = sorted(described, key=lambda entry: -score(entry[1], weights))[:_TITLES_TRIED]
    scored = [(score(o.features, weights), o) for o in leaf_title_options(promising, salience, state)]
    stated = [entry for entry in scored if _WEAK.isdisjoint(entry[1].features) and entry[0] > _STATED_SCORE_MIN]
    best = max(stated or scored, key=lambda entry: entry[0], default=None)
    title = best[1].title if best else ""
    return with_blocked(title) if state == BLOCKED_STATE else title


def leaf_title_options(
    described: Sequence[tuple[Statement, Features]], salience: Salience, state: str
) -> Iterator[TitleOption]:
    """Yields the titles that statements make, alone, with the state of the section's end, and in pairs.

    Args:
        described: Statements with their features as lines, most promising first.
        salience: Of the section's words.
        state: In which the section ends, else ''.
    """
    singles: list[Single] = []
    names_commit = any(statement.source == "commit" for statement, _ in described)
    for statement, features in described:
        title = as_title(statement.title_text, TITLE_CHARS)
        if makes_title(title, statement.title_text):
            option = TitleOption(title, title_features(features, statement, title, salience))
            is_part = len(singles) < _PAIRED and statement.source in _PARTS
            singles.append(Single(statement, option, part_of(statement.title_text) if is_part else ""))
            yield option
            is_said = state == COMMITTED_STATE and names_commit
            if state and not is_said and (stated := with_state(singles[-1], state)):
                yield stated
    topics = [single for single in singles[:_PAIRED] if single.statement.source in _TOPICS]
    outcomes = [single for single in singles[:_PAIRED] if single.statement.source in _OUTCOMES]
    for topic in topics:
        for outcome in outcomes:
            yield from pair_options((topic, outcome), salience)
