"""Rates the statements of a section, as its title and as lines of its summary, with trained weights. Pure.

weights.json holds the weights and where they come from. They were fitted to titles and facts that people wrote for
sections of coding sessions (python -m bench.train.titles), starting from weights set by hand.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Message
from ctxmem_mcp.summarizers.statement_features import (
    Features,
    Salience,
    score,
    section_salience,
    statement_features,
    title_features,
)
from ctxmem_mcp.summarizers.statements import Statement, as_title, find_statements, makes_title

TITLE_CHARS = 60


# Only the statements that promise the best titles are tried as such: shortening takes most of the time.
_TITLES_TRIED = 8
# A recap tells what happened before its section.
_NO_TITLES = frozenset(("recap",))


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
    return RatedStatements(lines, _best_title(described, salience))


def _best_title(described: Sequence[tuple[Statement, Features]], salience: Salience) -> str:
    weights = load_weights("title")
    described = [entry for entry in described if entry[0].source not in _NO_TITLES]
    promising = sorted(described, key=lambda entry: -score(entry[1], weights))[:_TITLES_TRIED]
    best, best_score = "", -math.inf
    for statement, features in promising:
        title = as_title(statement.text, TITLE_CHARS)
        value = score(title_features(features, statement, title, salience), weights)
        if value > best_score and makes_title(title, statement.text):
            best, best_score = title, value
    return best
