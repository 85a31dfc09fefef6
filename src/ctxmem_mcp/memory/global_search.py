"""Searches all conversations, those that match best first, for as long as it may take.

The index over all conversations says which contain words of the query; for those that are not in it, and in stores that
have none, their own indexes do, without opening each for long. Only the best are searched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import Protocol, TypeVar

from ctxmem_mcp.errors import Corrupt, Unavailable
from ctxmem_mcp.results import Hit, SearchResult
from ctxmem_mcp.retrieval.conversation_scores import conversation_scores
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.extensions import IndexedStore
from ctxmem_mcp.text.chunk_flags import LANGUAGE_TERMS


class _Found(Protocol):
    """A turn that was found in a conversation."""

    @property
    def turn_id(self) -> str: ...

    @property
    def score(self) -> float | None: ...


F = TypeVar("F", bound=_Found)

SECONDS_MAX = 20.0
# The indexes of this many conversations are read at a time. So many conversations are searched whatever the time.
CONVERSATIONS_READ = 64
# For so long, the index over all conversations is brought up to date before a search, and the own indexes of those that
# it lacks are read. After a large import there are thousands, which a running server indexes in the background.
UPDATE_SECONDS = BEHIND_SECONDS = 1.0
# At least so many of the best conversations are searched; more until there are as many hits as wanted.
BEST_SEARCHED = 8
# Conversations that are replaced between their search and the reading of their hits are searched again so often.
LOAD_TRIES = 3


@dataclass(frozen=True, slots=True)
class Matches:
    """Which conversations contain words of a query.

    Attributes:
        scores: How much of the query each has, from 0 to 1; those that have nothing are left out.
        looked_at: How many conversations were looked at.
        conversations: How many there are.
        unreadable: Files that can't be read, each with the reason.
        not_indexed: How many were not looked at because the index over all does not have them yet.
    """

    scores: Mapping[str, float]
    looked_at: int
    conversations: int
    unreadable: Mapping[str, str] = field(default_factory=dict)
    not_indexed: int = 0


async def find_languages(store: Store, now: float, *, listed: bool = False) -> Sequence[str]:
    """Brings the index over all conversations up to date, for up to UPDATE_SECONDS.

    A word has some twenty forms in all languages, each of which takes as long to look up as the word.

    Args:
        store: Holds the conversations.
        now: Seconds since 1970.
        listed: The caller has listed the conversations just now.

    Returns:
        The languages besides English that turns are in; all if the index is not up to date, lacks more than
        CONVERSATIONS_READ conversations, or there is none.
    """
    if not isinstance(store, IndexedStore):
        return list(LANGUAGE_TERMS)
    marks = list(LANGUAGE_TERMS.values())
    hits = await store.find_blocks(marks, now, UPDATE_SECONDS, listed=listed)
    if hits.behind or len(hits.left_out) > CONVERSATIONS_READ:
        return list(LANGUAGE_TERMS)
    found = set(hits.places)
    if hits.left_out:
        counts = await store.term_counts(hits.left_out, [mark for mark in marks if mark not in found])
        found.update(mark for those in counts.values() for mark in those or ())
    return [language for language, mark in LANGUAGE_TERMS.items() if mark in found]


async def match_conversations(
    store: Store,
    conversation_ids: Sequence[str] | None,
    forms: Mapping[str, Sequence[str]],
    now: float,
    monotonic: Callable[[], float],
) -> Matches:
    """Finds the conversations that contain words of a query, in an index as up to date as `find_languages` left it.

    Args:
        store: Holds them.
        conversation_ids: The ones to look at, the most recently active first; None for all of an IndexedStore.
        forms: The query's terms, each with its forms. Without any, all conversations match.
        now: Seconds since 1970.
        monotonic: Returns seconds that only ever increase.
    """
    until = monotonic() + (BEHIND_SECONDS if forms and isinstance(store, IndexedStore) else SECONDS_MAX)
    scores: dict[str, float] = {}
    late = 0
    unreadable: Mapping[str, str] = {}
    if forms and isinstance(store, IndexedStore):
        all_forms = list(dict.fromkeys(form for those in forms.values() for form in those))
        hits = await store.find_blocks(all_forms, now, 0.0, listed=True)
        scores, unreadable = conversation_scores(forms, hits), hits.unreadable
        left_out, behind, total = list(hits.left_out), list(hits.behind), hits.conversations
        if conversation_ids is not None:
            wanted, total = set(conversation_ids), len(conversation_ids)
            scores = {one: score for one, score in scores.items() if one in wanted}
            left_out, behind = ([one for one in those if one in wanted] for those in (left_out, behind))
        others, late = left_out + behind, len(behind)  # those that no index will have first
    else:
        others = list(conversation_ids or ())
        total = len(others)
    shares, unmatched = await _matching(store, others, forms, lambda: monotonic() > until)
    unread = len(others) - len(shares) - unmatched
    return Matches({**scores, **shares}, total - unread, total, unreadable, min(unread, late))


async def search_everything(
    matches: Matches,
    limit: int,
    find: Callable[[str], Awaitable[Sequence[F]]],
    load: Callable[[str, Sequence[F]], Awaitable[Sequence[Hit]]],
    is_late: Callable[[], bool],
) -> SearchResult:
    """Searches the conversations that match best, until there are enough hits or the time is up.

    Args:
        matches: The conversations.
        limit: The most hits to return.
        find: Finds turns in one conversation. If it can't be read, the result says so.
        load: Reads turns that were found in a conversation.
        is_late: Whether the time is up.
    """
    found: dict[str, Sequence[F]] = {}
    searched, unreadable = matches.looked_at - len(matches.scores), dict(matches.unreadable)
    total = matches.conversations
    # Sorting keeps the order of activity among conversations that match equally.
    best_first = sorted(matches.scores, key=matches.scores.__getitem__, reverse=True)
    for number, conversation_id in enumerate(best_first):
        if number >= CONVERSATIONS_READ and is_late():
            break
        if number >= BEST_SEARCHED and len({turn.turn_id for turns in found.values() for turn in turns}) >= limit:
            searched += len(best_first) - number  # the index has looked at them: they match less
            break
        try:
            found[conversation_id] = await find(conversation_id)
        except (Corrupt, Unavailable) as error:
            unreadable[conversation_id] = error.message
            total -= 1
            continue
        searched += 1
    hits: dict[tuple[str, str], Hit] = {}
    for _ in range(LOAD_TRIES):
        unread = [place for place in _best_places(found, matches.scores, limit) if place not in hits]
        for conversation_id in dict.fromkeys(one for one, _ in unread):
            these = [turn for turn in found[conversation_id] if (conversation_id, turn.turn_id) in unread]
            try:
                loaded = await load(conversation_id, these)
                if len(loaded) < len(these):  # the conversation was replaced since it was searched
                    found[conversation_id] = await find(conversation_id)
            except (Corrupt, Unavailable) as error:
                unreadable[conversation_id] = error.message
                del found[conversation_id]
                continue
            hits |= {(conversation_id, hit.turn_id): hit for hit in loaded}
    copies = Counter(turn.turn_id for turns in found.values() for turn in turns)
    read = [hits[place] for place in _best_places(found, matches.scores, limit) if place in hits]
    found_hits = [replace(hit, conversations=copies[hit.turn_id]) for hit in read]
    return SearchResult(found_hits, searched, total, unreadable, matches.not_indexed)


def _best_places(
    found: Mapping[str, Sequence[_Found]], scores: Mapping[str, float], limit: int
) -> list[tuple[str, str]]:
    """Returns the conversation and the id of the best turns, best first. Of copies of a turn the best counts.

    A turn's score is a log-probability within its conversation, which does not know what its words are worth elsewhere:
    how much of the query the conversation has is added.
    """
    scored = [
        ((turn.score or 0.0) + log(scores[conversation_id]), conversation_id, turn.turn_id)
        for conversation_id, turns in found.items()
        for turn in turns
    ]
    best: dict[str, tuple[str, str]] = {}
    for _, conversation_id, turn_id in sorted(scored, key=lambda one: -one[0]):
        best.setdefault(turn_id, (conversation_id, turn_id))
    return list(best.values())[:limit]


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
    rarity = {term: log(1 + read / max(1, frequency[term])) for term in forms}
    total = sum(rarity.values())
    shares = {
        conversation_id: 1.0 if terms is None else sum(map(rarity.__getitem__, terms)) / total
        for conversation_id, terms in matched.items()
    }
    return shares, read - len(shares)


def _terms_with(forms: Mapping[str, Sequence[str]], found: Container[str]) -> set[str]:
    """Returns the terms of which a form was found."""
    return {term for term, those in forms.items() if any(form in found for form in those)}
