"""Scores conversations for a query by where its terms occur in all of them. Pure.

What counts is how many of the query's terms are near each other: a long conversation contains nearly every term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from ctxmem_mcp.stores.records import BLOCK_BITS, BlockHits

# A conversation's score is the norm of its blocks' scores with this exponent: the best blocks decide, more good ones
# help. Of 160 questions about 68 sessions of one project, the right session is among the first 3 for 54%, among the
# first 12 for 82%; by the best block alone for 40% and 71%.
NORM = 4


def conversation_scores(forms: Mapping[str, Sequence[str]], hits: BlockHits) -> dict[str, float]:
    """Returns how much of a query each conversation has, about 0 to 1; those that have nothing are left out.

    Args:
        forms: The query's terms, each with its forms.
        hits: Where the forms occur.
    """
    import numpy as np

    blocks, weights, absent = [], [], 0.0
    for those in forms.values():
        lists = [hits.places[form] for form in those if form in hits.places]
        if not lists:  # it counts all the same: another conversation may have it
            absent += log(1 + hits.blocks)
            continue
        places = np.unique(np.concatenate([np.asarray(places, np.int64) for places in lists]))
        blocks.append(places)
        weights.append(log(1 + hits.blocks / len(places)))
    if not blocks:
        return {}
    distinct, at = np.unique(np.concatenate(blocks), return_inverse=True)
    scores = np.bincount(at, np.repeat(weights, [len(places) for places in blocks])) / (sum(weights) + absent)
    numbers = distinct >> BLOCK_BITS
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    sums = np.add.reduceat(scores**NORM, first) ** (1 / NORM)
    by_number = dict(zip(numbers[first].tolist(), sums.tolist(), strict=True))
    return {one: by_number[number] for number, one in hits.ids.items() if number in by_number}
