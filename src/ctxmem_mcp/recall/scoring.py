"""The scores of all candidates at once: what the columns of features times their weights sum up to, in a third of the
time. Pure.

Features say how a score is made up, and training works on them; this is the same sum, taken in another order: what
depends only on the kind of piece is worked out once for each kind, what depends on matching terms once for each set
of terms, and what is the same for a whole section once for the section. A test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from ctxmem_mcp.recall import features
from ctxmem_mcp.recall.features import Matches, PieceFacts
from ctxmem_mcp.recall.query import Plan

# These differ from piece to piece of a kind.
_OWN = frozenset(("size", "recent", "after_question", "period"))
_LOGS = [log(tokens + 12) for tokens in range(2_048)]
_NOTHING = (0.0, 0)


def scores(
    plan: Plan,
    matches: Matches,
    facts: Sequence[PieceFacts],
    n: int,
    mean_words: float,
    weights: Mapping[str, float],
) -> list[float]:
    """A score per candidate, in their order (by ordinal)."""
    matches = features.narrowed(matches, facts)
    found = _natures(plan, facts, n, weights)
    for more in (
        _own(matches, facts, mean_words, weights),
        _around(matches, facts, weights),
        _sections(matches, facts, weights),
    ):
        found = [a + b for a, b in zip(found, more, strict=True)]
    if matches.meanings:
        for name, column in features.meant(matches, facts).items():
            weight = weights.get(name, 0.0)
            found = [score + weight * value for score, value in zip(found, column, strict=True)]
    return found


def _natures(plan: Plan, facts: Sequence[PieceFacts], n: int, weights: Mapping[str, float]) -> list[float]:
    """What the piece is, and whether it is of the kind that is asked for."""
    known: dict[tuple[str, int, bool, str | None], float] = {}
    size, recent, after = weights.get("size", 0.0), weights.get("recent", 0.0) / n, weights.get("after_question", 0.0)
    by_name, found = bool(plan.speakers), []
    asked_at, asks, flags = -1, features.ASKS, features.flags_of_interest(plan)
    for f in facts:
        key = (f.role, f.flags & flags, f.start == 0, f.name if by_name else None)
        score = known.get(key)
        if score is None:
            score = known[key] = _nature(plan, f, weights)
        tokens = f.tokens
        score += size * (_LOGS[tokens] if tokens < 2_048 else log(tokens + 12)) + recent * f.ordinal
        if asked_at == f.ordinal - 1 and f.turn > f.session:
            score += after
        if f.flags & asks == asks:
            asked_at = f.ordinal
        found.append(score)
    if plan.periods and (weight := weights.get("period", 0.0)):
        found = [s + weight * inside for s, inside in zip(found, features.in_periods(plan, facts), strict=True)]
    return found


def _nature(plan: Plan, fact: PieceFacts, weights: Mapping[str, float]) -> float:
    columns = features.nature([fact], 1) | features.asked(plan, [fact])
    return sum(weights.get(name, 0.0) * column[0] for name, column in columns.items() if name not in _OWN)


def _own(matches: Matches, facts: Sequence[PieceFacts], mean_words: float, weights: Mapping[str, float]) -> list[float]:
    """How well the piece itself matches."""
    bm25 = features.bm25(matches, facts, mean_words)
    per_score = weights.get("bm25", 0.0) / matches.whole + weights.get("rel", 0.0) / (max(bm25, default=0.0) or 1.0)
    by_mask: dict[int, float] = {0: 0.0}
    masks, pairs, pair = matches.masks, matches.pairs, weights.get("pair", 0.0)
    found = []
    for f, score in zip(facts, bm25, strict=True):
        mask = masks.get(f.ordinal, 0)
        value = by_mask.get(mask)
        if value is None:
            value = by_mask[mask] = _of_mask(matches, mask, weights)
        found.append(value + per_score * score + pair * pairs.get(f.ordinal, 0.0))
    return found


def _of_mask(matches: Matches, mask: int, weights: Mapping[str, float]) -> float:
    rarest = max(matches.idf, default=1.0) or 1.0
    rare = max((w for j, w in enumerate(matches.idf) if mask >> j & 1), default=0.0)
    exact = matches.worth(mask & matches.exact) / (matches.worth(matches.exact) or 1.0)
    return (
        weights.get("cover", 0.0) * matches.worth(mask) / matches.whole
        + weights.get("exact", 0.0) * exact
        + weights.get("rare", 0.0) * rare / rarest
        + weights.get("any", 0.0)
    )


def _around(matches: Matches, facts: Sequence[PieceFacts], weights: Mapping[str, float]) -> list[float]:
    """How well its neighbours match, never over a sitting's border."""
    top = max(matches.loose.values(), default=0.0) or 1.0
    before2, before1 = weights.get("before2", 0.0) / top, weights.get("before1", 0.0) / top
    after1, after2 = weights.get("after1", 0.0) / top, weights.get("after2", 0.0) / top
    window, context = weights.get("window", 0.0) / matches.whole, weights.get("context", 0.0) / matches.whole
    loose, mask, head, worth = matches.loose.get, matches.masks.get, matches.heads.get, matches.worth
    session_at = {f.ordinal: f.session for f in facts}.get
    found = []
    for f in facts:
        at, session, score = f.ordinal, f.session, 0.0
        mine = near = told = mask(at, 0)
        if session_at(at - 1, session) == session:
            score += before1 * loose(at - 1, 0.0)
            near |= mask(at - 1, 0)
            told |= head(at - 1, 0)
        if session_at(at - 2, session) == session:
            score += before2 * loose(at - 2, 0.0)
            told |= head(at - 2, 0)
        if session_at(at + 1, session) == session:
            score += after1 * loose(at + 1, 0.0)
            near |= mask(at + 1, 0)
        if session_at(at + 2, session) == session:
            score += after2 * loose(at + 2, 0.0)
        if near or told or mine:
            score += window * worth(near) + context * worth(told)
        found.append(score)
    return found


def _sections(matches: Matches, facts: Sequence[PieceFacts], weights: Mapping[str, float]) -> list[float]:
    """How well the turn, the section and the sitting match that it belongs to, and the turns beside its own."""
    turns = features.grouped(matches, facts, [f.turn for f in facts])
    top_turn = max((score for score, _ in turns.values()), default=0.0) or 1.0
    of_turn = _per_group(matches, turns, "turn", weights)
    of_leaf = _per_group(matches, features.grouped(matches, facts, [f.leaf for f in facts]), "leaf", weights)
    of_sitting = _per_group(matches, features.grouped(matches, facts, [f.session for f in facts]), "sitting", weights)
    before, after = weights.get("turn_before", 0.0) / top_turn, weights.get("turn_after", 0.0) / top_turn
    at = turns.get
    return [
        of_turn[f.turn]
        + of_leaf[f.leaf]
        + of_sitting[f.session]
        + (before * at(f.turn - 1, _NOTHING)[0] if f.turn > f.session else 0.0)
        + after * at(f.turn + 1, _NOTHING)[0]
        for f in facts
    ]


def _per_group(
    matches: Matches, groups: Mapping[int, tuple[float, int]], name: str, weights: Mapping[str, float]
) -> dict[int, float]:
    top = max((score for score, _ in groups.values()), default=0.0) or 1.0
    rel, cover = weights.get(name, 0.0) / top, weights.get(f"{name}_cover", 0.0) / matches.whole
    return {group: rel * score + cover * matches.worth(mask) for group, (score, mask) in groups.items()}
