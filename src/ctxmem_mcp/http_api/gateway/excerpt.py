"""Excerpts of a text too long to be sent whole: its beginning, its end, and the lines that the work touches. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

from ctxmem_mcp.patterns import lazy_regex

# Shares of the budget: for the beginning and for the end. The rest is for lines that share words with the work.
BEGINNING_SHARE, END_SHARE = 0.4, 0.2
# What a line that says how much is left out costs.
_GAP_TOKENS = 12
_LINE_CHARS_MAX = 400
_WORD = lazy_regex(r"[^\W\d][\w./-]{2,}|\w*\d\w*")
_LINE = lazy_regex(r"[^\n]*\n|[^\n]+")


def excerpt(text: str, budget: int, work: str, count: Callable[[str], int]) -> str:
    """Returns a text whole if it fits, else in excerpts.

    Args:
        text: the text.
        budget: the most tokens that the result may take.
        work: a text about what is being worked on.
        count: counts tokens.

    Returns:
        Lines of the text in order. A line for each gap says how many tokens are left out.
    """
    if count(text) <= budget:
        return text
    lines = [part for line in _LINE.findall(text) for part in _split(line)]
    sizes = [count(line) + 1 for line in lines]
    chosen = set[int]()
    left = budget - 3 * _GAP_TOKENS
    left -= _take(range(len(lines)), sizes, round(left * BEGINNING_SHARE), chosen, stop=True)
    left -= _take(range(len(lines) - 1, -1, -1), sizes, round(budget * END_SHARE), chosen, stop=True)
    _take(_by_relevance(lines, work, chosen), [size + _GAP_TOKENS for size in sizes], left, chosen)
    while True:
        found = _joined(lines, sizes, chosen)
        if not chosen or count(found) <= budget:
            return found
        chosen.remove(sorted(chosen)[len(chosen) // 2])


def _split(line: str) -> list[str]:
    return [line[at : at + _LINE_CHARS_MAX] for at in range(0, len(line), _LINE_CHARS_MAX)]


def _take(order: Sequence[int], sizes: Sequence[int], budget: int, chosen: set[int], *, stop: bool = False) -> int:
    """Chooses lines in this order while they fit; returns their tokens. stop: ends at the first that does not."""
    spent = 0
    for i in order:
        if i in chosen:
            continue
        if spent + sizes[i] > budget:
            if stop:
                break
            continue
        spent += sizes[i]
        chosen.add(i)
    return spent


def _by_relevance(lines: Sequence[str], work: str, chosen: set[int]) -> list[int]:
    """Returns the lines that share words with the work, those with the rarest words first."""
    words = [_words(line) for line in lines]
    lines_with = Counter(word for found in words for word in found)
    wanted = _words(work)
    scores = {
        i: sum(math.log(1 + len(lines) / lines_with[word]) for word in found & wanted)
        for i, found in enumerate(words)
        if i not in chosen
    }
    return sorted((i for i, score in scores.items() if score), key=lambda i: (-scores[i], i))


def _words(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text)}


def _joined(lines: Sequence[str], sizes: Sequence[int], chosen: set[int]) -> str:
    parts: list[str] = []
    gap = 0
    for i, line in enumerate(lines):
        if i not in chosen:
            gap += sizes[i]
            continue
        if gap:
            parts.append(_gap_line(parts, gap))
            gap = 0
        parts.append(line)
    return "".join([*parts, _gap_line(parts, gap)] if gap else parts)


def _gap_line(before: Sequence[str], tokens: int) -> str:
    start = "\n" if before and not before[-1].endswith("\n") else ""
    return f"{start}[… {tokens} tokens left out]\n"
