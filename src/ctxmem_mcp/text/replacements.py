"""Recognises which statement replaces an earlier one. Pure.

    replaces(statement("Make the JWTs valid for 15 min.", "en"), statement("JWTs stay valid for 1 h.", "en"))   True

A wrong pair is worse than none. Both must be about the same thing, and the later must name what it replaces ("instead
of X", "no longer X"), give another value of the same kind, turn a rule into its opposite, or contain a cue of change
("now", "on second thought").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text import analyzer, cues

# A longer text is a story, in which words of any other statement occur.
CHARS_MAX = 320
_SHARED_TERMS_MIN = 2
# This share of the terms of the shorter statement must be in the other.
_SHARED_SHARE_MIN = 0.6
# A cue of change alone is enough only if no more terms than this differ.
_EXTRA_MAX = 2
# In Chinese and Japanese no space precedes a number.
_NUMBER = lazy_regex(r"(?:(?<![\w.-])|(?<=[\u3040-\u30ff\u4e00-\u9fff]))(\d+(?:[.,:-]\d+)*)\s?([^\W\d_]+|%)?")
_UNITS = {
    "time": "ms millisecond second sec s minute min m hour h day d week month year sekunde stunde tag woche monat jahr "
    "秒 分 小 天 周 月 年 時",
    "size": "byte kb mb gb tb kib mib gib",
    "share": "% percent prozent",
}
_KIND_OF_UNIT = {unit: kind for kind, units in _UNITS.items() for unit in units.split()}
# Verbs that say nothing about the subject of a statement.
_GENERAL_WORDS = """
    make set use let go keep put have get take be do please want need should stay become live run call wir nehmen machen
    benutzen verwenden setzen sein laufen bitte utiliser usar utilizar использовать"""
_ANSWER_WORDS = """
    answer reply respond write speak talk response english german french spanish portuguese russian chinese japanese
    korean italian dutch antworten antworte schreib schreiben sprich deutsch englisch französisch spanisch réponds
    répondre français anglais responde español inglés português отвечай русском английском 回答 中文 英文"""
# After "instead of": the next words, up to one that begins something else.
_OBJECT = lazy_regex(r"\W*((?:(?!(?:for|in|on|at|to|with|but|and|or|we|für|und|sondern|mit|wir)\b)[\w./`-]+[ ]?){1,3})")


class Statement(NamedTuple):
    """The properties of a statement that decide whether it replaces another.

    Attributes:
        terms: The terms of its subject.
        values: Numbers by the kind of their unit.
        dropped: The terms of the thing that it says holds no longer.
        changes: Whether it contains a cue of change.
        adds: Whether it adds to earlier statements ("too").
        denies: Whether it forbids or denies.
        answers: Whether it is a rule for the language of answers.
    """

    terms: frozenset[str]
    values: Mapping[str, frozenset[str]]
    dropped: frozenset[str]
    changes: bool
    adds: bool
    denies: bool
    answers: bool


def statement(text: str, language: str | None) -> Statement | None:
    """Analyses a statement; returns None for a question and for a text too long to be one."""
    if len(text) > CHARS_MAX or text.rstrip().endswith(("?", "？")):
        return None
    language = language or "en"
    folded = cues.fold(text, language)
    dropped, kept = _dropped(folded, language)
    values = _values(kept, language)
    changes, bare = _without("change", folded, language)
    adds, bare = _without("addition", bare, language)
    denies, bare = _without("denial", bare, language)
    bare = _NUMBER.sub(lambda m: " " if not m[2] or _kind(m[2], language) in _UNITS else f" {m[2]}", bare)
    terms = frozenset(analyzer.analyze(bare, language)) - _terms_of(_GENERAL_WORDS, language)
    answers = bool(terms) and not terms - _terms_of(_ANSWER_WORDS, language)
    return Statement(terms, values, dropped, changes or bool(dropped), adds, denies, answers)


def replaces(later: Statement, earlier: Statement) -> bool:
    """Returns whether the later of two statements takes the place of the earlier."""
    if later.adds:
        return False
    if earlier.answers and later.answers:
        return earlier.terms != later.terms
    shared = earlier.terms & later.terms
    if not shared and not later.dropped:
        return False
    if later.dropped and later.dropped <= earlier.terms | _numbers(earlier):
        named_again = later.dropped <= earlier.dropped
        return not named_again and len(shared | later.dropped) >= _SHARED_TERMS_MIN and _is_about(earlier, later)
    kinds = earlier.values.keys() & later.values.keys()
    if any(earlier.values[kind] & later.values[kind] for kind in kinds):
        return False
    if not _is_about(earlier, later):
        return False
    extra_before, extra_after = earlier.terms - shared, later.terms - shared
    if kinds:
        # A number without a unit may be a name ("page 3", "step 4").
        return later.changes or (any(kinds) and not (extra_before and extra_after))
    if earlier.denies != later.denies and not extra_before and (later.changes or len(extra_after) <= 1):
        return True
    # One thing in the place of another, in an otherwise similar statement.
    return later.changes and 0 < len(extra_before) <= _EXTRA_MAX and 0 < len(extra_after) <= _EXTRA_MAX + 1


def find_replaced(statements: Sequence[tuple[int, Statement]]) -> dict[int, int]:
    """Finds which of some statements others replaced.

    Args:
        statements: In order, each with the index of its turn. Statements of one turn do not replace each other.

    Returns:
        By the position of each replaced one, the position of the one that holds at the end. A statement that was
        restored later is not among them.
    """
    found: dict[int, int] = {}
    for i in range(len(statements) - 1, -1, -1):
        turn, earlier = statements[i]
        newer = [j for j in range(i + 1, len(statements)) if statements[j][0] > turn]
        later = next((j for j in reversed(newer) if replaces(statements[j][1], earlier)), None)
        if later is None:
            continue
        later = found.get(later, later)
        if not any(_is_same(statements[j][1], earlier) for j in newer if j >= later):
            found[i] = later
    return found


def _is_same(one: Statement, other: Statement) -> bool:
    return (one.terms, one.values, one.denies) == (other.terms, other.values, other.denies)


def _is_about(earlier: Statement, later: Statement) -> bool:
    """Whether most of the words of the shorter of two statements are in the other."""
    shared = (earlier.terms | _numbers(earlier)) & (later.terms | later.dropped)
    least = min(len(earlier.terms), len(later.terms))
    return len(shared) >= max(min(_SHARED_TERMS_MIN, least), _SHARED_SHARE_MIN * least) and bool(shared)


def _numbers(one: Statement) -> frozenset[str]:
    return frozenset().union(*one.values.values())


def _without(kind: str, folded: str, language: str) -> tuple[bool, str]:
    """Returns whether a text contains a cue of a kind, and the text without such cues."""
    found = cues.pattern(kind, language)
    if found is None:
        return False, folded
    bare, number = found.subn(" ", folded)
    return number > 0, bare


def _dropped(folded: str, language: str) -> tuple[frozenset[str], str]:
    """Returns the terms of the thing that a text says holds no longer, and the text without it."""
    found = cues.pattern("replaced_after", language)
    cue = found.search(folded) if found else None
    named = _OBJECT.match(folded, cue.end()) if cue else None
    if not cue or not named:
        return frozenset(), folded
    terms = analyzer.analyze(_NUMBER.sub(r" \1 ", named[1]), language)
    return frozenset(terms) - _terms_of(_GENERAL_WORDS, language), folded[: cue.start()] + folded[named.end() :]


def _values(folded: str, language: str) -> dict[str, frozenset[str]]:
    values: dict[str, set[str]] = {}
    for match in _NUMBER.finditer(folded):
        values.setdefault(_kind(match[2] or "", language), set()).add(match[1])
    return {kind: frozenset(numbers) for kind, numbers in values.items()}


def _kind(unit: str, language: str) -> str:
    """Returns the kind of a unit; of another word its term, because "3 times" is not "3 nodes"."""
    if language in cues.UNSPACED:
        return _KIND_OF_UNIT.get(unit[:1], unit[:1])
    if kind := _KIND_OF_UNIT.get(unit) or _KIND_OF_UNIT.get(unit.rstrip("sen")):
        return kind
    return next(iter(analyzer.analyze(unit, language)), "")


@cache
def _terms_of(words: str, language: str) -> frozenset[str]:
    return frozenset(analyzer.analyze(cues.fold(words, language), language))
