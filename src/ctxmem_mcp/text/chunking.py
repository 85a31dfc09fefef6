"""Splits a turn into chunks (`Piece` in the models), which are ranked and shown individually.

    split(content, role) -> [(start, stop), ...]     character offsets; they tile the content exactly, in order

Most turns are one chunk. Prose stays whole up to a length that can be read at once. Output and code are split into
small chunks, because usually one line of a long output matters. A chunk ends, in order of preference, at a blank line,
a line end, a line end escaped as backslash-n (code inside a call's JSON), or a space. Sizes are estimated from the
length in UTF-8, about four bytes per token in any script, so splitting two megabytes takes only as long as searching
for line ends. Pictures and other data (`media`) are chunks of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ctxmem_mcp.text.analyzer import is_prose
from ctxmem_mcp.text.media import media_spans

# About 400 tokens: a hit in a log or a file shows a screenful, not the whole file.
OUTPUT_BYTES = 1_500
# About 1,500 tokens: a longer message is rarely needed whole.
PROSE_BYTES_WHOLE = 6_000
# Longer prose is split into chunks of about 700 tokens.
PROSE_BYTES = 2_800
# The last chunk may be this many times longer, so that no chunk of a few words remains.
LAST_PIECE_SLACK = 1.3
# A split before this share of the chunk would make it needlessly small.
EARLIEST_SPLIT = 0.5
# The beginning of a text that prose is detected in.
SAMPLE_CHARS = 2_000

_BREAKS = ("\n\n", "\n", "\\n", " ")


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
    if len(content) <= OUTPUT_BYTES // 3:
        return [(0, len(content))]
    bytes_each = len(content.encode("utf-8", "surrogatepass")) / len(content)
    prose = is_prose(content[:SAMPLE_CHARS], role)
    if len(content) * bytes_each <= (PROSE_BYTES_WHOLE if prose else OUTPUT_BYTES):
        return [(0, len(content))]
    return _split_evenly(content, max(1, int((PROSE_BYTES if prose else OUTPUT_BYTES) / bytes_each)))


def _split_evenly(content: str, limit: int) -> list[tuple[int, int]]:
    spans, start, end = [], 0, len(content)
    while end - start > limit * LAST_PIECE_SLACK:
        stop = _split_point(content, start, limit)
        spans.append((start, stop))
        start = stop
    return [*spans, (start, end)]


def _split_point(content: str, start: int, limit: int) -> int:
    earliest, latest = start + int(limit * EARLIEST_SPLIT), start + limit
    for mark in _BREAKS:
        at = content.rfind(mark, earliest, latest)
        if at >= 0:
            return at + len(mark)
    return latest
