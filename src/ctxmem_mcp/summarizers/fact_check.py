"""Checks that the names, numbers, paths and quotations of a text occur in its source. Pure.

A text is split into words: runs of letters, digits and the characters that join them in paths, flags and versions.
Some are *facts*: words that contain a digit, look like code, are names or numerals, and quotations. A source supports a
text if it contains each of its facts unchanged: as a word, or as a part of one that has a meaning of its own (the file
of a path, the line number after its colon).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxmem_mcp.patterns import lazy_regex

# Scripts without spaces between words: removed, so that they do not attach to a name.
_UNSPACED = lazy_regex(
    "[\u0e00-\u0e4f\u0e5a-\u0ecf\u0eda-\u0eff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff00-\uff0f\uff1a-\uffef]+"
)
_UNSPACED_NUMBER = lazy_regex("[〇零一二三四五六七八九十百千万萬億亿兆]{2,}")
_WORD = lazy_regex(r"[\w./\\:@#$€£%+=~&-]+")
_JOINTS = lazy_regex(r"[/\\:=@#$&~+]")
_SLASH = lazy_regex(r"[/\\]")
# Escapes in the JSON arguments of calls that separate words.
_ESCAPED = lazy_regex(r"\\(?:[nrt]|u[0-9a-fA-F]{4})")
_QUOTED = lazy_regex(r"[\"“«]([^\"”»\n]{2,}?)[\"”»]")
_CODE = lazy_regex(r"`([^`\n]+)`")
_SENTENCE_START = lazy_regex(r"(?:\A|[.!?:;]\s+|[\"“(\[]\s*)\Z")
_TRAILING, _LEADING = ".:-=~&@#$/\\", ":=&"
_NUMBER_WORDS = frozenset(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands million
    millions billion dozen dozens twice thrice half""".split()
)


@dataclass(frozen=True, slots=True)
class FactChecker:
    """A source, indexed.

    Attributes:
        words: Its words, and their parts that have a meaning of their own.
        casefolded: The same, case-folded.
        normalized: Its text case-folded with single spaces, to find quotations in.
    """

    words: frozenset[str]
    casefolded: frozenset[str]
    normalized: str

    @classmethod
    def from_source(cls, source: str) -> FactChecker:
        """Indexes a source, both as it is and with JSON escapes resolved."""
        unescaped = _ESCAPED.sub(" ", source).replace('\\"', '"')
        words = frozenset(_words_and_parts(f"{source}\n{unescaped}"))
        return cls(words, frozenset(map(str.casefold, words)), f"{_normalize(source)}\n{_normalize(unescaped)}")

    def supports(self, text: str) -> bool:
        """Whether the source contains every fact of a text."""
        return not self.unsupported_facts(text)

    def unsupported_facts(self, text: str) -> list[str]:
        """Returns the facts of a text that the source does not contain."""
        found = [
            quote
            for quote in _QUOTED.findall(text)
            if " " in quote.strip() and _normalize(quote) not in self.normalized
        ]
        found += [word for code in _CODE.findall(text) for word in _words_in(code) if not self._contains(word)]
        found += [number for number in _UNSPACED_NUMBER.findall(text) if number not in self.normalized]
        spaced = _add_spaces(text)
        for match in _WORD.finditer(spaced):
            word = _trim(match[0])
            starts_sentence = _SENTENCE_START.search(spaced, 0, match.start()) is not None
            is_called = spaced[match.end() : match.end() + 1] == "("
            if word and not self._is_supported(word, starts_sentence=starts_sentence, is_called=is_called):
                found.append(word)
        return found

    def has_name(self, identifier: str) -> bool:
        """Whether the source contains exactly this name."""
        words = list(_words_in(identifier))
        return bool(words) and all(map(self._contains, words)) and _normalize(identifier) in self.normalized

    def _is_supported(self, word: str, *, starts_sentence: bool, is_called: bool) -> bool:
        if is_called or _is_code(word):
            return self._contains(word)
        if word[0].isupper() and not starts_sentence and len(word) > 1:
            return self._contains_casefolded(word)
        if word.casefold() in _NUMBER_WORDS:
            return word.casefold() in self.casefolded
        return True

    def _contains(self, word: str) -> bool:
        if word in self.words or (word.isalpha() and word.isupper() and word.casefold() in self.casefolded):
            return True
        bare = word.lstrip("./~")
        return bare[:1].isalpha() and bare in self.words

    def _contains_casefolded(self, word: str) -> bool:
        return all(part.casefold() in self.casefolded for part in word.split("-") if part)


def _is_code(word: str) -> bool:
    """Whether it is a number, a path or a flag, or has capitals inside."""
    return (
        any(letter.isdigit() or letter.isnumeric() or letter in "./\\:@#$€£%=~&+_" for letter in word)
        or word.startswith("-")
        or any(letter.isupper() for letter in word[1:])
    )


def _normalize(text: str) -> str:
    return " ".join(text.casefold().split())


def _add_spaces(text: str) -> str:
    return _UNSPACED.sub(" ", text)


def _trim(word: str) -> str:
    word = word.rstrip(_TRAILING).lstrip(_LEADING)
    return word if any(letter.isalnum() for letter in word) else ""


def _words_in(text: str) -> Iterator[str]:
    """The words of a text, each once, in order."""
    for word in dict.fromkeys(_WORD.findall(_add_spaces(text))):
        if trimmed := _trim(word):
            yield trimmed


def _words_and_parts(text: str) -> Iterator[str]:
    """Every word of a source, and those of its parts that may be named on their own."""
    for word in _words_in(text):
        yield word
        yield word.strip("-./~_+*")
        if not any(letter.isalpha() for letter in word):  # a number, a date or a time: its parts mean nothing
            yield word.strip("$€£#%+-")
            continue
        yield from (word[slash.end() :] for slash in _SLASH.finditer(word))  # a path, from each of its folders on
        for part in _JOINTS.split(word):
            if trimmed := _trim(part):
                yield trimmed
            yield from (name for name in re.split(r"[.-]", part) if name[:1].isalpha() or name[:1] == "_")
