"""Features of the candidate chunks: one column of numbers per feature, over all candidates at once. Pure.

A column is an array: 70 of them over 3,000 chunks take a few milliseconds, which lets a conversation of some thousand
chunks be ranked whole.
All values are small (mostly 0..1), so a weight states how much its feature matters.

    lexical       bm25 rel cover exact rare pair any             how well the chunk's own terms match the query
    neighbours    before1 after1 before2 after2 window context   how well the adjacent chunks match
    groups        turn turn_cover turn_before turn_after         how well its turn, section and sitting match
                  leaf leaf_cover sitting sitting_cover
    intrinsic     prose user agent output call first size        what the chunk is, independent of the query
                  recent asks after_question has_error ...
    intent        when:time error:output said:user ...           an intent of the query and a property that answers it
    speech        thinking spoken host speech:user ...           who said it, and how the query depends on that
    spoken        spoken_rel spoken_before spoken_after          how well a chunk of speech matches beside the best one,
                                                                 and how well the speech before and after it does
    semantic      meaning meaning_before1 meaning_after1         similarity of embeddings; only if chunks have vectors
                  meaning_turn meaning_leaf spoken_meaning ...

The names are also the keys of weights.json and appear in the reasons of an explained view.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ctxmem_mcp.retrieval.piece_table import NOWHERE, PieceFacts, PieceTable
from ctxmem_mcp.retrieval.query import Intent, ParsedQuery, utc_datetime
from ctxmem_mcp.text.chunk_flags import Flag

# BM25: each further occurrence of a term counts less; chunks longer than the mean are discounted.
BM25_K, BM25_B = 1.2, 0.6
# The first terms of a preceding chunk also indicate what this chunk is about.
HEAD_TERMS = 30
# Saturation for groups: a whole section contains every common word, so a few occurrences mean nothing.
SECTION_K = 2.5


@dataclass(slots=True)
class Matches:
    """Where the query's own terms occur: arrays over the chunks that contain any of them.

    A conversation may have a million chunks, of which few contain a term. So all others share one last column, which is
    zero; `columns` finds the columns of chunks.

    Attributes:
        n: The number of chunks on the branch.
        ordinals: The ordinals of the chunks that contain any of the terms, ascending.
        idf: Inverse document frequency of each term.
        counts: A row per term: the number of its occurrences in each chunk.
        heads: A row per term: whether it is among the first `HEAD_TERMS` terms of each chunk.
        pairs: The share of the query's adjacent term pairs that are adjacent in each chunk too.
        exact: Which of the terms are exact identifiers.
        rough_scores: BM25 scores without length normalisation.
        similarities: Ordinal -> cosine similarity of the chunk to the query, or an array; empty if there are none.
    """

    n: int
    ordinals: Any
    idf: Any
    counts: Any
    heads: Any
    pairs: Any
    exact: Any
    rough_scores: Any
    similarities: Any = field(default_factory=dict)

    @property
    def total_weight(self) -> float:
        """The summed idf of all terms; never 0."""
        return float(self.idf.sum()) or 1.0

    def columns(self, ordinals: Any) -> Any:
        """Returns the columns of the chunks at these ordinals."""
        return position_in(self.ordinals, ordinals)

    def contain_terms(self, ordinals: Any) -> Any:
        """Returns which of the chunks at these ordinals contain any of the terms."""
        return self.columns(ordinals) < len(self.ordinals)

    def similarities_of(self, table: PieceTable) -> Any:
        """Returns the similarity of each chunk of the table, 0 or above."""
        import numpy as np

        near = self.similarities
        if isinstance(near, Mapping):
            return np.maximum([near.get(ordinal, 0.0) for ordinal in table.ordinal.tolist()], 0.0)
        return np.maximum(near[table.ordinal], 0.0)


def position_in(ascending: Any, values: Any) -> Any:
    """Returns where each of the values is in an ascending array; its length for those that are not in it."""
    import numpy as np

    at = np.searchsorted(ascending, values)
    if not len(ascending):
        return at
    return np.where(ascending[np.minimum(at, len(ascending) - 1)] == values, at, len(ascending))


# A feature's value per chunk.
Columns = dict[str, Any]

# As plain ints: a Flag's own operators are many times slower.
_PROSE, _ERROR, _NUMBER = int(Flag.PROSE), int(Flag.ERROR), int(Flag.NUMBER)
_FIRST_PERSON, _HOST = int(Flag.FIRST_PERSON), int(Flag.HOST)
_TOOL_WORK = int(Flag.CALL | Flag.COMMAND | Flag.EDIT)

_FLAG_FEATURES: tuple[tuple[str, Intent, int], ...] = (
    ("when:time", Intent.WHEN, int(Flag.TIME)),
    ("where:place", Intent.WHERE, int(Flag.PLACE)),
    ("who:names", Intent.WHO, int(Flag.NAMES)),
    ("why:reason", Intent.WHY, int(Flag.REASON)),
    ("many:number", Intent.HOW_MANY, int(Flag.NUMBER)),
    ("much:money", Intent.HOW_MUCH, int(Flag.MONEY)),
    ("error:error", Intent.ERROR, int(Flag.ERROR)),
    ("change:edit", Intent.CHANGE, int(Flag.EDIT)),
    ("command:command", Intent.COMMAND, int(Flag.COMMAND)),
    ("liking:liking", Intent.LIKING, int(Flag.LIKING)),
    ("decision:decision", Intent.DECISION, int(Flag.DECISION)),
    ("me:first_person", Intent.ABOUT_ME, int(Flag.FIRST_PERSON)),
)
_ROLE_FEATURES: tuple[tuple[str, Intent, str], ...] = (
    ("said:user", Intent.USER_SAID, "user"),
    ("said:agent", Intent.AGENT_SAID, "assistant"),
    ("error:output", Intent.ERROR, "tool"),
    ("result:output", Intent.RESULT, "tool"),
    ("me:user", Intent.ABOUT_ME, "user"),
)


class _Occurrences:
    """The matches in the chunks of a table and in those around them."""

    def __init__(self, matches: Matches, table: PieceTable, mean_words: float) -> None:
        self.matches, self.table, self._mean_words = matches, table, mean_words
        self.columns = matches.columns(table.ordinal)
        self.counts = matches.counts[:, self.columns].astype(float)
        self.present = self.counts > 0
        self.best_rough = float(matches.rough_scores.max(initial=0.0)) or 1.0
        self._beside: dict[int, Any] = {}

    @cached_property
    def bm25(self) -> Any:
        """The BM25 score of each chunk."""
        slack = BM25_K * (1 - BM25_B + BM25_B * self.table.words / (self._mean_words or 1.0))
        return self.matches.idf @ (self.counts * (BM25_K + 1) / (self.counts + slack))

    @cached_property
    def rough(self) -> Any:
        """The rough score of each chunk, relative to the best."""
        return self.matches.rough_scores[self.columns] / self.best_rough

    def beside(self, values: Any, offset: int) -> Any:
        """Returns an array's values for the chunks at an offset from each chunk; 0 in another sitting or nowhere."""
        import numpy as np

        at = self.table.ordinal + offset
        valid = (at >= 0) & (at < self.matches.n) & self.table.reachable[offset]
        return np.where(valid, values[..., self._columns_beside(offset)], 0)

    def _columns_beside(self, offset: int) -> Any:
        if offset not in self._beside:
            self._beside[offset] = self.matches.columns(self.table.ordinal + offset)
        return self._beside[offset]

    def cover(self, present: Any) -> Any:
        """Returns the share of the query's total idf of the terms that are present, per column."""
        return self.matches.idf @ present / self.matches.total_weight


def feature_columns(
    parsed: ParsedQuery, matches: Matches, facts: Sequence[PieceFacts] | PieceTable, mean_words: float
) -> Columns:
    """Computes all features of the candidates.

    Args:
        parsed: The query.
        matches: Where its terms occur.
        facts: The candidates, in branch order.
        mean_words: Mean number of index terms per chunk.

    Returns:
        One array per feature, aligned with `facts`. Features of intents that the query does not have are left out.
    """
    table = facts if isinstance(facts, PieceTable) else PieceTable(facts)
    occurrences = _Occurrences(matches, table, mean_words)
    found = _lexical(occurrences) | _neighbours(occurrences) | _groups(occurrences)
    found |= _intrinsic(table, matches.n)
    found |= _intents(parsed, table)
    found |= _speech(parsed, table)
    found |= _spoken(occurrences)
    if len(matches.similarities):
        found |= _semantic(occurrences)
    return found


def _lexical(occurrences: _Occurrences) -> Columns:
    """How well the chunk's own terms match."""
    matches, present, scores = occurrences.matches, occurrences.present, occurrences.bm25
    rarest = float(matches.idf.max(initial=0.0)) or 1.0
    exact_weight = float(matches.idf[matches.exact].sum()) or 1.0
    return {
        "bm25": scores / matches.total_weight,
        "rel": scores / (float(scores.max(initial=0.0)) or 1.0),
        "cover": occurrences.cover(present),
        "exact": matches.idf[matches.exact] @ present[matches.exact] / exact_weight,
        "rare": (matches.idf[:, None] * present).max(axis=0, initial=0.0) / rarest,
        "pair": matches.pairs[occurrences.columns],
        "any": present.any(axis=0).astype(float),
    }


def _neighbours(occurrences: _Occurrences) -> Columns:
    """How well the adjacent chunks match; chunks of another sitting do not count."""
    matches, beside, present = occurrences.matches, occurrences.beside, occurrences.present
    rough, counts, heads = matches.rough_scores / occurrences.best_rough, matches.counts, matches.heads
    window = present | (beside(counts, -1) > 0) | (beside(counts, 1) > 0)
    context = present | (beside(heads, -1) > 0) | (beside(heads, -2) > 0)
    return {
        "before2": beside(rough, -2),
        "before1": beside(rough, -1),
        "after1": beside(rough, 1),
        "after2": beside(rough, 2),
        "window": occurrences.cover(window),
        "context": occurrences.cover(context),
    }


def _groups(occurrences: _Occurrences) -> Columns:
    """How well the chunk's turn, section and sitting match, and the turns before and after its own."""
    import numpy as np

    table, found = occurrences.table, Columns()
    for name in ("turn", "leaf", "sitting"):
        first, group = table.runs(name)
        sums = np.add.reduceat(occurrences.counts, first, axis=1) if len(table) else occurrences.counts
        # As if each group were one text.
        scores = occurrences.matches.idf @ (sums / (sums + SECTION_K))
        scores = scores / (float(scores.max(initial=0.0)) or 1.0)
        found[name] = scores[group]
        found[f"{name}_cover"] = occurrences.cover(sums > 0)[group]
        if name == "turn":
            turns, padded = table.turn[first], np.concatenate(([0.0], scores, [0.0]))
            after = np.concatenate((turns[1:] == turns[:-1] + 1, [False]))[: len(turns)]
            before = np.concatenate(([False], turns[1:] == turns[:-1] + 1))[: len(turns)]
            in_sitting = table.turn > table.sitting
            found["turn_before"] = np.where(in_sitting, (padded[:-2] * before)[group], 0.0)
            found["turn_after"] = (padded[2:] * after)[group]
    return found


def _intrinsic(table: PieceTable, n: int) -> Columns:
    """Features of the chunk that do not depend on the query. n: number of chunks on the branch."""
    return {
        "prose": table.prose,
        "user": table.has_role("user"),
        "agent": table.has_role("assistant") & table.prose,
        "output": table.has_role("tool"),
        "call": table.has_flag(_TOOL_WORK),
        "first": table.start == 0,
        "size": table.size,
        "recent": table.ordinal / n,
        "asks": table.asks,
        "after_question": table.after_question,
        "has_error": table.has_flag(_ERROR),
        "has_number": table.has_flag(_NUMBER),
        "first_person": table.has_flag(_FIRST_PERSON),
    }


def _intents(parsed: ParsedQuery, table: PieceTable) -> Columns:
    """Whether the chunk is of a kind that answers the query; only for the intents that the query has."""
    found: Columns = {}
    for name, intent, flag in _FLAG_FEATURES:
        if intent in parsed.intents:
            found[name] = table.has_flag(flag)
    for name, intent, role in _ROLE_FEATURES:
        if intent in parsed.intents:
            found[name] = table.has_role(role) if role == "tool" else table.has_role(role) & table.prose
    if parsed.speakers:
        found["speaker"] = table.of_names(lambda name: bool(name) and str(name).lower() in parsed.speakers)
    if parsed.periods:
        found["period"] = _in_periods(parsed, table)
    return found


def _speech(parsed: ParsedQuery, table: PieceTable) -> Columns:
    """Who said a chunk. The columns speech:... are left out if the query asks for code, a command or its output."""
    found = {"spoken": table.agent_speech, "thinking": table.thinking, "host": table.has_flag(_HOST)}
    if parsed.wants_work:
        return found
    return found | {
        "speech:agent": table.agent_speech,
        "speech:user": table.user_speech,
        "speech:output": table.has_role("tool"),
        "speech:call": table.has_role("assistant") & ~table.agent_speech,
        "speech:thinking": table.thinking,
        "speech:size": table.size,
        "speech:spoken_size": table.size * table.speech,
    }


def _spoken(occurrences: _Occurrences) -> Columns:
    """How well speech matches, compared with all other speech; and the speech before and after each chunk."""
    table = occurrences.table
    scores = occurrences.bm25 * table.speech
    before, after = table.speech_beside
    return {
        "spoken_rel": scores / (float(scores.max(initial=0.0)) or 1.0),
        "spoken_before": occurrences.rough[before] * (before != NOWHERE),
        "spoken_after": occurrences.rough[after] * (after != NOWHERE),
    }


def _in_periods(parsed: ParsedQuery, table: PieceTable) -> Any:
    """Which chunks were said in a period that the query names."""
    import numpy as np

    known: dict[float | None, bool] = {None: False}
    for said_at in set(table.said_at) - known.keys():
        at = utc_datetime(said_at or 0.0)
        known[said_at] = any(period.contains(at) for period in parsed.periods)
    return np.array([known[said_at] for said_at in table.said_at], dtype=bool)


def _semantic(occurrences: _Occurrences) -> Columns:
    """Similarity of the chunk, of its neighbours, and the best of its turn and section; relative to the best of all.

    Of speech also relative to the best of all speech, and that of the speech before and after each chunk.
    """
    import numpy as np

    table = occurrences.table
    values = occurrences.matches.similarities_of(table)
    own = values / (float(values.max(initial=0.0)) or 1.0)
    spoken = own * table.speech
    before, after = table.speech_beside
    found = {
        "spoken_meaning": spoken / (float(spoken.max(initial=0.0)) or 1.0),
        "spoken_meaning_before": own[before] * (before != NOWHERE),
        "spoken_meaning_after": own[after] * (after != NOWHERE),
        "meaning": own,
    }
    for name, offset in (("meaning_before1", -1), ("meaning_after1", 1)):
        at = table.row_of(offset)
        found[name] = own[at] * (at != NOWHERE) * table.reachable[offset]
    for name in ("turn", "leaf"):
        first, group = table.runs(name)
        found[f"meaning_{name}"] = np.maximum.reduceat(own, first)[group] if len(table) else own
    return found


FEATURE_NAMES: tuple[str, ...] = (
    *("bm25", "rel", "cover", "exact", "rare", "pair", "any"),
    *("before1", "after1", "before2", "after2", "window", "context"),
    *("turn", "turn_cover", "turn_before", "turn_after", "leaf", "leaf_cover", "sitting", "sitting_cover"),
    *("prose", "user", "agent", "output", "call", "first", "size", "recent", "asks", "after_question"),
    *("has_error", "has_number", "first_person"),
    *(name for name, _, _ in (*_FLAG_FEATURES, *_ROLE_FEATURES)),
    *("speaker", "period"),
    *("spoken", "thinking", "host", "spoken_rel", "spoken_before", "spoken_after"),
    *(f"speech:{name}" for name in ("agent", "user", "output", "call", "thinking", "size", "spoken_size")),
)
# Present only if the chunks have vectors.
SEMANTIC_FEATURES: tuple[str, ...] = (
    *("meaning", "meaning_before1", "meaning_after1", "meaning_turn", "meaning_leaf"),
    *("spoken_meaning", "spoken_meaning_before", "spoken_meaning_after"),
)
