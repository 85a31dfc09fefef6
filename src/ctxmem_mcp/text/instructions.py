"""Recognises standing instructions: rules that a user sets once for all that follows. Pure.

    find("Looks good. From now on, never amend commits.", "en")   [(12, 45)]

A question about later work has no word in common with them, so they are marked when they are stored and shown with any
query. The project's own files of instructions (CLAUDE.md, AGENTS.md) count as the user's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text import analyzer, chunk_flags, cues
from ctxmem_mcp.text.host_text import is_plain, split_host_text
from ctxmem_mcp.text.language import detect

# The flag of a turn that contains one.
STANDING = 1
# Shorter ones say nothing, longer ones are stories.
_CHARS_MIN, _CHARS_MAX = 12, 320
# A character of these scripts says as much as several letters.
_CHARS_MIN_UNSPACED, _CHARS_MAX_UNSPACED = 6, 140
# Where there are no word borders to tell an opening by, the cue is among the first characters.
_OPENING_CHARS = 16
_WORDS_MIN = 3
# Of a longer text only the beginning is searched.
_SEARCH_CHARS = 20_000
_PER_TURN_MAX = 40
_SENTENCE = lazy_regex(r"[^\n.!?。！？…\]]+(?:\.(?=\S)[^\n.!?。！？…\]]*)*[.!?。！？…]*")
_OPENER = lazy_regex(
    r"[\W_]*(?:(?:please|also|and|but|so|ok|okay|btw|by the way|note|important|oh|hey|one more thing|another thing|"
    r"then|now|well|rule|reminder|fyi|just|bitte|und|aber|achtung|wichtig|ach|noch was|nur|por favor|y|pero|ah|e|mas|"
    r"importante|et|mais|s'il te plait|s'il vous plait|nota|regra|regla|regle|regel|и|но|пожалуйста|важно|кстати|"
    r"правило)"
    r"(?!\w)[\s,:;.–—-]*)*"
)
# Lines of a diff, comments, quotations of a prompt.
_OF_CODE = lazy_regex(r"\s*(?:[+#>|$]|//|/\*|- *//)")
_FILE_NAME = lazy_regex(r"(?:CLAUDE|AGENTS|GEMINI)(?:\.local)?\.md|\.cursorrules|copilot-instructions")
_FILE_RULE = lazy_regex(
    r"\W*(?:always|never|do not|don't|must(?: not)?|prefer|avoid|only|use|keep|make sure|run)\b", re.IGNORECASE
)
_LANGUAGE_NAME = lazy_regex(
    r"\b(?:english|german|french|spanish|portuguese|russian|chinese|japanese|korean|italian|dutch|deutsch|englisch|"
    r"franzosisch|spanisch|anglais|francais|allemand|espagnol|espanol|ingles|frances|aleman|portugues|alemao)\b"
    r"|английск\w+|русск\w+|немецк\w+|中文|英文|英语|汉语|日语|日本語|英語|한국어|영어"
)
_OF_LANGUAGE = "@language"
# What any instruction may contain.
_GENERAL_WORDS = """
    always never now forward future remember rule standing please immer nie niemals jetzt künftig zukunft bitte regel
    toujours jamais désormais avenir règle siempre nunca ahora adelante recuerda regla sempre agora diante lembre regra
    всегда никогда впредь помни правило 从现在开始 永远 始终 记住 规矩 以后 常に 必ず 今後 絶対に
    항상 절대 앞으로 반드시"""
# A text too short to tell its language is looked at in each of these.
_SHORT_IN = ("en", "de", "fr", "es", "pt")


def find_in_turn(content: str, role: str, language: str | None) -> list[tuple[int, int]]:
    """Finds the standing instructions in a turn.

    Args:
        content: The turn's text.
        role: Its role. What an agent or a tool says is no instruction.
        language: Its language, if known.

    Returns:
        The start and stop of each, in order.
    """
    content = content[:_SEARCH_CHARS]
    if role == "system":
        return list(_find_in_file(content, 0)) if _FILE_NAME.search(content[:400]) else []
    if role != "user":
        return []
    if is_plain(content):
        return find(content, language)
    found: list[tuple[int, int]] = []
    for span in split_host_text(content):
        text = content[span.start : span.end]
        if span.kind == "user":
            found += [(span.start + start, span.start + stop) for start, stop in find(text, detect(text) or language)]
        elif span.kind == "instructions":
            found += _find_in_file(text, span.start)
    return found[:_PER_TURN_MAX]


def find(text: str, language: str | None) -> list[tuple[int, int]]:
    """Finds the standing instructions in a user's own words; see `find_in_turn`."""
    if not chunk_flags.is_prose(text, "user"):
        return []
    folded = cues.fold(text, language)
    candidates = _SHORT_IN if language is None else cues.relatives(language)
    languages = [name for name in candidates if _mentions(folded, name)]
    if not languages or len(folded) != len(text):
        return []
    sentences = ((m.start(), m.end()) for m in _SENTENCE.finditer(text))
    return [
        _trimmed(text, start, stop)
        for start, stop in sentences
        if any(_is_instruction(folded[start:stop].strip(), name) for name in languages)
    ][:_PER_TURN_MAX]


def kind_of(text: str, language: str | None) -> frozenset[str]:
    """Returns the terms that tell which instructions are about the same thing; see `same_kind`."""
    folded = cues.fold(text, language)
    terms = frozenset(analyzer.analyze(folded, language)) - _general_terms(language)
    return terms | {_OF_LANGUAGE} if _LANGUAGE_NAME.search(folded) else terms


@cache
def _general_terms(language: str | None) -> frozenset[str]:
    return frozenset(analyzer.analyze(_GENERAL_WORDS, language))


def same_kind(one: frozenset[str], other: frozenset[str]) -> bool:
    """Returns whether two instructions are about the same thing, so that the newer replaces the older."""
    if _OF_LANGUAGE in one and _OF_LANGUAGE in other:
        return True
    return len(one & other) * 2 > min(len(one), len(other))


def _mentions(folded: str, language: str) -> bool:
    """Whether any cue is in the text: a quick test, which few texts pass."""
    return any(
        found.search(folded)
        for kind in ("instruction", "instruction_within")
        if (found := cues.pattern(kind, language))
    )


def _is_instruction(sentence: str, language: str) -> bool:
    unspaced = language in cues.UNSPACED
    least, most = (_CHARS_MIN_UNSPACED, _CHARS_MAX_UNSPACED) if unspaced else (_CHARS_MIN, _CHARS_MAX)
    if not least <= len(sentence) <= most or sentence.endswith(("?", "？")) or _OF_CODE.match(sentence):
        return False
    if not unspaced and len(sentence.split()) < _WORDS_MIN:
        return False
    opener = _OPENER.match(sentence)
    begin = opener.end() if opener else 0
    excluded, imperative = cues.pattern("not_instruction", language), cues.pattern("imperative", language)
    if excluded and excluded.match(sentence, begin):
        return False
    if imperative and not imperative.search(sentence):
        return False
    opening, within = cues.pattern("instruction", language), cues.pattern("instruction_within", language)
    opens = opening and (
        opening.search(sentence, begin, begin + _OPENING_CHARS) if unspaced else opening.match(sentence, begin)
    )
    return bool(opens or (within and within.search(sentence)))


def _find_in_file(text: str, offset: int) -> Iterator[tuple[int, int]]:
    """The rules in a file of instructions: lines that open like one."""
    at = 0
    for line in text.splitlines(keepends=True):
        if _CHARS_MIN <= len(line.strip()) <= _CHARS_MAX and _FILE_RULE.match(line):
            start, stop = _trimmed(text, at, at + len(line))
            yield offset + start, offset + stop
        at += len(line)


def _trimmed(text: str, start: int, stop: int) -> tuple[int, int]:
    """The place without the blank space and list marks around it, nor a quotation mark that has no partner."""
    part = text[start:stop]
    mark = '"' if part.count('"') == 1 else ""
    start += len(part) - len(part.lstrip(" \t\n-*•>" + mark))
    return start, stop - len(part) + len(part.rstrip(" \t\r\n" + mark))
