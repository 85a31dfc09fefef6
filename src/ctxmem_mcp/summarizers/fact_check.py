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
_CHUNK = re.compile(r"[\w./\\:@#$€£%+=~&-]+")
_JOINTS = re.compile(r"[/\\:=@#$&~+]")
_SLASH = re.compile(r"[/\\]")
# How arguments of calls write what ends a word.
_ESCAPED = re.compile(r"\\(?:[nrt]|u[0-9a-fA-F]{4})")
_QUOTED = re.compile(r"[\"“«]([^\"”»\n]{2,}?)[\"”»]")
_CODE = re.compile(r"`([^`\n]+)`")
_SENTENCE_START = re.compile(r"(?:\A|[.!?:;]\s+|[\"“(\[]\s*)\Z")
_END, _BEGIN = ".:-=~&@#$/\\", ":=&"
_NUMBER_WORDS = frozenset(
    """two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred hundreds thousand thousands million
    millions billion dozen dozens twice thrice half""".split()
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A source, read. plain: its words in lower case with single spaces, for quotations."""

    words: frozenset[str]
    folded: frozenset[str]
    plain: str

    @classmethod
    def of(cls, source: str) -> Evidence:
        unescaped = _ESCAPED.sub(" ", source).replace('\\"', '"')
        words = frozenset(_parts_of(f"{source}\n{unescaped}"))
        return cls(words, frozenset(map(str.casefold, words)), f"{_plain(source)}\n{_plain(unescaped)}")

    def bears_out(self, text: str) -> bool:
        """Whether every fact that the text states stands in the source."""
        return not self.missing(text)

    def missing(self, text: str) -> list[str]:
        """The facts of a text that do not stand in the source."""
        found = [quote for quote in _QUOTED.findall(text) if " " in quote.strip() and _plain(quote) not in self.plain]
        found += [part for code in _CODE.findall(text) for part in _chunks(code) if not self._has(part)]
        found += [number for number in _UNSPACED_NUMBER.findall(text) if number not in self.plain]
        spaced = _spaced(text)
        for match in _CHUNK.finditer(spaced):
            part = _trimmed(match[0])
            starts = _SENTENCE_START.search(spaced, 0, match.start()) is not None
            called = spaced[match.end() : match.end() + 1] == "("
            if part and not self._stands(part, starts=starts, called=called):
                found.append(part)
        return found

    def names(self, identifier: str) -> bool:
        """Whether the source has just this name."""
        parts = list(_chunks(identifier))
        return bool(parts) and all(map(self._has, parts)) and _plain(identifier) in self.plain

    def _stands(self, part: str, *, starts: bool, called: bool) -> bool:
        if called or _is_code(part):
            return self._has(part)
        if part[0].isupper() and not starts and len(part) > 1:
            return self._has_folded(part)
        if part.casefold() in _NUMBER_WORDS:
            return part.casefold() in self.folded
        return True

    def _has(self, part: str) -> bool:
        if part in self.words or (part.isalpha() and part.isupper() and part.casefold() in self.folded):
            return True
        bare = part.lstrip("./~")
        return bare[:1].isalpha() and bare in self.words

    def _has_folded(self, part: str) -> bool:
        return all(word.casefold() in self.folded for word in part.split("-") if word)


def _is_code(part: str) -> bool:
    """Whether it is a number, a path, a flag, or written as no word is."""
    return (
        any(letter.isdigit() or letter.isnumeric() or letter in "./\\:@#$€£%=~&+_" for letter in part)
        or part.startswith("-")
        or any(letter.isupper() for letter in part[1:])
    )


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _spaced(text: str) -> str:
    return _UNSPACED.sub(" ", text)


def _trimmed(chunk: str) -> str:
    part = chunk.rstrip(_END).lstrip(_BEGIN)
    return part if any(letter.isalnum() for letter in part) else ""


def _chunks(text: str) -> Iterator[str]:
    """Each once, in order."""
    for chunk in dict.fromkeys(_CHUNK.findall(_spaced(text))):
        if part := _trimmed(chunk):
            yield part


def _parts_of(text: str) -> Iterator[str]:
    """Every chunk of a source, and the parts that may be named by themselves."""
    for part in _chunks(text):
        yield part
        yield part.strip("-./~_+*")
        if not any(letter.isalpha() for letter in part):  # a number, a date, a time: no part of it means anything
            yield part.strip("$€£#%+-")
            continue
        yield from (part[slash.end() :] for slash in _SLASH.finditer(part))  # a path from any of its folders on
        for piece in _JOINTS.split(part):
            if trimmed := _trimmed(piece):
                yield trimmed
            yield from (name for name in re.split(r"[.-]", piece) if name[:1].isalpha() or name[:1] == "_")
