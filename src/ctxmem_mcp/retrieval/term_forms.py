"""Hits of a word's forms in several languages, as those of one term. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctxmem_mcp.retrieval.query import ParsedQuery
from ctxmem_mcp.stores.records import TermHits

# A chunk and a position in it as one number.
_POSITION_BITS = 32


def merge_forms(parsed: ParsedQuery, hits: Mapping[str, TermHits]) -> dict[str, TermHits]:
    """Returns the hits of the query's terms, each with those of its forms in other languages."""
    return {
        term: found
        for term in parsed.terms
        if (found := _united([hits[form] for form in (term, *parsed.other_forms.get(term, ())) if form in hits]))
    }


def _united(hits: Sequence[TermHits]) -> TermHits | None:
    if len(hits) < 2:
        return hits[0] if hits else None
    if any(hit.capped for hit in hits):
        return TermHits(max(hit.df for hit in hits), capped=True)
    import numpy as np

    pieces, positions = (np.concatenate(columns) for columns in zip(*map(places_of, hits), strict=True))
    places: Any = np.unique(pieces << _POSITION_BITS | positions)
    found: Any = places >> _POSITION_BITS
    return TermHits(len(np.unique(found)), found, places & ((1 << _POSITION_BITS) - 1))


def places_of(hit: TermHits) -> tuple[Any, Any]:
    """Returns the chunks of a hit and its positions in them, as arrays."""
    import numpy as np

    return np.asarray(hit.pieces, dtype=np.int64), np.asarray(hit.positions, dtype=np.int64)
