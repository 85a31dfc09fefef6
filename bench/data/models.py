"""A conversation with known evidence, independent of its data set."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from ctxmem_mcp.models import NewTurn


@dataclass(frozen=True, slots=True)
class Evidence:
    """A turn that contains the answer to a question.

    Attributes:
        turn: Id of the turn.
        text: The relevant part; None for the whole turn.
        alternatives: Other places that state the same; any of them counts.
    """

    turn: str
    text: str | None = None
    alternatives: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its evidence. category: as in the data set. answer: None if the data set has none."""

    id: str
    query: str
    category: str
    evidence: tuple[Evidence, ...]
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation with questions. turns: in order, by the ids that evidence refers to."""

    id: str
    turns: dict[str, NewTurn]
    questions: tuple[Question, ...]


def eval_folder() -> Path:
    """Returns the folder named by CTXMEM_EVAL_DIR.

    Raises:
        SystemExit: CTXMEM_EVAL_DIR is not set.
    """
    try:
        return Path(os.environ["CTXMEM_EVAL_DIR"])
    except KeyError:
        raise SystemExit("Pass files or folders of data, or set CTXMEM_EVAL_DIR (README: 'Measured').") from None


def to_iso(text: str | None, *formats: str) -> str | None:
    """Converts a time to ISO 8601. formats: as for strptime. Returns None if it is in none of them."""
    for format_ in formats:
        try:
            return datetime.strptime(text or "", format_).strftime("%Y-%m-%dT%H:%M:%SZ")
        except ValueError:
            continue
    return None
