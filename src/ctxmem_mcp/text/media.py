"""Finds pictures and other data written as text: base64, hexadecimal digits, lists of numbers, minified code. Pure.

    shown_text('{"type":"image","source":{"data":"iVBORw0KGgo..."}}')    -> '[picture: image/png, 200 kB]'

Such data is stored byte for byte, but nobody reads it: a screenshot of 200 kB would count for 180,000 tokens. Views,
excerpts, summaries, the index and token counts have one line in its place that says what it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ctxmem_mcp.patterns import lazy_regex

# Shorter runs are names, hashes and keys, which people do look for.
RUN_CHARS_MIN = 300
# Of longer contents only the last one's spans are remembered, for the memory that a content takes.
CACHED_CHARS_MAX = 100_000
NUMBERS_MIN = 100
CODE_LINE_CHARS_MIN = 5_000
# How far from the data its type may be stated, and how much of it tells that it is data.
_TYPE_CHARS, _SAMPLE_CHARS = 300, 4_096
_URL_PREFIX_CHARS = 120
# A content whose other text is no longer than this, and which is JSON of one part, is all data.
_SHELL_CHARS_MAX = 600

# A backslash, because JSON writes line ends and slashes with one.
_DATA_CHARS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_=-\\\r\n")
_NUMBER_CHARS = frozenset("0123456789.,+-eE \r\n")
_AFTER_DATA, _AFTER_NUMBERS = lazy_regex(r"[^A-Za-z0-9+/_=\\\r\n-]"), lazy_regex(r"[^0-9.,+eE \r\n-]")
_LETTERS = r"[A-Za-z0-9+/_\\-]"
# A short last line may be a word, unless it is padded or has more than small letters.
_LAST = rf"(?:\r?\n(?:{_LETTERS}{{20,299}}={{0,2}}|{_LETTERS}{{1,19}}={{1,2}}|(?=[a-z]*[A-Z0-9+/]){_LETTERS}{{1,19}}))?"
# On one line, or on several: four that may be short, or two that are long. They begin where a word may.
_DATA = lazy_regex(
    rf"(?<!{_LETTERS})(?:{_LETTERS}{{60,299}}(?:\r?\n{_LETTERS}{{60,299}}){{3,}}{_LAST}|"
    rf"{_LETTERS}{{100,299}}\r?\n{_LETTERS}{{100,299}}{_LAST})|{_LETTERS}{{300,}}={{0,2}}"
)
_URL_MARK = ";base64,"
_URL = lazy_regex(rf"data:([\w.+-]+/[\w.+-]+)(?:;[\w=.+-]+)*{_URL_MARK}([A-Za-z0-9+/_\\-]{{32,}}={{0,2}})")
_URL_PREFIX = lazy_regex(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*,\Z")
_NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_NUMBERS = lazy_regex(rf"\[\s*{_NUMBER}(?:\s*,\s*{_NUMBER}){{{NUMBERS_MIN - 1},}}\s*\]")
_TYPE = lazy_regex(r"(?:media_?type|mime_?type|content_?type|format)\W{1,8}([a-z]+/[\w.+-]+)", re.IGNORECASE)
_PART_TYPE = lazy_regex(
    r'"type"\s*:\s*"(?:image|image_url|input_image|input_audio|audio|file|input_file|document|video|video_url|'
    r'local_image|resource|image_asset_pointer)"'
)
_BLANK_LINES = lazy_regex(r"[\r\n]+")
# How the base64 of common formats begins.
_BEGINNINGS = {
    "iVBORw0KGg": "image/png", "/9j/": "image/jpeg", "R0lGOD": "image/gif", "UklGR": "image/webp",
    "PHN2Zy": "image/svg+xml", "Qk0": "image/bmp", "JVBERi0": "application/pdf", "UEsDB": "application/zip",
    "H4sI": "application/gzip", "SUQz": "audio/mpeg", "T2dnUw": "audio/ogg", "AAAAIGZ0eX": "video/mp4",
    "d09GM": "font/woff2",
}  # fmt: skip
_NAMES = {"image": "picture", "audio": "audio", "video": "video", "font": "font"}


class MediaSpan(NamedTuple):
    """Data in a text: text[start:stop], and the line that says what it is."""

    start: int
    stop: int
    line: str


def media_spans(content: str) -> tuple[MediaSpan, ...]:
    """Returns where a text contains data instead of words, in order and without overlaps."""
    if len(content) < RUN_CHARS_MIN and _URL_MARK not in content:
        return ()
    return _cached_spans(content) if len(content) <= CACHED_CHARS_MAX else _last_spans(content)


def shown_text(content: str, start: int = 0, stop: int | None = None) -> str:
    """Returns a part of a text with a line in place of each piece of data. It is unchanged if it has none."""
    stop = len(content) if stop is None else stop
    parts, at = list[str](), start
    for span in media_spans(content):
        if span.start < stop and start < span.stop:
            parts += [content[at : max(at, span.start)], span.line]
            at = span.stop
    return "".join([*parts, content[at:stop]]) if parts else content[start:stop]


def _find_spans(content: str) -> tuple[MediaSpan, ...]:
    found = list[MediaSpan]()
    # Of those that begin at one place the longest; minified code may contain pictures.
    spans = [*_url_spans(content), *_data_spans(content), *_number_spans(content), *_code_spans(content)]
    for span in sorted(spans, key=lambda s: (s.start, -s.stop)):
        if not found or span.start >= found[-1].stop:
            found.append(span)
    if len(found) == 1 and _is_one_part(content, found[0]):
        found = [MediaSpan(0, len(content), found[0].line)]
    return tuple(found)


_cached_spans = lru_cache(maxsize=128)(_find_spans)
# A long turn is cut into thousands of chunks, one after the other.
_last_spans = lru_cache(maxsize=1)(_find_spans)


def _runs(content: str, chars: frozenset[str], after: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Yields where there are runs of such characters that are long enough.

    A run covers a place that is a multiple of its least length, so that few characters are looked at: a megabyte of
    ordinary text takes some milliseconds.
    """
    at = RUN_CHARS_MIN - 1
    while at < len(content):
        if content[at] in chars:
            start = at
            while start and content[start - 1] in chars:
                start -= 1
            end = after.search(content, at)
            stop = end.start() if end else len(content)
            if stop - start >= RUN_CHARS_MIN:
                yield start, stop
                at = stop
        at += RUN_CHARS_MIN


def _data_spans(content: str) -> Iterator[MediaSpan]:
    for start, stop in _runs(content, _DATA_CHARS, _AFTER_DATA):
        if blank := _BLANK_LINES.match(content, start, stop):
            start = blank.end()  # of megabytes of them the search would look at each
        for match in _DATA.finditer(content, start, stop):
            if encoding := _encoding(match[0]):
                url = _URL_PREFIX.search(content, max(0, match.start() - _URL_PREFIX_CHARS), match.start())
                line = _data_line(content, match.start(), match.end(), url, encoding)
                yield MediaSpan(url.start() if url else match.start(), match.end(), line)


def _url_spans(content: str) -> Iterator[MediaSpan]:
    """Yields the data URLs, which say of themselves that they are data, however short."""
    if _URL_MARK in content:
        for match in _URL.finditer(content):
            yield MediaSpan(match.start(), match.end(), _media_line(match[1], len(match[2]) * 3 // 4))


def _encoding(data: str) -> str:
    """Returns "base64" or "hex"; empty if this may be text."""
    sample = data[:_SAMPLE_CHARS]
    kinds = [sum(map(test, sample)) for test in (str.isdigit, str.isupper, str.islower)]
    distinct = set(sample) - set("\r\n\\")
    if len(distinct) >= 8 and all(char in "0123456789abcdefABCDEF" for char in distinct):
        # On lines of their own they may be a list of hashes.
        return "hex" if kinds[0] > len(sample) // 5 and "\n" not in sample else ""
    return "base64" if len(distinct) >= 20 and min(kinds) * 50 >= len(sample) else ""


def _data_line(content: str, start: int, stop: int, url: re.Match[str] | None, encoding: str) -> str:
    around = [content[max(0, start - _TYPE_CHARS) : start], content[stop : stop + _TYPE_CHARS]]
    found = [types[-1 if part is around[0] else 0] for part in around if (types := _TYPE.findall(part))]
    begins = (kind for beginning, kind in _BEGINNINGS.items() if content.startswith(beginning, start))
    kind = (url and url[1]) or next(begins, "") or next(iter(found), "") or encoding
    size = (stop - start) // 2 if encoding == "hex" else (stop - start) * 3 // 4
    return _media_line(kind, size)


def _media_line(kind: str, size: int) -> str:
    return f"[{_NAMES.get(kind.partition('/')[0], 'data')}: {kind}, {_bytes(size)}]"


def _number_spans(content: str) -> Iterator[MediaSpan]:
    for start, stop in _runs(content, _NUMBER_CHARS, _AFTER_NUMBERS):
        begin = content.rfind("[", max(0, start - 8), start + 1)
        if begin >= 0 and (match := _NUMBERS.match(content, begin, stop + 8)):
            yield MediaSpan(match.start(), match.end(), f"[data: {match[0].count(',') + 1:,} numbers]")


def _code_spans(content: str) -> Iterator[MediaSpan]:
    """Yields the lines of minified code: long, almost without spaces, and full of functions or style rules."""
    at = 0
    while len(content) - at >= CODE_LINE_CHARS_MIN:
        last = content.rfind("\n", at, at + CODE_LINE_CHARS_MIN)
        if last >= 0:  # all lines up to it are shorter: two megabytes of line ends take milliseconds
            at = last + 1
            continue
        end = content.find("\n", at + CODE_LINE_CHARS_MIN)
        stop = len(content) if end < 0 else end
        if _is_minified(content[at:stop]):
            yield MediaSpan(at, stop, f"[data: minified code, {_bytes(stop - at)}]")
        at = stop + 1


def _is_minified(line: str) -> bool:
    size = len(line)
    if line.count(" ") * 25 > size or line.count('"') * 30 > size:
        return False
    script = line.count("function") + line.count("=>") + line.count("return")
    return script * 400 >= size or (line.count("{") * 200 >= size and line.count(";") * 100 >= size)


def _is_one_part(content: str, span: MediaSpan) -> bool:
    """Whether a text is the JSON of one image or file and nothing else."""
    shell = len(content) - (span.stop - span.start)
    if shell > _SHELL_CHARS_MAX or not content.lstrip().startswith("{") or not content.rstrip().endswith("}"):
        return False
    return bool(_PART_TYPE.search(content[: span.start]) or _PART_TYPE.search(content[span.stop :]))


def _bytes(size: int) -> str:
    for unit, factor in (("MB", 1_000_000), ("kB", 1_000)):
        if size >= factor:
            return f"{size / factor:.0f} {unit}" if size >= 10 * factor else f"{size / factor:.1f} {unit}"
    return f"{size} bytes"
