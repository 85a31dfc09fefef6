"""What a text may state: names, numbers, paths and quotations that stand in its source. Pure.

A text is read in chunks (runs of letters, digits and what joins them in paths, flags and versions). Some are *facts*:
what has a digit, looks like code, is a name, a number in words, or stands in quotation marks. A text is borne out by
its source if each of its facts stands there as it is: as a chunk, or as a part of one that has a meaning of its own
(the file of a path, the line after its colon).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# Scripts written without spaces would glue a name to the words around it.
_UNSPACED = re.compile(
    "[\u0e00-\u0e4f\u0e5a-\u0ecf\u0eda-\u0eff\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uff00-\uff0f\uff1a-\uffef]+"
)
_UNSPACED_NUMBER = re.compile("[〇零一二三四五六七八九十百千万萬億亿兆]{2,}")
_WORD = re.compile(r"[\w./\\:@#$€£%+=~&-]+")
_JOINTS = re.compile(r"[/\\:=@#$&~+]")
_SLASH = re.compile(r"[/\\]")
# How arguments of calls write what ends a word.
_ESCAPED = re.compile(r"\\(?:[nrt]|u[0-9a-fA-F]{4})")
_QUOTED = re.compile(r"[\"“«]([^\"”»\n]{2,}?)[\"”»]")
_CODE = re.compile(r"`([^`\n]+)`")
_SENTENCE_START = re.compile(r"(?:\A|[.!?:;]\s+|[\"“(\[]\s*)\Z")
_TRAILING, _LEADING = ".:-=~&@#$/\\", ":=&"
_NUMBER_WORDS = frozenset(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands million
    millions billion dozen dozens twice thrice half""".split()
)


@dataclass(frozen=True, slots=True)
class FactChecker:
    """A source, read. plain: its words in lower case with single spaces, for quotations."""

    words: frozenset[str]
    casefolded: frozenset[str]
    normalized: str

    @classmethod
    def from_source(cls, source: str) -> FactChecker:
        unescaped = _ESCAPED.sub(" ", source).replace('\\"', '"')
        words = frozenset(_words_and_parts(f"{source}\n{unescaped}"))
        return cls(words, frozenset(map(str.casefold, words)), f"{_normalize(source)}\n{_normalize(unescaped)}")

    def supports(self, text: str) -> bool:
        """Whether every fact that the text states stands in the source."""
        return not self.unsupported_facts(text)

    def unsupported_facts(self, text: str) -> list[str]:
        """The facts of a text that do not stand in the source."""
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
        """Whether the source has just this name."""
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
    """Whether it is a number, a path, a flag, or written as no word is."""
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
    """Each once, in order."""
    for word in dict.fromkeys(_WORD.findall(_add_spaces(text))):
        if word := _trim(word):
            yield word


def _words_and_parts(text: str) -> Iterator[str]:
    """Every chunk of a source, and the parts that may be named by themselves."""
    for word in _words_in(text):
        yield word
        yield word.strip("-./~_+*")
        if not any(letter.isalpha() for letter in word):  # a number, a date, a time: no part of it means anything
            yield word.strip("$€£#%+-")
            continue
        yield from (word[slash.end() :] for slash in _SLASH.finditer(word))  # a path from any of its folders on
        for part in _JOINTS.split(word):
            if trimmed := _trim(part):
                yield trimmed
            yield from (name for name in re.split(r"[.-]", part) if name[:1].isalpha() or name[:1] == "_")
