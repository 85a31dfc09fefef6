"""Cue words, per language: phrases that mark a sentence as an error, a decision, a request and so on. Pure.

    states("error", "Der Test ist fehlgeschlagen", "de")   True

One JSON file per language holds a list of phrases per kind. A phrase is a regular expression in lower case; a `*` at
the end of a word stands for any ending. Accents may be left out in the text. English has more elaborate patterns in the
modules that use them; its file holds only what these do not cover.

    instruction         openings of an instruction that holds from now on
    instruction_within  the same anywhere in a sentence
    not_instruction     openings that only look like one
    imperative          what an instruction must contain as well
    error, reason, liking, decision, time, first_person     the flags of a chunk
    filler              words that a question which names nothing may contain
    error_line          what a program prints before a colon and the message of an error
    request, done, finding, rule, correction                the highlights of a summary
    change, addition, denial    that something holds no longer, holds too, or does not hold
    replaced_after      what precedes the name of that which is replaced
    narration           openings that tell of looking at something
    ask                                                     by intent, the wordings of a question
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from ctxmem_mcp.text.language import detect
from ctxmem_mcp.text.stop_words import fold_accents

LANGUAGES = ("de", "en", "es", "fr", "ja", "ko", "pt", "ru", "zh")
# Their words have no borders that a pattern could rely on.
UNSPACED = frozenset(("ja", "ko", "zh"))
_IBERIAN = ("es", "pt")
_ANY_ENDING = r"\w*"


def states(kind: str, text: str, language: str | None) -> bool:
    """Returns whether a text contains a cue of a kind in a language."""
    found = pattern(kind, language)
    return found is not None and found.search(fold(text, language)) is not None


def sentence_states(kind: str, sentence: str) -> bool:
    """Returns whether a sentence in another language than English, which its words tell, contains a cue of a kind."""
    language = _language_of_sentence(sentence)
    return language not in (None, "en") and any(states(kind, sentence, name) for name in relatives(language or ""))


def relatives(language: str) -> tuple[str, ...]:
    """Returns the languages whose cues to look for: a short sentence may be of several near relatives."""
    return _IBERIAN if language in (*_IBERIAN, "ca", "it") else (language,)


@lru_cache(maxsize=2_048)
def _language_of_sentence(sentence: str) -> str | None:
    return detect(sentence)


@cache
def error_line() -> re.Pattern[str]:
    """Returns what matches a line that reports an error in a language other than English."""
    words = sorted((word for name in LANGUAGES for word in _table(name).get("error_line", ())), key=len, reverse=True)
    begin = r"^[^\S\n]*(?:[\w.-]{1,40}: )?"
    return re.compile(rf"{begin}(?:{'|'.join(words)})\s?[:：][^\S\n]*\S.*$", re.IGNORECASE | re.MULTILINE)


@cache
def _narration() -> re.Pattern[str]:
    phrases = (fold(cue, name) for name in LANGUAGES for cue in _table(name).get("narration", ()))
    return re.compile(f"(?:{'|'.join(phrases)})")


def is_narration(sentence: str) -> bool:
    """Returns whether a sentence in another language than English only tells that its author looks at something."""
    return _narration().match(fold(sentence, None)) is not None


def fold(text: str, language: str | None) -> str:
    """Returns the text as the patterns expect it: in lower case and, with the same number of characters, without
    accents."""
    text = text.lower()
    if language in UNSPACED or text.isascii():
        return text
    return "".join(c if c.isascii() or len(folded := fold_accents(c)) != 1 else folded for c in text)


@cache
def pattern(kind: str, language: str | None) -> re.Pattern[str] | None:
    """Returns what the cues of a kind match in folded text; None if the language has none."""
    return _compile(_table(language).get(kind, ()), language)


@cache
def question_patterns(language: str) -> Mapping[str, re.Pattern[str]]:
    """Returns, by intent, what the wordings of a question match in folded text."""
    compiled = {intent: _compile(cues, language) for intent, cues in _table(language).get("ask", {}).items()}
    return {intent: found for intent, found in compiled.items() if found}


@cache
def _table(language: str | None) -> Mapping[str, Any]:
    if language not in LANGUAGES:
        return {}
    found: Mapping[str, Any] = json.loads(resources.files(__name__).joinpath(f"{language}.json").read_text("utf-8"))
    return found


def _compile(cues: Sequence[str], language: str | None) -> re.Pattern[str] | None:
    if not cues:
        return None
    phrases = [re.sub(r"(?<=\w)\*(?=\W|$)", lambda _: _ANY_ENDING, fold(cue, language)) for cue in cues]
    alternatives = "|".join(sorted(phrases, key=len, reverse=True))
    return re.compile(f"(?:{alternatives})" if language in UNSPACED else rf"(?<!\w)(?:{alternatives})(?!\w)")
