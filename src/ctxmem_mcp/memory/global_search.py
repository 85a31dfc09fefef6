"""Searches all conversations, those that match best first, for as long as it may take.

The indexes say which conversations contain words of the query, without opening each for long. Only these are searched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from math import log

from ctxmem_mcp.errors import Corrupt, Unavailable
from ctxmem_mcp.memory.search import SearchRequest
from ctxmem_mcp.models import Hit, SearchResult
from ctxmem_mcp.stores.base import Store

SECONDS_MAX = 20.0
# The indexes of this many conversations are read at a time. So many conversations are searched whatever the time.
CONVERSATIONS_READ = 64


async def search_everything(
    store: Store,
    conversation_ids: Sequence[str],
    request: SearchRequest,
    search_one: Callable[[str], Awaitable[list[Hit]]],
    monotonic: Callable[[], float],
) -> SearchResult:
    """Searches conversations until all are searched or the time is up.

    Args:
        store: Holds them.
        conversation_ids: The most recently active first.
        request: What to search for.
        search_one: Searches one conversation. If it can't be read, the result says so.
        monotonic: Returns seconds that only ever increase.
    """
    until = monotonic() + SECONDS_MAX
    forms = {} if request.is_literal else request.forms
    shares, unmatched = await _matching(store, conversation_ids, forms, lambda: monotonic() > until)
    found: list[tuple[float, Hit]] = []
    searched, unreadable = unmatched, dict[str, str]()
    # Sorting keeps the order of activity among conversations that match equally.
    for number, conversation_id in enumerate(sorted(shares, key=shares.__getitem__, reverse=True)):
        if number >= CONVERSATIONS_READ and monotonic() > until:
            break
        try:
            hits = await search_one(conversation_id)
        except (Corrupt, Unavailable) as error:
            unreadable[conversation_id] = error.message
            continue
        # A score is a log-probability within its conversation, which does not know what its words are worth elsewhere.
        found += [((hit.score or 0.0) + log(shares[conversation_id]), hit) for hit in hits]
        searched += 1
    best = _without_copies(hit for _, hit in sorted(found, key=lambda pair: -pair[0]))
    return SearchResult(best[: request.limit], searched, len(conversation_ids) - len(unreadable), unreadable)


async def _matching(
    store: Store, conversation_ids: Sequence[str], forms: Mapping[str, Sequence[str]], is_late: Callable[[], bool]
) -> tuple[dict[str, float], int]:
    """Returns how much of the query each conversation has, as a share of its terms weighted by their rarity.

    A conversation that can't be read has 1, so that searching it reports why. Those that have no term are left out; the
    second value is their number.
    """
    if not forms:
        return dict.fromkeys(conversation_ids, 1.0), 0
    all_forms = list(dict.fromkeys(form for those in forms.values() for form in those))
    matched: dict[str, set[str] | None] = {}
    read = 0
    while read < len(conversation_ids) and not (read and is_late()):
        batch = conversation_ids[read : read + CONVERSATIONS_READ]
        for conversation_id, found in (await store.term_counts(batch, all_forms)).items():
            matched[conversation_id] = None if found is None else _terms_with(forms, found)
        read += len(batch)
    frequency = Counter(term for terms in matched.values() for term in terms or ())
    rarity = {term: log(1 + read / frequency[term]) for term in frequency}
    total = sum(rarity.values())
    shares = {
        conversation_id: 1.0 if terms is None else sum(map(rarity.__getitem__, terms)) / total
        for conversation_id, terms in matched.items()
    }
    return shares, read - len(shares)


def _terms_with(forms: Mapping[str, Sequence[str]], found: Container[str]) -> set[str]:
    """Returns the terms of which a form was found."""
    return {term for term, those in forms.items() if any(form in found for form in those)}


def _without_copies(hits: Iterable[Hit]) -> list[Hit]:
    """Returns each turn once, with the number of conversations that it was found in."""
    best: dict[str, Hit] = {}
    copies = Counter[str]()
    for hit in hits:
        best.setdefault(hit.turn_id, hit)
        copies[hit.turn_id] += 1
    return [replace(hit, conversations=copies[hit.turn_id]) for hit in best.values()]
