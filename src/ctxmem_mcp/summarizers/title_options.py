"""The titles that a section's statements offer: of one statement, of two, and with the state of the end. Pure.

Rename the retry option of the uploader                   a statement
Rename the retry option; tests pass                       and the state in which the section ends
Uploader retries; `max_tries` counted the first attempt   what it was about, and what came of it
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import NamedTuple

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import TOPIC_SEPARATOR
from ctxmem_mcp.summarizers.headlines import as_title, has_verb, headline
from ctxmem_mcp.summarizers.requests import starts_with_verb
from ctxmem_mcp.summarizers.section_states import BLOCKED_STATE, STATES
from ctxmem_mcp.summarizers.sentence_scores import QUESTION_MARKS
from ctxmem_mcp.summarizers.sentences import tidy_end
from ctxmem_mcp.summarizers.statement_features import Features, Salience, is_code, is_pointing, stems
from ctxmem_mcp.summarizers.statements import Statement
from ctxmem_mcp.summarizers.title_faults import is_fragment

TITLE_CHARS = 60
# A title of two parts has parts of at most this many characters each, of which at most two fifths are cut off.
_PART_CHARS_MIN, _PART_CHARS_MAX, _PART_SHARE_MIN = 14, 40, 0.6
# Of an order the beginning says enough: "Move the command" of "Move the command under `session`, where ...".
_ORDER_SHARE_MIN = 0.4
# A longer part goes without the file in which something was done.
_PART_CHARS_WHOLE = 28
_IN_FILE = lazy_regex(r"\s+(?:in|from|to|at) `?[\w./-]+\.\w{1,5}`?(?: file)?\Z")

# Where, when and how something was done.
_ADJUNCT = lazy_regex(
    r"\s(in|inside|within|from|with|without|when|even|so|by|using|on|at|because|if|while|after|before|during|for|"
    r"instead|and|where|that|which|to|as|via|under|into|across)\s"
)
_ACTION = lazy_regex(
    r"[A-Z][a-z]+ed\b|(?:always |never )?(?:accept|adapt|adjust|allow|avoid|cache|collapse|compute|consolidate|"
    r"default|detect|drop|"
    r"expand|expose|fall back|handle|hide|inline|introduce|keep|limit|load|log|normali[sz]e|parse|populate|"
    r"port|prevent|"
    r"propagate|record|reduce|register|reject|render|report|reuse|save|skip|stop|store|thread|track|trim|validate|wire|wrap)\b",
    re.I,
)
_WEAK_ADJECTIVE = lazy_regex(r"\b(?:some|new|proper|more|missing|additional|existing)\b ?", re.I)
_CORE_CHARS_MIN, _CORE_STEMS_MIN = 12, 3
_CHANGE_TO = lazy_regex(r"(?:change|rename|convert|move|switch|set|turn|migrate|port|add|delegate)\w*\b", re.I)
_FINITE = lazy_regex(r"\b(?:is|are|was|were|has|have|does|do|did|should|must|can|could|will|would)\b|n't\b")

# A title of more words than these says enough without a name; only the most frequent names are what a section is about.
_NAMED_STEMS_MAX, _NAMED_WORDS_MAX, _NAMES_TRIED = 3, 6, 5
_FILE_NAME = lazy_regex(r"\.\w{1,4}\Z")


class TitleOption(NamedTuple):
    """A title that a section may get, and its features."""

    title: str
    features: Features


class Single(NamedTuple):
    """A title made of one statement.

    Attributes:
        part: The statement as one of a title's two parts, else ''.
        core: The same without where, when and how, if it is shorter so; else ''.
        covered: In an inner node, the share of the work that the title covers, by child.
    """

    statement: Statement
    option: TitleOption
    part: str
    core: str = ""
    covered: tuple[float, ...] = ()


def part_of(text: str, limit: int = _PART_CHARS_MAX) -> str:
    """Returns a text as one of a title's two parts; empty if it makes none."""
    whole = headline(text)
    if len(whole) > _PART_CHARS_WHOLE and has_verb(shorter := _IN_FILE.sub("", whole)):
        whole = shorter
    part = as_title(whole, limit)
    least = _ORDER_SHARE_MIN if starts_with_verb(part) else _PART_SHARE_MIN
    is_whole_enough = len(part) >= least * len(whole) and not part.endswith("…") and not is_fragment(part, whole)
    return part if is_whole_enough and len(part) >= _PART_CHARS_MIN else ""


def core_of(part: str, is_order: bool = False) -> str:
    """Returns what was done without where, when and how: 'Reuse the status' of 'Reuse the status in the hooks'.

    Args:
        part: A part of a title.
        is_order: Whether it begins with a verb, although that may not be a known one.
    """
    if not (is_order or starts_with_verb(part) or _ACTION.match(part)) or _FINITE.search(part):
        return ""
    for found in _ADJUNCT.finditer(part, _CORE_CHARS_MIN):
        core = part[: found.start()]
        is_object = found[1] == "to" and _CHANGE_TO.match(part)
        says_enough = is_code(core) or len(stems(_WEAK_ADJECTIVE.sub("", core))) >= _CORE_STEMS_MIN
        if says_enough and core.count("`") % 2 == 0 and core.count("(") <= core.count(")") and not is_object:
            return tidy_end(core)
    return ""


def pair_options(singles: Sequence[Single], salience: Salience) -> Iterator[TitleOption]:
    """Yields the titles of two statements from different places that have few words in common."""
    parts = [single for single in singles if single.part]
    for first, second in combinations(parts, 2):
        if first.statement.place == second.statement.place or not (both := fitting_parts(first, second)):
            continue
        words, others = (frozenset(stems(part)) for part in both)
        if 2 * len(words & others) <= min(len(words), len(others)):
            title = TOPIC_SEPARATOR.join(both)
            yield TitleOption(title, _pair_features(title, words | others, first, second, salience))


def fitting_parts(first: Single, second: Single) -> tuple[str, str] | None:
    """The parts of two statements that fit into one title, as long as possible."""
    for one, other in product((first.part, first.core), (second.part, second.core)):
        if one and other and len(one) + len(TOPIC_SEPARATOR) + len(other) <= TITLE_CHARS:
            return one, other
    return None


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
        "covered": math.fsum(map(max, first.covered, second.covered)),
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
    is_long = len(stems(text)) > _NAMED_STEMS_MAX or len(text.split()) > _NAMED_WORDS_MAX
    says_enough = is_long and not is_pointing(text)
    if says_enough or is_code(text) or text.endswith(QUESTION_MARKS):
        return title
    for name in names[:_NAMES_TRIED]:
        is_file = _FILE_NAME.search(name) is not None or name.startswith("-") or name.isupper()
        named = f"{text} ({name}){separator}{state}"
        if is_code(name) and not is_file and len(named) <= TITLE_CHARS and not set(stems(name)) <= set(stems(text)):
            return named
    return title


def with_blocked(title: str) -> str:
    """Returns the title of work whose commit was refused at the end, with that state if there is room."""
    if not title or TOPIC_SEPARATOR in title or title.endswith(QUESTION_MARKS):
        return title
    part = as_title(headline(title.rstrip("…")), TITLE_CHARS - len(TOPIC_SEPARATOR) - len(BLOCKED_STATE))
    return title if part.endswith("…") else f"{part}{TOPIC_SEPARATOR}{BLOCKED_STATE}"


def with_state(single: Single, state: str) -> TitleOption | None:
    """Returns a statement's title followed by the state in which the section ends; None if it has no room for it."""
    room = TITLE_CHARS - len(TOPIC_SEPARATOR) - len(state)
    title, features = single.option.title, single.option.features
    if len(title) > room:
        title = part_of(single.statement.title_text, min(room, _PART_CHARS_MAX))
        features = features | {"kept": len(title) / max(1, len(single.statement.text))}
    if not title or title.endswith((*QUESTION_MARKS, "…")) or not frozenset(stems(state)).isdisjoint(stems(title)):
        return None
    if ("fail" in state and "fail" in title) or ("pass" in state and "suite passes" in title):
        return None
    return TitleOption(f"{title}{TOPIC_SEPARATOR}{state}", features | {"state": 1.0, f"state:{state}": 1.0})
