"""Scores conversations for a query by where its terms occur in all of them. Pure.

What counts is how many of the query's terms are near each other: a long conversation contains nearly every term.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from typing import Any

from ctxmem_mcp.stores.base import BLOCK_BITS, BlockHits

# Of a conversation's score, the part that its best block makes; the rest is what it has of the query in any place.
BEST_BLOCK_SHARE = 0.7


def conversation_scores(forms: Mapping[str, Sequence[str]], hits: BlockHits) -> dict[str, float]:
    """Returns how much of a query each conversation has, from 0 to 1; those that have nothing are left out.

    Args:
        forms: The query's terms, each with its forms.
        hits: Where the forms occur.
    """
    import numpy as np

    blocks, weights, total = [], [], 0.0
    for those in forms.values():
        lists = [hits.places[form] for form in those if form in hits.places]
        if not lists:
            continue
        places = np.unique(np.concatenate([np.asarray(places, np.int64) for places in lists]))
        rarity = log(1 + hits.blocks / len(places))
        total += rarity
        blocks.append(places)
        weights.append(rarity)
    if not blocks:
        return {}
    owners = [np.unique(places >> BLOCK_BITS) for places in blocks]
    best = _summed(np, blocks, weights)
    anywhere = dict(zip(*(found.tolist() for found in _summed(np, owners, weights)), strict=True))
    numbers = best[0] >> BLOCK_BITS
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    tops = np.maximum.reduceat(best[1], first)
    return {
        hits.ids[number]: (BEST_BLOCK_SHARE * top + (1 - BEST_BLOCK_SHARE) * anywhere[number]) / total
        for number, top in zip(numbers[first].tolist(), tops.tolist(), strict=True)
        if number in hits.ids
    }


def _summed(np: Any, places: Sequence[Any], weights: Sequence[float]) -> tuple[Any, Any]:
    """Returns the distinct places in order, and the sum of the weights of those lists that contain each."""
    distinct, at = np.unique(np.concatenate(places), return_inverse=True)
    return distinct, np.bincount(at, np.repeat(weights, [len(one) for one in places]))
