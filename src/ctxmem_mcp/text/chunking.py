"""Cuts a turn into pieces: the stretches of it that are ranked and shown one by one.

    cut(content, role) -> [(start, stop), ...]     characters; they tile the content exactly, in order

Most turns are one piece. Talk stays whole as long as it can be read at once; output and code are cut small, because
one line of a long output is usually what matters. Cuts fall, where there is a choice, at a blank line, else a line
end, else a line end written as backslash-n (code inside a call's JSON), else a space. Sizes are estimated from the
length in UTF-8, about four bytes a token in any script, so cutting two megabytes costs what searching for line ends
costs.
"""

from __future__ import annotations

from ctxmem_mcp.text.analyzer import is_prose

# About 400 tokens: one hit in a log or a file brings a screenful, not the file.
OUTPUT_BYTES = 1_500
# About 1,500 tokens: a message longer than that is rarely wanted whole.
PROSE_BYTES_WHOLE = 6_000
# Longer talk is cut into stretches of about 700 tokens.
PROSE_BYTES = 2_800
# The last piece may be this much longer, so that no scrap of a few words is left over.
LAST_PIECE_SLACK = 1.3
# A cut before this share of the piece would make it needlessly small.
EARLIEST_SPLIT = 0.5
# Enough of a text to tell talk from code by.
SAMPLE_CHARS = 2_000

_BREAKS = ("\n\n", "\n", "\\n", " ")


def split(content: str, role: str) -> list[tuple[int, int]]:
    """Where the pieces of a turn begin and end; no piece at all for an empty one."""
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
