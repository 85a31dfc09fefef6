"""Recognises the language of a turn by its script and its stop words. Pure, and a few microseconds per turn.

    detect("Warum war das Papier so alt?")   'de'
    detect("为什么会这样？")                   'zh'
    detect("x = parse(y)")                   None

A language is named by its ISO 639-1 code. Text in a script that several languages share gets the most common of them
unless a letter of another is in it: a stemmer for a near relative is better than none.
"""

from __future__ import annotations

from collections import defaultdict

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.stop_words import languages_of

# The beginning of a text that decides.
SAMPLE_CHARS = 800
# A stop word counts by the number of languages that share it; one that is in several proves little.
_VOTES_MIN = 0.9
# A single word of another language is mostly a name or a mistake.
_WORDS_MIN = 2
# So many prove one even if near relatives share all of them.
_WORDS_ENOUGH = 4
# Prose of programmers is full of English words, whatever its language.
_LEAD_OVER_ENGLISH = 1.2
# Share of the letters in a script that makes a text one of that script. A Han character counts as two letters.
_SHARE_MIN = 0.2

_LATIN_WORD = lazy_regex(r"[^\W\d_]+")
_SCRIPTS = {
    "zh": lazy_regex("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]"),
    "ja": lazy_regex("[\u3040-\u30ff]"),
    "ko": lazy_regex("[\uac00-\ud7af\u1100-\u11ff]"),
    "ru": lazy_regex("[\u0400-\u04ff]"),
    "el": lazy_regex("[\u0370-\u03ff\u1f00-\u1fff]"),
    "he": lazy_regex("[\u0590-\u05ff]"),
    "ar": lazy_regex("[\u0600-\u06ff]"),
    "hi": lazy_regex("[\u0900-\u097f]"),
    "th": lazy_regex("[\u0e00-\u0e7f]"),
}  # fmt: skip
_OTHER_SCRIPT = lazy_regex("[\u0370-\u1fff\u3040-\ufaff]")
# Letters and marks typical of a language, which count like a word that it shares with one other.
_LETTERS_LIKE = {
    "de": lazy_regex("[ßäöüÄÖÜ]"),
    "es": lazy_regex("[¿¡ñÑ]"),
    "fr": lazy_regex("[œçèêàùûîÀÉÊ]|[ldnjscLDNJSC][’'][aàeéèêhiou]"),
    "pt": lazy_regex("[ãõÃÕ]|ção|ções"),
    "pl": lazy_regex("[łżźśćńŁŻŚĆ]"),
    "cs": lazy_regex("[ěřůťďňĚŘŮ]"),
}
_LETTER_VOTE = 0.5
# Of languages with equal votes the first wins.
_BY_SPEAKERS = tuple("en es pt fr de it pl nl tr id vi ro hu cs sv da no fi ca".split())
_LATIN_LETTER = lazy_regex("[A-Za-z\u00c0-\u024f]")
# Letters that only one of the languages of a script has.
_LETTERS_OF = (("ru", "uk", lazy_regex("[іїєґІЇЄҐ]")), ("ar", "fa", lazy_regex("[پچژگ]")))


def detect(text: str) -> str | None:
    """Returns the language of a text; None if nothing tells it, as in code."""
    text = text[:SAMPLE_CHARS]
    if not text.isascii() and _OTHER_SCRIPT.search(text) and (found := _by_script(text)):
        return found
    return _by_stop_words(text)


def _by_script(text: str) -> str | None:
    counts = {language: len(pattern.findall(text)) for language, pattern in _SCRIPTS.items()}
    weights = {language: count * (2 if language in ("zh", "ja", "ko") else 1) for language, count in counts.items()}
    # Japanese mixes kana with Han characters; Chinese and modern Korean do without kana.
    if counts["ja"] * 8 >= counts["zh"] and counts["ja"]:
        weights["ja"] += weights.pop("zh")
    best = max(weights, key=weights.__getitem__)
    if weights[best] < _SHARE_MIN * (sum(weights.values()) + len(_LATIN_LETTER.findall(text))):
        return None
    return next((other for of, other, letters in _LETTERS_OF if of == best and letters.search(text)), best)


def _by_stop_words(text: str) -> str | None:
    votes: dict[str, float] = defaultdict(float)
    words: dict[str, int] = defaultdict(int)
    known = languages_of()
    for word in dict.fromkeys(_LATIN_WORD.findall(text.lower())):  # in order: sums and ties must not vary
        if languages := known.get(word):
            for language in languages:
                votes[language] += 1 / len(languages)
                words[language] += 1
    for language, letters in () if text.isascii() else _LETTERS_LIKE.items():
        if letters.search(text):
            votes[language] += _LETTER_VOTE
            words[language] += 1
    if not votes:
        return None
    best = max(_BY_SPEAKERS, key=votes.__getitem__)
    if best != "en" and (words[best] < _WORDS_MIN or votes[best] <= _LEAD_OVER_ENGLISH * votes["en"]):
        best = "en"
    return best if votes[best] >= _VOTES_MIN or words[best] >= _WORDS_ENOUGH else None
