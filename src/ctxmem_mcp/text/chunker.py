"""Splits a turn into chunks (`Piece` in the models), which are ranked and shown individually.

    split(content, role) -> [(start, stop), ...]     character offsets; they tile the content exactly, in order

Short turns are one chunk. Prose is split into a few sentences, because a question is usually about one of them; output
and code into about a screenful. A chunk ends, in order of preference, at a blank line, a line end, the end of a
sentence in prose or a line end escaped as backslash-n in code (inside a call's JSON), or a space. Sizes are estimated
from the length in UTF-8, about four bytes per token in any script, so splitting two megabytes takes only as long as
searching for line ends. Pictures and other data (`media`) are chunks of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.chunk_flags import is_prose
from ctxmem_mcp.text.media import media_spans

# About 400 tokens: a hit in a log or a file shows a screenful, not the whole file.
OUTPUT_BYTES = 1_500
# About 150 tokens. Chunks of 2,800 bytes found 10% less of people's evidence in 4,000 tokens (decision 7).
PROSE_BYTES = 600
# Prose of up to so many characters and bytes is split between lines only: a view of it shows whole lines.
WHOLE_LINES_CHARS, WHOLE_LINES_BYTES = 1_000, 1_500
# The last chunk may be this many times longer, so that no chunk of a few words remains.
LAST_PIECE_SLACK = 1.3
# A split before this share of the chunk would make it needlessly small.
EARLIEST_SPLIT = 0.5
# The beginning of a text that prose is detected in.
SAMPLE_CHARS = 2_000

_LINE_BREAKS = ("\n\n", "\n")
_SENTENCE_END = lazy_regex(r"[.!?…][\"'”’»)\]*_]*\s+|[。！？…][”’」』）]*")


def split(content: str, role: str) -> list[tuple[int, int]]:
    """Splits a turn's content.

    Args:
        content: The content of the turn.
        role: The role of the turn.

    Returns:
        Start and stop of each chunk, in characters; empty if the content is empty.
    """
    spans, at = list[tuple[int, int]](), 0
    for data in media_spans(content):
        spans += [*_shifted(_split(content[at : data.start], role), at), (data.start, data.stop)]
        at = data.stop
    return [*spans, *_shifted(_split(content[at:], role), at)] if spans else _split(content, role)


def _shifted(spans: Iterable[tuple[int, int]], by: int) -> Iterator[tuple[int, int]]:
    return ((start + by, stop + by) for start, stop in spans)


def _split(content: str, role: str) -> list[tuple[int, int]]:
    if not content:
        return []
    if len(content) <= PROSE_BYTES // 4:
        return [(0, len(content))]
    bytes_each = len(content.encode("utf-8", "surrogatepass")) / len(content)
    prose = is_prose(content[:SAMPLE_CHARS], role)
    limit, size = PROSE_BYTES if prose else OUTPUT_BYTES, len(content) * bytes_each
    if size <= limit:
        return [(0, len(content))]
    find = _split_point_of_prose if prose else _split_point
    if prose and len(content) <= WHOLE_LINES_CHARS and size <= WHOLE_LINES_BYTES:
        find = _end_of_line
    return _split_evenly(content, max(1, int(limit / bytes_each)), find)


def _split_evenly(content: str, limit: int, find: Callable[[str, int, int], int]) -> list[tuple[int, int]]:
    spans, start, end = [], 0, len(content)
    while end - start > limit * LAST_PIECE_SLACK and (stop := find(content, start, limit)) < end:
        spans.append((start, stop))
        start = stop
    return [*spans, (start, end)]


def _split_point(content: str, start: int, limit: int) -> int:
    return _after_mark(content, start, limit, ("\n\n", "\n", "\\n", " ")) or start + limit


def _split_point_of_prose(content: str, start: int, limit: int) -> int:
    if at := _after_mark(content, start, limit, _LINE_BREAKS):
        return at
    ends = [end.end() for end in _SENTENCE_END.finditer(content, start + int(limit * EARLIEST_SPLIT), start + limit)]
    return ends[-1] if ends else _after_mark(content, start, limit, (" ",)) or start + limit


def _end_of_line(content: str, start: int, limit: int) -> int:
    at = _after_mark(content, start, limit, _LINE_BREAKS)
    return at or content.find("\n", start + limit) + 1 or len(content)


def _after_mark(content: str, start: int, limit: int, marks: Iterable[str]) -> int:
    """The end of the last of the first mark that is found within the limit; 0 if none is."""
    earliest, latest = start + int(limit * EARLIEST_SPLIT), start + limit
    return next((at + len(mark) for mark in marks if (at := content.rfind(mark, earliest, latest)) >= 0), 0)
