"""Reduces words to their stems, per language, with Snowball's algorithms. Pure.

    stem("Nachrichten", "de")   'nachricht'
    stem("сообщения", "en")     'сообщен': a script that is not Latin decides by itself

The stem of a word comes from its spelling with accents and is returned without them, because people leave them out.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.stop_words import fold_accents, stop_words

# Snowball's name of each language's algorithm. Where there is none that every supported version of it has, words are
# truncated, which serves languages with many endings nearly as well.
_ALGORITHMS = {
    "en": "english", "de": "german", "fr": "french", "es": "spanish", "pt": "portuguese", "it": "italian",
    "nl": "dutch", "sv": "swedish", "da": "danish", "no": "norwegian", "fi": "finnish", "hu": "hungarian",
    "ro": "romanian", "tr": "turkish", "id": "indonesian", "ca": "catalan", "ru": "russian", "el": "greek",
    "ar": "arabic", "hi": "hindi",
}  # fmt: skip
_TRUNCATED_CHARS = 6
_TRUNCATED = frozenset(("pl", "cs"))
# The languages whose words are in Latin letters; in any other language, such words are taken for English.
LATIN = frozenset(
    ("en", "de", "fr", "es", "pt", "it", "nl", "sv", "da", "no", "fi", "pl", "cs", "hu", "ro", "tr", "id", "ca", "vi")
)
# First and last character of a script, the language that its words are stemmed as, and those of its stop words.
_SCRIPTS = (
    ("\u0370", "\u03ff", "el", ("el",)),
    ("\u0400", "\u052f", "ru", ("ru", "uk")),
    ("\u0590", "\u05ff", "he", ("he",)),
    ("\u0600", "\u06ff", "ar", ("ar", "fa")),
    ("\u0900", "\u097f", "hi", ("hi",)),
    ("\u1f00", "\u1fff", "el", ("el",)),
)
# Endings that the stemmers only know with their accents.
_ENDINGS = {
    "es": (lazy_regex("([cs])ion$"), r"\1ión"),
    "pt": (lazy_regex("c(?:ao|oes)$"), "ção"),
}
_HEBREW_PREFIXES, _HEBREW_SUFFIXES, _HEBREW_STEM_MIN = "והבלמשכ", ("ים", "ות"), 3


def stem(word: str, language: str) -> str:
    """Returns the stem of a lower-case word, without accents.

    Args:
        word: The word, in NFC.
        language: The language of the text around it, which decides for Latin letters.

    Returns:
        The stem; empty for a stop word.
    """
    of_script = None if word[0] < "\u0370" else next((s for s in _SCRIPTS if s[0] <= word[0] <= s[1]), None)
    spoken, stopping = (of_script[2], of_script[3]) if of_script else (language, (language,))
    folded = fold_accents(word)
    if any(folded in stop_words(name) for name in stopping):
        return ""
    if spoken == "he":
        return _hebrew(folded)
    if spoken in _TRUNCATED:
        return folded[:_TRUNCATED_CHARS]
    if spoken in _ENDINGS:
        pattern, ending = _ENDINGS[spoken]
        word = pattern.sub(ending, word)
    algorithm = _algorithm(spoken)
    return folded if algorithm is None else fold_accents(algorithm(folded if spoken == "en" else word)) or folded


@cache
def _algorithm(language: str) -> Callable[[str], str] | None:
    import Stemmer

    name = _ALGORITHMS.get(language)
    if name is None:
        return None
    found: Callable[[str], str] = Stemmer.Stemmer(name, 0).stemWord
    return found


def _hebrew(word: str) -> str:
    """The word without the articles, conjunctions and prepositions written as its first letters, and its plural."""
    while len(word) > _HEBREW_STEM_MIN and word[0] in _HEBREW_PREFIXES:
        word = word[1:]
    if len(word) > _HEBREW_STEM_MIN + 1 and word.endswith(_HEBREW_SUFFIXES):
        word = word[:-2]
    return word
