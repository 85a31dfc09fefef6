"""The titles that a section's statements offer: of one statement, of two, and with the state of the end. Pure.

Rename the retry option of the uploader                   a statement
Rename the retry option; tests pass                       and the state in which the section ends
Uploader retries; `max_tries` counted the first attempt   what it was about, and what came of it
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import TOPIC_SEPARATOR
from ctxmem_mcp.summarizers.headlines import as_title, headline
from ctxmem_mcp.summarizers.section_states import STATES
from ctxmem_mcp.summarizers.sentence_scores import QUESTION_MARKS
from ctxmem_mcp.summarizers.statement_features import Features, Salience, is_code, is_pointing, stems
from ctxmem_mcp.summarizers.statements import Statement

TITLE_CHARS = 60
# A title of two parts has parts of at most this many characters each, of which at most two fifths are cut off.
_PART_CHARS_MIN, _PART_CHARS_MAX, _PART_SHARE_MIN = 14, 40, 0.6

# A title of more words than these says enough without a name; only the most frequent names are what a section is about.
_NAMED_STEMS_MAX, _NAMES_TRIED = 3, 5
_FILE_NAME = lazy_regex(r"\.\w{1,4}\Z")


class TitleOption(NamedTuple):
    """A title that a section may get, and its features."""

    title: str
    features: Features


class Single(NamedTuple):
    """A title made of one statement. part: the statement as one of a title's two parts, else ''."""

    statement: Statement
    option: TitleOption
    part: str


def part_of(text: str, limit: int = _PART_CHARS_MAX) -> str:
    """Returns a text as one of a title's two parts; empty if it makes none."""
    whole = headline(text)
    part = as_title(whole, limit)
    is_whole_enough = len(part) >= _PART_SHARE_MIN * len(whole) and not part.endswith("…")
    return part if is_whole_enough and len(part) >= _PART_CHARS_MIN else ""


def pair_options(singles: Sequence[Single], salience: Salience) -> Iterator[TitleOption]:
    """Yields the titles of two statements from different places that have few words in common."""
    parts = [single for single in singles if single.part]
    for first, second in combinations(parts, 2):
        title = f"{first.part}{TOPIC_SEPARATOR}{second.part}"
        if first.statement.place == second.statement.place or len(title) > TITLE_CHARS:
            continue
        words, others = frozenset(stems(first.part)), frozenset(stems(second.part))
        if 2 * len(words & others) <= min(len(words), len(others)):
            yield TitleOption(title, _pair_features(title, words | others, first, second, salience))


def _pair_features(title: str, words: frozenset[str], first: Single, second: Single, salience: Salience) -> Features:
    one, other = first.option.features, second.option.features
    mean, share = salience.of(words)
    found = {name: (one.get(name, 0.0) + other.get(name, 0.0)) / 2 for name in {*one, *other}}
    return found | {
        "pair": 1.0,
        "salience": mean,
        "share": share,
        "top": salience.top(words),
        "coverage": (one["coverage"] + other["coverage"]) / 2,
        "chars": len(title) / TITLE_CHARS,
        "size": one.get("size", 0.0) + other.get("size", 0.0),
        "governs": one.get("governs", 0.0) + other.get("governs", 0.0),
    }


def with_name(title: str, names: Sequence[str]) -> str:
    """Returns a title that names nothing of the code, with the name that its section is most about, if there is room.

    Args:
        title: The title, with or without a state.
        names: The section's names, most frequent first.
    """
    text, separator, state = title.rpartition(TOPIC_SEPARATOR)
    if state not in STATES:
        text, separator, state = title, "", ""
    says_enough = len(stems(text)) > _NAMED_STEMS_MAX and not is_pointing(text)
    if says_enough or is_code(text) or text.endswith(QUESTION_MARKS):
        return title
    for name in names[:_NAMES_TRIED]:
        is_file = _FILE_NAME.search(name) is not None or name.startswith("-") or name.isupper()
        named = f"{text} ({name}){separator}{state}"
        if is_code(name) and not is_file and len(named) <= TITLE_CHARS and not set(stems(name)) <= set(stems(text)):
            return named
    return title


def with_state(single: Single, state: str) -> TitleOption | None:
    """Returns a statement's title followed by the state in which the section ends; None if it has no room for it."""
    room = TITLE_CHARS - len(TOPIC_SEPARATOR) - len(state)
    title = single.option.title
    if len(title) > room:
        title = part_of(single.statement.text, min(room, _PART_CHARS_MAX))
    if not title or title.endswith(QUESTION_MARKS) or not frozenset(stems(state)).isdisjoint(stems(title)):
        return None
    return TitleOption(
        f"{title}{TOPIC_SEPARATOR}{state}", single.option.features | {"state": 1.0, f"state:{state}": 1.0}
    )
