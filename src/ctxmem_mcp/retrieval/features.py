"""Features of the candidate chunks: one column of numbers per feature, over all candidates at once. Pure.

Columns rather than a table of rows, because plain Python iterates over a list several times faster than over objects.
All values are small (mostly 0..1), so a weight states how much its feature matters.

    lexical       bm25 rel cover exact rare pair any             how well the chunk's own terms match the query
    neighbours    before1 after1 before2 after2 window context   how well the adjacent chunks match
    groups        turn turn_cover turn_before turn_after         how well its turn, section and sitting match
                  leaf leaf_cover sitting sitting_cover
    intrinsic     prose user agent output call first size        what the chunk is, independent of the query
                  recent asks after_question has_error ...
    intent        when:time error:output said:user ...           an intent of the query and a property that answers it
    speech        thinking spoken host speech:user ...           who said it, and how the query depends on that
    spoken        spoken_rel spoken_before spoken_after          how well what was said matches, compared with what else
                                                                 was said, and the last thing said before and after it
    semantic      meaning meaning_before1 meaning_after1         similarity of embeddings; only if chunks have vectors
                  meaning_turn meaning_leaf spoken_meaning ...

The names are also the keys of weights.json and appear in the reasons of an explained view.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from typing import NamedTuple

from ctxmem_mcp.models import THINKING
from ctxmem_mcp.retrieval.query import Intent, ParsedQuery, utc_datetime
from ctxmem_mcp.text.analyzer import Flag

# BM25: each further occurrence of a term counts less; chunks longer than the mean are discounted.
BM25_K, BM25_B = 1.2, 0.6
# The first terms of a preceding chunk also indicate what this chunk is about.
HEAD_TERMS = 30
# Saturation for groups: a whole section contains every common word, so a few occurrences mean nothing.
SECTION_K = 2.5


class PieceFacts(NamedTuple):
    """What the ranker knows about a chunk without reading its text.

    A tuple, because hundreds are created per query and a frozen dataclass takes ten times as long to create.

    Attributes:
        ordinal: Position of the chunk on the branch (0, 1, ...).
        turn: Index of the chunk's turn.
        start: Offset of the chunk in its turn, in characters.
        tokens: Length in LLM tokens.
        words: Number of index terms.
        flags: Properties of the text (`analyzer.Flag`), as an int.
        leaf: Index of the first turn of the chunk's section.
        sitting: Index of the first turn of the chunk's sitting (the turns between two long pauses).
        role: Role of the turn.
        name: Name of the speaker as stored with the turn.
        said_at: Seconds since 1970; None if unknown.
    """

    ordinal: int
    turn: int
    start: int
    tokens: int
    words: int
    flags: int
    leaf: int
    sitting: int
    role: str
    name: str | None = None
    said_at: float | None = None


@dataclass(slots=True)
class Matches:
    """Where the query's own terms occur, by ordinal.

    Attributes:
        idf: Inverse document frequency of each term.
        counts: Per term, ordinal -> number of occurrences.
        masks: Ordinal -> bit set of the terms that occur in the chunk (bit j is term j).
        head_masks: The same for a chunk's first `HEAD_TERMS` terms only.
        rough_scores: Ordinal -> BM25 score without length normalisation.
        pairs: Ordinal -> share of the query's adjacent term pairs that are adjacent in the chunk too.
        exact: Bit set of the terms that are exact identifiers.
        similarities: Ordinal -> cosine similarity of the chunk to the query; empty if embeddings are not used.
    """

    idf: list[float]
    counts: Sequence[Mapping[int, int]]
    masks: Mapping[int, int]
    head_masks: Mapping[int, int]
    rough_scores: Mapping[int, float]
    pairs: Mapping[int, float]
    exact: int
    similarities: Mapping[int, float] = field(default_factory=dict)
    _mask_weights: dict[int, float] = field(default_factory=lambda: {0: 0.0})

    @property
    def total_weight(self) -> float:
        """The summed idf of all terms; never 0."""
        return self.mask_weight((1 << len(self.idf)) - 1) or 1.0

    def mask_weight(self, mask: int) -> float:
        """Returns the summed idf of the terms in a bit set."""
        found = self._mask_weights.get(mask)
        if found is None:
            found = self._mask_weights[mask] = sum(w for j, w in enumerate(self.idf) if mask >> j & 1)
        return found


Columns = dict[str, list[float]]

# As plain ints: a Flag's own operators are many times slower.
_PROSE, _QUESTION, _ERROR = int(Flag.PROSE), int(Flag.QUESTION), int(Flag.ERROR)
_NUMBER, _FIRST_PERSON = int(Flag.NUMBER), int(Flag.FIRST_PERSON)
ASKS_QUESTION, _TOOL_WORK = _PROSE | _QUESTION, int(Flag.CALL | Flag.COMMAND | Flag.EDIT)

_CALL, _HOST = int(Flag.CALL), int(Flag.HOST)
# Names of agent turns that are not tool calls.
_SPEECH_NAMES = (None, THINKING)


def is_user_speech(role: str, flags: int) -> bool:
    """Returns whether the user wrote a chunk, in sentences."""
    return role == "user" and bool(flags & _PROSE)


def is_agent_speech(role: str, name: str | None, flags: int) -> bool:
    """Returns whether the agent said or thought a chunk. Names in backticks do not make an explanation code."""
    return role == "assistant" and name in _SPEECH_NAMES and not flags & _CALL


def is_speech(fact: PieceFacts) -> bool:
    """Returns whether a chunk was said by the user or the agent: neither call nor output."""
    role, flags = fact.role, fact.flags
    return role != "tool" and (is_user_speech(role, flags) or is_agent_speech(role, fact.name, flags))


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


def feature_columns(
    parsed: ParsedQuery, matches: Matches, facts: Sequence[PieceFacts], n: int, mean_words: float
) -> Columns:
    """Computes all features of the candidates.

    Args:
        parsed: The query.
        matches: Where its terms occur.
        facts: The candidates, in branch order.
        n: Number of chunks on the branch.
        mean_words: Mean number of index terms per chunk.

    Returns:
        One list per feature, aligned with `facts`. Features of intents that the query does not have are left out.
    """
    matches = _restrict(matches, facts)
    found = _lexical(matches, facts, mean_words)
    found |= _neighbours(matches, facts)
    found |= _groups(matches, facts)
    found |= intrinsic_features(facts, n)
    found |= intent_features(parsed, facts)
    found |= speech_features(parsed, facts)
    found |= spoken_features(matches, facts, bm25(matches, facts, mean_words))
    if matches.similarities:
        found |= semantic_features(matches, facts)
    return found


def _restrict(matches: Matches, facts: Sequence[PieceFacts]) -> Matches:
    """Drops occurrences outside the candidates, because the sums over them are computed several times."""
    here = {f.ordinal for f in facts}
    counts = [{ordinal: count[ordinal] for ordinal in here & count.keys()} for count in matches.counts]
    return replace(matches, counts=counts)


def _lexical(matches: Matches, facts: Sequence[PieceFacts], mean_words: float) -> Columns:
    """How well the chunk's own terms match."""
    scores = bm25(matches, facts, mean_words)
    whole, top = matches.total_weight, max(scores, default=0.0) or 1.0
    masks = [matches.masks.get(f.ordinal, 0) for f in facts]
    rarest = max(matches.idf, default=1.0) or 1.0
    exact_weight = matches.mask_weight(matches.exact) or 1.0
    rare = {mask: max((w for j, w in enumerate(matches.idf) if mask >> j & 1), default=0.0) for mask in set(masks)}
    return {
        "bm25": [score / whole for score in scores],
        "rel": [score / top for score in scores],
        "cover": _covers(matches, masks),
        "exact": [matches.mask_weight(mask & matches.exact) / exact_weight for mask in masks],
        "rare": [rare[mask] / rarest for mask in masks],
        "pair": [matches.pairs.get(f.ordinal, 0.0) for f in facts],
        "any": [1.0 if mask else 0.0 for mask in masks],
    }


def bm25(matches: Matches, facts: Sequence[PieceFacts], mean_words: float) -> list[float]:
    """Returns the BM25 score of each candidate."""
    place = {f.ordinal: i for i, f in enumerate(facts)}
    slack = [BM25_K * (1 - BM25_B + BM25_B * f.words / (mean_words or 1.0)) for f in facts]
    scores = [0.0] * len(facts)
    for idf, counts in zip(matches.idf, matches.counts, strict=True):
        for ordinal, tf in counts.items():
            i = place[ordinal]
            scores[i] += idf * tf * (BM25_K + 1) / (tf + slack[i])
    return scores


def _neighbours(matches: Matches, facts: Sequence[PieceFacts]) -> Columns:
    """How well the adjacent chunks match; chunks of another sitting do not count."""
    sitting = {f.ordinal: f.sitting for f in facts}
    top = max(matches.rough_scores.values(), default=0.0) or 1.0
    neighbour = {d: _near(facts, sitting, d) for d in (-2, -1, 1, 2)}
    score, mask, head = matches.rough_scores.get, matches.masks.get, matches.head_masks.get
    window = [
        mask(f.ordinal, 0) | mask(a, 0) | mask(b, 0)
        for f, a, b in zip(facts, neighbour[-1], neighbour[1], strict=True)
    ]  # fmt: skip
    context = [
        mask(f.ordinal, 0) | head(a, 0) | head(b, 0)
        for f, a, b in zip(facts, neighbour[-1], neighbour[-2], strict=True)
    ]  # fmt: skip
    return {
        "before2": [score(at, 0.0) / top for at in neighbour[-2]],
        "before1": [score(at, 0.0) / top for at in neighbour[-1]],
        "after1": [score(at, 0.0) / top for at in neighbour[1]],
        "after2": [score(at, 0.0) / top for at in neighbour[2]],
        "window": _covers(matches, window),
        "context": _covers(matches, context),
    }


_NOWHERE = -10


def _near(facts: Sequence[PieceFacts], sitting: Mapping[int, int], d: int) -> list[int]:
    """The ordinal at offset `d` from each chunk, or _NOWHERE if that chunk is in another sitting."""
    get = sitting.get
    return [f.ordinal + d if get(f.ordinal + d, f.sitting) == f.sitting else _NOWHERE for f in facts]


def _covers(matches: Matches, masks: Sequence[int]) -> list[float]:
    """The share of the query's total idf that each bit set contains."""
    whole = matches.total_weight
    shares = {mask: matches.mask_weight(mask) / whole for mask in set(masks)}
    return [shares[mask] for mask in masks]


def _groups(matches: Matches, facts: Sequence[PieceFacts]) -> Columns:
    """How well the chunk's turn, section and sitting match, and the turns before and after its own."""
    turns = _group_scores(matches, facts, [f.turn for f in facts])
    leaves = _group_scores(matches, facts, [f.leaf for f in facts])
    sittings = _group_scores(matches, facts, [f.sitting for f in facts])
    top_leaf = max((score for score, _ in leaves.values()), default=0.0) or 1.0
    top_sitting = max((score for score, _ in sittings.values()), default=0.0) or 1.0
    top_turn = max((score for score, _ in turns.values()), default=0.0) or 1.0
    nothing = (0.0, 0)
    return {
        "turn": [turns[f.turn][0] / top_turn for f in facts],
        "turn_cover": _covers(matches, [turns[f.turn][1] for f in facts]),
        "turn_before": [turns.get(f.turn - 1, nothing)[0] / top_turn if f.turn > f.sitting else 0.0 for f in facts],
        "turn_after": [turns.get(f.turn + 1, nothing)[0] / top_turn for f in facts],
        "leaf": [leaves[f.leaf][0] / top_leaf for f in facts],
        "leaf_cover": _covers(matches, [leaves[f.leaf][1] for f in facts]),
        "sitting": [sittings[f.sitting][0] / top_sitting for f in facts],
        "sitting_cover": _covers(matches, [sittings[f.sitting][1] for f in facts]),
    }


def _group_scores(matches: Matches, facts: Sequence[PieceFacts], groups: Sequence[int]) -> dict[int, tuple[float, int]]:
    """Per group of chunks: its score as if it were one text, and the bit set of the terms that occur in it."""
    of = {f.ordinal: group for f, group in zip(facts, groups, strict=True)}
    scores: dict[int, float] = dict.fromkeys(groups, 0.0)
    masks: dict[int, int] = dict.fromkeys(groups, 0)
    for j, (idf, counts) in enumerate(zip(matches.idf, matches.counts, strict=True)):
        sums: dict[int, int] = defaultdict(int)
        for ordinal, tf in counts.items():
            sums[of[ordinal]] += tf
        for group, tf in sums.items():
            scores[group] += idf * tf / (tf + SECTION_K)
            masks[group] |= 1 << j
    return {group: (scores[group], masks[group]) for group in scores}


def relevant_flags(parsed: ParsedQuery) -> int:
    """Returns the flags that affect the score of this query."""
    found = ASKS_QUESTION | _TOOL_WORK | _ERROR | _NUMBER | _FIRST_PERSON | _HOST
    for _, intent, flag in _FLAG_FEATURES:
        found |= flag if intent in parsed.intents else 0
    return found


def intrinsic_features(facts: Sequence[PieceFacts], n: int) -> Columns:
    """Features of the chunk that do not depend on the query. n: number of chunks on the branch."""
    question = {f.ordinal: f.flags & ASKS_QUESTION == ASKS_QUESTION for f in facts}
    flags = [f.flags for f in facts]
    prose = [1.0 if flag & _PROSE else 0.0 for flag in flags]
    return {
        "prose": prose,
        "user": [1.0 if f.role == "user" else 0.0 for f in facts],
        "agent": [p if f.role == "assistant" else 0.0 for f, p in zip(facts, prose, strict=True)],
        "output": [1.0 if f.role == "tool" else 0.0 for f in facts],
        "call": [1.0 if flag & _TOOL_WORK else 0.0 for flag in flags],
        "first": [1.0 if f.start == 0 else 0.0 for f in facts],
        "size": [log(f.tokens + 12) for f in facts],
        "recent": [f.ordinal / n for f in facts],
        "asks": [1.0 if question[f.ordinal] else 0.0 for f in facts],
        "after_question": [1.0 if question.get(f.ordinal - 1) and f.turn > f.sitting else 0.0 for f in facts],
        "has_error": [1.0 if flag & _ERROR else 0.0 for flag in flags],
        "has_number": [1.0 if flag & _NUMBER else 0.0 for flag in flags],
        "first_person": [1.0 if flag & _FIRST_PERSON else 0.0 for flag in flags],
    }


def intent_features(parsed: ParsedQuery, facts: Sequence[PieceFacts]) -> Columns:
    """Whether the chunk is of a kind that answers the query; only for the intents that the query has."""
    found: Columns = {}
    for name, intent, flag in _FLAG_FEATURES:
        if intent in parsed.intents:
            found[name] = [1.0 if f.flags & flag else 0.0 for f in facts]
    for name, intent, role in _ROLE_FEATURES:
        if intent in parsed.intents:
            spoken = role != "tool"
            found[name] = [1.0 if f.role == role and (not spoken or f.flags & _PROSE) else 0.0 for f in facts]
    if parsed.speakers:
        found["speaker"] = [1.0 if f.name and f.name.lower() in parsed.speakers else 0.0 for f in facts]
    if parsed.periods:
        found["period"] = list(in_periods(parsed, facts))
    return found


def speech_features(parsed: ParsedQuery, facts: Sequence[PieceFacts]) -> Columns:
    """Who said a chunk. The columns speech:... are left out if the query asks for code, a command or its output."""
    agent = [1.0 if is_agent_speech(f.role, f.name, f.flags) else 0.0 for f in facts]
    thinking = [1.0 if f.name == THINKING else 0.0 for f in facts]
    found = {"spoken": agent, "thinking": thinking, "host": [1.0 if f.flags & _HOST else 0.0 for f in facts]}
    if parsed.wants_work:
        return found
    sizes = [log(f.tokens + 12) for f in facts]
    return found | {
        "speech:agent": agent,
        "speech:user": [1.0 if is_user_speech(f.role, f.flags) else 0.0 for f in facts],
        "speech:output": [1.0 if f.role == "tool" else 0.0 for f in facts],
        "speech:call": [1.0 - said if f.role == "assistant" else 0.0 for f, said in zip(facts, agent, strict=True)],
        "speech:thinking": thinking,
        "speech:size": sizes,
        "speech:spoken_size": [size if is_speech(f) else 0.0 for f, size in zip(facts, sizes, strict=True)],
    }


def spoken_features(matches: Matches, facts: Sequence[PieceFacts], scores: Sequence[float]) -> Columns:
    """How well speech matches, compared with all other speech; and the speech before and after each chunk."""
    spoken = [is_speech(f) for f in facts]
    best = max((score for score, said in zip(scores, spoken, strict=True) if said), default=0.0) or 1.0
    top = max(matches.rough_scores.values(), default=0.0) or 1.0
    rough = [matches.rough_scores.get(f.ordinal, 0.0) / top for f in facts]
    before, after = _speech_beside(facts, spoken)
    return {
        "spoken_rel": [score / best if said else 0.0 for score, said in zip(scores, spoken, strict=True)],
        "spoken_before": [rough[i] if i >= 0 else 0.0 for i in before],
        "spoken_after": [rough[i] if i >= 0 else 0.0 for i in after],
    }


def _speech_beside(facts: Sequence[PieceFacts], spoken: Sequence[bool]) -> tuple[list[int], list[int]]:
    """The positions of the last speech of an earlier turn and of the next speech, in the same sitting; -1 if none."""
    before, after = [-1] * len(facts), [-1] * len(facts)
    last = -1
    for i, fact in enumerate(facts):
        if last >= 0 and facts[last].sitting == fact.sitting:
            before[i] = before[last] if facts[last].turn == fact.turn else last
        if spoken[i]:
            last = i
    following = -1
    for i in range(len(facts) - 1, -1, -1):
        if following >= 0 and facts[following].sitting == facts[i].sitting:
            after[i] = following
        if spoken[i]:
            following = i
    return before, after


def in_periods(parsed: ParsedQuery, facts: Sequence[PieceFacts]) -> Iterable[float]:
    """Yields 1.0 for each chunk whose time is in a period that the query names, else 0.0."""
    known: dict[float, float] = {}
    for f in facts:
        if f.said_at is None:
            yield 0.0
            continue
        if f.said_at not in known:
            at = utc_datetime(f.said_at)
            known[f.said_at] = 1.0 if any(period.contains(at) for period in parsed.periods) else 0.0
        yield known[f.said_at]


def semantic_features(matches: Matches, facts: Sequence[PieceFacts]) -> Columns:
    """Similarity of the chunk, of its neighbours, and the best of its turn and section; relative to the best of all.

    Of speech also relative to the best of all speech, and that of the speech before and after each chunk.
    """
    values = [max(0.0, matches.similarities.get(f.ordinal, 0.0)) for f in facts]
    top = max(values, default=0.0) or 1.0
    own = {f.ordinal: value / top for f, value in zip(facts, values, strict=True)}
    sitting = {f.ordinal: f.sitting for f in facts}
    turns, leaves = dict[int, float](), dict[int, float]()
    for f in facts:
        turns[f.turn] = max(turns.get(f.turn, 0.0), own[f.ordinal])
        leaves[f.leaf] = max(leaves.get(f.leaf, 0.0), own[f.ordinal])
    spoken = [is_speech(f) for f in facts]
    best = max((own[f.ordinal] for f, said in zip(facts, spoken, strict=True) if said), default=0.0) or 1.0
    before, after = _speech_beside(facts, spoken)
    return {
        "spoken_meaning": [own[f.ordinal] / best if said else 0.0 for f, said in zip(facts, spoken, strict=True)],
        "spoken_meaning_before": [own[facts[i].ordinal] if i >= 0 else 0.0 for i in before],
        "spoken_meaning_after": [own[facts[i].ordinal] if i >= 0 else 0.0 for i in after],
        "meaning": [own[f.ordinal] for f in facts],
        "meaning_before1": [own.get(at, 0.0) for at in _near(facts, sitting, -1)],
        "meaning_after1": [own.get(at, 0.0) for at in _near(facts, sitting, 1)],
        "meaning_turn": [turns[f.turn] for f in facts],
        "meaning_leaf": [leaves[f.leaf] for f in facts],
    }


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
