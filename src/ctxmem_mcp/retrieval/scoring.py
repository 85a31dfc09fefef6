"""The scores of all candidates at once: what the columns of features times their weights sum up to, in a fifth of the
time. Pure.

Features say how a score is made up, and training works on them; this is the same sum, taken in another order: what
depends only on the kind of piece is worked out once for each kind, what depends on matching terms once for each set
of terms, what is the same for a whole section once for the section, and occurrences are gone through once. A test
holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

from ctxmem_mcp.retrieval import features
from ctxmem_mcp.retrieval.features import BM25_B, BM25_K, SECTION_K, Matches, PieceFacts
from ctxmem_mcp.retrieval.query import ParsedQuery

# These differ from piece to piece of a kind.
_PER_PIECE = frozenset(("size", "recent", "after_question", "period"))
_LOGS = [log(tokens + 12) for tokens in range(2_048)]
_NOTHING = (0.0, 0)
# The places whose pieces tell about one.
_OFFSETS = (-2, -1, 0, 1, 2)

# Per group of pieces: a score as if it were one text, and which terms stand in it.
_Groups = Mapping[int, tuple[float, int]]


def scores(
    plan: ParsedQuery,
    matches: Matches,
    facts: Sequence[PieceFacts],
    n: int,
    mean_words: float,
    weights: Mapping[str, float],
) -> list[float]:
    """A score per candidate, in their order (by ordinal)."""
    bm25, *groups = _occurrences(matches, facts, mean_words)
    parts = (
        _intrinsic(plan, facts, n, weights),
        _lexical(matches, facts, bm25, weights),
        _neighbours(matches, facts, weights),
        _sections(matches, facts, groups, weights),
    )
    found = [a + b + c + d for a, b, c, d in zip(*parts, strict=True)]
    if matches.similarities:
        for name, column in features.semantic_features(matches, facts).items():
            weight = weights.get(name, 0.0)
            found = [score + weight * value for score, value in zip(found, column, strict=True)]
    return found


def _intrinsic(plan: ParsedQuery, facts: Sequence[PieceFacts], n: int, weights: Mapping[str, float]) -> list[float]:
    """What the piece is, and whether it is of the kind that is asked for."""
    known: dict[tuple[str, int, bool, str | None], float] = {}
    size, recent, after = weights.get("size", 0.0), weights.get("recent", 0.0) / n, weights.get("after_question", 0.0)
    by_name, found = bool(plan.speakers), []
    asked_at, asks, flags = -1, features.ASKS_QUESTION, features.relevant_flags(plan)
    for f in facts:
        ordinal, turn, start, tokens, _, flag, _, session, role, name, _ = f
        key = (role, flag & flags, start == 0, name if by_name else None)
        score = known.get(key)
        if score is None:
            score = known[key] = _intrinsic_of(plan, f, weights)
        score += size * (_LOGS[tokens] if tokens < 2_048 else log(tokens + 12)) + recent * ordinal
        if asked_at == ordinal - 1 and turn > session:
            score += after
        if flag & asks == asks:
            asked_at = ordinal
        found.append(score)
    if plan.periods and (weight := weights.get("period", 0.0)):
        found = [s + weight * inside for s, inside in zip(found, features.in_periods(plan, facts), strict=True)]
    return found


def _intrinsic_of(plan: ParsedQuery, fact: PieceFacts, weights: Mapping[str, float]) -> float:
    columns = features.intrinsic_features([fact], 1) | features.intent_features(plan, [fact])
    return sum(weights.get(name, 0.0) * column[0] for name, column in columns.items() if name not in _PER_PIECE)


def _occurrences(
    matches: Matches, facts: Sequence[PieceFacts], mean_words: float
) -> tuple[list[float], _Groups, _Groups, _Groups]:
    """BM25 of each piece over the candidates, and how well turns, sections and sittings match."""
    place = {f.ordinal: i for i, f in enumerate(facts)}
    slack = [BM25_K * (1 - BM25_B + BM25_B * f.words / (mean_words or 1.0)) for f in facts]
    turn_of, leaf_of, sitting_of = [f.turn for f in facts], [f.leaf for f in facts], [f.sitting for f in facts]
    turns, leaves, sittings = (dict.fromkeys(groups, _NOTHING) for groups in (turn_of, leaf_of, sitting_of))
    bm25 = [0.0] * len(facts)
    for j, (idf, counts) in enumerate(zip(matches.idf, matches.counts, strict=True)):
        gain = idf * (BM25_K + 1)
        in_turns, in_leaves, in_sittings = dict[int, int](), dict[int, int](), dict[int, int]()
        for ordinal in place.keys() & counts.keys():
            i, tf = place[ordinal], counts[ordinal]
            bm25[i] += gain * tf / (tf + slack[i])
            turn, leaf, sitting = turn_of[i], leaf_of[i], sitting_of[i]
            in_turns[turn] = in_turns.get(turn, 0) + tf
            in_leaves[leaf] = in_leaves.get(leaf, 0) + tf
            in_sittings[sitting] = in_sittings.get(sitting, 0) + tf
        for groups, found in ((turns, in_turns), (leaves, in_leaves), (sittings, in_sittings)):
            for group, tf in found.items():
                score, mask = groups[group]
                groups[group] = (score + idf * tf / (tf + SECTION_K), mask | 1 << j)
    return bm25, turns, leaves, sittings


def _lexical(
    matches: Matches, facts: Sequence[PieceFacts], bm25: Sequence[float], weights: Mapping[str, float]
) -> list[float]:
    """How well the piece itself matches."""
    per_score = weights.get("bm25", 0.0) / matches.total_weight + weights.get("rel", 0.0) / (
        max(bm25, default=0.0) or 1.0
    )
    by_mask: dict[int, float] = {0: 0.0}
    masks, pairs, pair = matches.masks, matches.pairs, weights.get("pair", 0.0)
    found = []
    for f, score in zip(facts, bm25, strict=True):
        mask = masks.get(f.ordinal, 0)
        value = by_mask.get(mask)
        if value is None:
            value = by_mask[mask] = _by_mask(matches, mask, weights)
        found.append(value + per_score * score + pair * pairs.get(f.ordinal, 0.0))
    return found


def _by_mask(matches: Matches, mask: int, weights: Mapping[str, float]) -> float:
    rarest = max(matches.idf, default=1.0) or 1.0
    rare = max((w for j, w in enumerate(matches.idf) if mask >> j & 1), default=0.0)
    exact = matches.mask_weight(mask & matches.exact) / (matches.mask_weight(matches.exact) or 1.0)
    return (
        weights.get("cover", 0.0) * matches.mask_weight(mask) / matches.total_weight
        + weights.get("exact", 0.0) * exact
        + weights.get("rare", 0.0) * rare / rarest
        + weights.get("any", 0.0)
    )


def _neighbours(matches: Matches, facts: Sequence[PieceFacts], weights: Mapping[str, float]) -> list[float]:
    """How well its neighbours match, never over a sitting's border."""
    top = max(matches.rough_scores.values(), default=0.0) or 1.0
    before2, before1 = weights.get("before2", 0.0) / top, weights.get("before1", 0.0) / top
    after1, after2 = weights.get("after1", 0.0) / top, weights.get("after2", 0.0) / top
    by_window = _WeightedMasks(matches, weights.get("window", 0.0) / matches.total_weight)
    by_context = _WeightedMasks(matches, weights.get("context", 0.0) / matches.total_weight)
    # All that is looked at, side by side, so that a neighbour is the entry beside.
    sitting = {f.ordinal: f.sitting for f in facts}
    places = sorted({ordinal + d for ordinal in sitting for d in _OFFSETS})
    sittings = list(map(sitting.get, places))
    rough_scores = [matches.rough_scores.get(at, 0.0) for at in places]
    masks, head_masks = [matches.masks.get(at, 0) for at in places], [matches.head_masks.get(at, 0) for at in places]
    found = []
    for s, s_2, s_1, s1, s2, l_2, l_1, l1, l2, m, m_1, m1, h_2, h_1 in zip(
        sittings[2:], sittings, sittings[1:], sittings[3:], sittings[4:],
        rough_scores, rough_scores[1:], rough_scores[3:], rough_scores[4:],
        masks[2:], masks[1:], masks[3:], head_masks, head_masks[1:],
        strict=False,
    ):  # fmt: skip
        if s is None:
            continue
        if s_2 == s_1 == s1 == s2 == s:
            found.append(
                before2 * l_2 + before1 * l_1 + after1 * l1 + after2 * l2
                + by_window[m | m_1 | m1] + by_context[m | h_1 | h_2]
            )  # fmt: skip
            continue
        score, window, context = 0.0, m, m
        if s_2 is None or s_2 == s:
            score += before2 * l_2
            context |= h_2
        if s_1 is None or s_1 == s:
            score += before1 * l_1
            window |= m_1
            context |= h_1
        if s1 is None or s1 == s:
            score += after1 * l1
            window |= m1
        if s2 is None or s2 == s:
            score += after2 * l2
        found.append(score + by_window[window] + by_context[context])
    return found


class _WeightedMasks(dict[int, float]):
    """By the terms that stand somewhere: what they are worth, times a weight."""

    def __init__(self, matches: Matches, weight: float) -> None:
        super().__init__()
        self._matches, self._weight = matches, weight

    def __missing__(self, mask: int) -> float:
        found = self[mask] = self._weight * self._matches.mask_weight(mask)
        return found


def _sections(
    matches: Matches, facts: Sequence[PieceFacts], groups: Sequence[_Groups], weights: Mapping[str, float]
) -> list[float]:
    """How well the turn, the section and the sitting match that it belongs to, and the turns beside its own."""
    turns, leaves, sittings = groups
    top = max((score for score, _ in turns.values()), default=0.0) or 1.0
    before, after = weights.get("turn_before", 0.0) / top, weights.get("turn_after", 0.0) / top
    of_turn = _per_group(matches, turns, "turn", weights)
    of_leaf = _per_group(matches, leaves, "leaf", weights)
    of_sitting = _per_group(matches, sittings, "sitting", weights)
    at = turns.get
    return [
        of_turn[f.turn]
        + of_leaf[f.leaf]
        + of_sitting[f.sitting]
        + (before * at(f.turn - 1, _NOTHING)[0] if f.turn > f.sitting else 0.0)
        + after * at(f.turn + 1, _NOTHING)[0]
        for f in facts
    ]


def _per_group(
    matches: Matches, groups: Mapping[int, tuple[float, int]], name: str, weights: Mapping[str, float]
) -> dict[int, float]:
    top = max((score for score, _ in groups.values()), default=0.0) or 1.0
    rel, cover = weights.get(name, 0.0) / top, weights.get(f"{name}_cover", 0.0) / matches.total_weight
    return {group: rel * score + cover * matches.mask_weight(mask) for group, (score, mask) in groups.items()}
