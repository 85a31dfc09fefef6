"""Views: what of a branch is shown within a budget. Reads in a few batches; recall decides.

query -> ranked pieces -> units that fit (by estimate) -> the tree above them -> fitted text
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import (
    BranchReader,
    checks_of,
    load_snapshot,
    outline_nodes,
    spoken,
    with_expanded,
    with_paths_to,
)
from ctxmem_mcp.memory.recent import last_user_query, newest_within
from ctxmem_mcp.memory.retrieve import RankedPiece, Ranking, rank_branch
from ctxmem_mcp.memory.section_summaries import sections_of
from ctxmem_mcp.memory.stable_view import stable_view
from ctxmem_mcp.models import EMPTY_SUMMARY, HighlightKinds, Piece, Reason, Summary, Turn, View
from ctxmem_mcp.retrieval.query import OVERVIEW_KINDS, asks_for_status
from ctxmem_mcp.retrieval.selection import USER_SHARE, USER_SHARE_OF_WORK, Candidate, cost_weight_of, selection_order
from ctxmem_mcp.retrieval.summary_hits import confirmations, highlight_turns, turns_between_error_and_fix
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.budget import (
    OUTLINE_SHARE_MAX,
    ExcerptGroup,
    ExcerptRef,
    FitInput,
    FitResult,
    clip,
    fit,
    greedy_fit,
    quotes_by_turn,
)
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.layout import CharSpan, Quote, TileCache, TreeSnapshot, tile
from ctxmem_mcp.views.render import NO_KIND_FILTER
from ctxmem_mcp.views.summary_requests import nodes_to_summarize, summary_request_tokens, with_summary_requests

# The turns said last are shown with any query, in this share of the budget; in the larger one when none is given.
RECENT_SHARE, RECENT_SHARE_NO_QUERY = 0.03, 0.35
RECENT_TURNS_MAX = 60
# Chosen by estimate with this much to spare, so that the exact fit has something to fill up with.
CHOOSE_MORE = 1.25
# Of what was found, as much as this many budgets could hold is looked at.
LOOKED_AT = 3
# A call as long as this is shown with its result; a longer one only when it is wanted for itself.
CALL_TOKENS_MAX = 200
# A line of the outline by itself, and with what it tells of.
OUTLINE_LINE_TOKENS, TOLD_LINE_TOKENS = 24, 70
# A question about the whole history is answered by the outline rather than by more quotes.
# In talk the turns themselves are hardly longer than lines about them.
OUTLINE_SHARE_OF_TALK = 0.06
OUTLINE_SHARE_WHOLE, OUTLINE_SHARE_EVERYTHING = 0.4, 0.75
# Of everything, what people asked for is opened; the rest is told.
REQUESTS: HighlightKinds = frozenset(("request",))
# How many of the turns that summaries tell of are looked at for it, and how much of a long one.
TOLD_TURNS_MAX, TOLD_PIECES_MAX = 400, 2
# How many turns before an answer the question is looked for.
SAID_WITHIN = 8
LAYOUTS = ("tree", "stable")


@dataclass(frozen=True, slots=True)
class Selection:
    """What a view should show: units, best first; where their leaves begin; and how much the outline may say."""

    units: list[ExcerptGroup]
    leaf_of: dict[int, int]
    outline_share: float = OUTLINE_SHARE_MAX
    kinds: HighlightKinds = NO_KIND_FILTER


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What a caller wants to see. explain: with the reason for each quote. request_summaries: the header may name nodes
    that need a better summary."""

    query: str | None
    token_budget: int
    layout: str = "tree"
    explain: bool = False
    request_summaries: bool = False


async def view(branch: BranchReader, summarizer: Summarizer, request: ViewRequest) -> View:
    """The view of a branch as of its last turn."""
    query, token_budget, layout = request.query, request.token_budget, request.layout
    if layout not in LAYOUTS:
        raise InvalidArgument("layout", f"is {layout!r}; takes one of {', '.join(LAYOUTS)}")
    count = tokenizer.CachedCounter(branch.state.encoding)
    snapshot = await load_snapshot(branch)
    heading = await heading_of(branch, snapshot, token_budget)
    if layout == "stable":
        answer = await rank_branch(branch, query) if query and query.strip() else None
        wanted = [_unit(found) for found in _by_value_per_token(answer, token_budget)] if answer else []
        return await stable_view(branch, snapshot, heading, wanted, count)
    budget = token_budget - heading.cost(count) - (summary_request_tokens(heading) if request.request_summaries else 0)
    if query and (not query.strip() or asks_for_status(query)):
        query = None
    asked = query or await last_user_query(branch, within=RECENT_TURNS_MAX)
    recent = await _recent(branch, round(budget * (RECENT_SHARE if query else RECENT_SHARE_NO_QUERY)))
    answer = await rank_branch(branch, asked) if asked else None
    found = _by_value_per_token(answer, budget) if answer else []
    kinds = answer.parsed.summary_kinds if answer and query else NO_KIND_FILTER
    selection = Selection(
        [*recent, *(_unit(f) for f in found)],
        {f.piece.index: f.piece.leaf for f in found},
        _outline_share(answer) if answer and query else OUTLINE_SHARE_MAX,
    )
    if kinds and (told := await _from_summaries(branch, snapshot, summarizer, kinds, found)):
        selection = replace(told, units=[*told.units, *recent])
    fitted = await _fit(branch, snapshot, selection, budget, count)
    if isinstance(fitted, int):
        raise BudgetTooSmall(token_budget, heading.floor(fitted, count))
    if request.request_summaries:
        heading = with_summary_requests(heading, fitted.summary_requests, count)
    shown = with_header(heading, fitted.text, count)
    return replace(shown, reasons=_reasons(answer, found, fitted)) if request.explain and answer else shown


def _reasons(answer: Ranking, found: Sequence[RankedPiece], fitted: FitResult) -> tuple[Reason, ...]:
    """Why each shown piece was taken, in the order in which they were."""
    quoted = {item.turn.index: item for item in fitted.items if isinstance(item, Quote)}
    return tuple(
        Reason(shown.turn.id, f.piece.tokens, round(f.score, 3), answer.why(f))
        for f in found
        if (shown := quoted.get(f.piece.index)) and shown.spans[0].start <= f.piece.start
    )


async def heading_of(branch: BranchReader, snapshot: TreeSnapshot, token_budget: int) -> ViewHeader:
    """What the first line of every view says."""
    last = branch.lineage.last_seq
    head = (await branch.bare_turns([last]))[0].id if last else None
    total = sum(node.tokens for node in snapshot.roots) + sum(t.tokens for t in snapshot.leaves[snapshot.tail_first])
    return ViewHeader(branch.id, head, branch.lineage.length, total, token_budget, branch.state.encoding)


async def _recent(branch: BranchReader, budget: int) -> list[ExcerptGroup]:
    """The last turns, newest first, as far as they fit; if the very last is too long, its end."""
    length = branch.lineage.length
    seqs = branch.lineage.seqs(length - RECENT_TURNS_MAX, length - 1)
    pieces = await branch.store.pieces_of(branch.id, seqs)
    fitting = newest_within(seqs, budget, lambda seq: sum(piece.tokens for piece in pieces[seq]))
    if fitting or not seqs:
        return [ExcerptGroup(tuple(map(_quote, pieces[seq]))) for seq in reversed(fitting)]
    end = pieces[seqs[-1]][-1]
    return [ExcerptGroup((_quote(end),))] if end.tokens <= budget else []


def _outline_share(answer: Ranking) -> float:
    """What the outline may take of the budget, for this question in this kind of conversation."""
    if answer.parsed.wants_whole_history:
        return OUTLINE_SHARE_WHOLE
    talk = (answer.kinds or {}).get("dialogue", 0.0)
    return OUTLINE_SHARE_MAX * (1 - talk) + OUTLINE_SHARE_OF_TALK * talk


def _by_value_per_token(answer: Ranking, budget: int) -> list[RankedPiece]:
    """What was found, in the order in which to take it into the view."""
    by_ordinal = {found.ordinal: found for found in answer.found}
    candidates = [Candidate(f.ordinal, f.score, f.piece.tokens, f.piece.flags, f.piece.role) for f in answer.found]
    kinds = answer.kinds or {"coding": 0.0}
    share = USER_SHARE_OF_WORK if answer.parsed.wants_work else USER_SHARE
    order, left = [], budget * LOOKED_AT
    weight = cost_weight_of(kinds)
    for ordinal in selection_order(candidates, budget, coding=kinds["coding"], cost_weight=weight, user_share=share):
        order.append(by_ordinal[ordinal])
        left -= order[-1].piece.tokens
        if left < 0:
            break
    return order


async def _from_summaries(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    summarizer: Summarizer,
    kinds: HighlightKinds,
    found: Sequence[RankedPiece],
) -> Selection | None:
    """For a question that names nothing: the turns that summaries tell of; of errors also what lies between each and
    its ending, and what else was found in those sections; of decisions also what was proposed, and what the user asked
    for. None where summaries tell of nothing of that kind."""
    opened = kinds if kinds != OVERVIEW_KINDS else REQUESTS
    sections = await sections_of(branch, snapshot, summarizer)
    groups = highlight_turns(sections, opened)
    indexes = [index for group in groups for index in group] + turns_between_error_and_fix(groups)
    proposed: list[int] = []
    if "decision" in opened:
        proposed = await _spoken_before(branch, confirmations(sections))
        indexes += [*proposed, *(index for group in highlight_turns(sections, REQUESTS) for index in group)]
    indexes = list(dict.fromkeys(indexes))[:TOLD_TURNS_MAX]
    pieces = await branch.store.pieces_of(branch.id, [branch.lineage.seq_at(i) or 0 for i in indexes])
    by_index = {of_turn[0].index: of_turn for of_turn in pieces.values()}
    units = [
        # A proposal ends with what is asked.
        ExcerptGroup(
            tuple(
                _quote(p) for p in (by_index[i][-TOLD_PIECES_MAX:] if i in proposed else by_index[i][:TOLD_PIECES_MAX])
            )
        )
        for i in indexes
        if i in by_index
    ]
    leaves = {p.index: p.leaf for of_turn in pieces.values() for p in of_turn}
    among = set(leaves.values()) if "error" in opened else set()
    also = [f for f in found if f.piece.leaf in among and f.piece.index not in leaves]
    leaf_of = leaves | {f.piece.index: f.piece.leaf for f in also}
    share = OUTLINE_SHARE_WHOLE if kinds != OVERVIEW_KINDS else OUTLINE_SHARE_EVERYTHING
    return Selection([*units, *map(_unit, also)], leaf_of, share, kinds) if units else None


async def _spoken_before(branch: BranchReader, indexes: Sequence[int]) -> list[int]:
    """The last turn in which the agent spoke before each of these."""
    found: list[int] = []
    for index in indexes:
        before = await branch.bare(index - SAID_WITHIN, index - 1)
        found += [turn.index for turn in spoken(before, "assistant")[-1:]]
    return found


async def _fit(
    branch: BranchReader, snapshot: TreeSnapshot, selection: Selection, budget: int, count: Callable[[str], int]
) -> FitResult | int:
    units, leaf_of = selection.units, selection.leaf_of
    chosen = greedy_fit(units, lambda index: leaf_of.get(index, snapshot.tail_first), round(budget * CHOOSE_MORE))
    units = [units[i] for i in chosen]
    snapshot = await with_paths_to(branch, snapshot, _indexes(units))
    units = _with_calls(units, snapshot)
    turns = await branch.turns(_indexes(units))
    units = _without_repeats(units, turns)
    lines = round(budget * selection.outline_share / (TOLD_LINE_TOKENS if selection.kinds else OUTLINE_LINE_TOKENS))
    snapshot, summaries = await _expand_outline(branch, snapshot, units, turns, lines)
    material = FitInput(
        snapshot, units, turns, lambda node: summaries.get(node.digest, EMPTY_SUMMARY), count, selection.outline_share,
        selection.kinds, checks=await checks_of(branch, snapshot),
    )  # fmt: skip
    fitted = fit(material, budget)
    if not isinstance(fitted, int):
        fitted.summary_requests = nodes_to_summarize(fitted.items, material.summary_of)
    return fitted


def _unit(found: RankedPiece) -> ExcerptGroup:
    return ExcerptGroup((_quote(found.piece),))


def _quote(piece: Piece) -> ExcerptRef:
    return ExcerptRef(piece.index, CharSpan(piece.start, piece.stop, piece.tokens))


def _indexes(units: Iterable[ExcerptGroup]) -> set[int]:
    return {quote.index for unit in units for quote in unit.excerpts}


def _with_calls(units: Sequence[ExcerptGroup], snapshot: TreeSnapshot) -> list[ExcerptGroup]:
    """Joins to each result the call that it answers, where that is short."""
    call_of: dict[int, Turn] = {}
    for turns in snapshot.leaves.values():
        call_of |= _calls(turns)
    return [
        ExcerptGroup((ExcerptRef(call.index, CharSpan(0, _ALL, call.tokens)), *unit.excerpts))
        if (call := call_of.get(unit.excerpts[0].index)) and call.tokens <= CALL_TOKENS_MAX
        else unit
        for unit in units
    ]


# The end of a turn whose length is not read yet.
_ALL = 1 << 40


def _calls(turns: Sequence[Turn]) -> dict[int, Turn]:
    """By index of a result, the call that it answers: the one with its call id, else the turn before it."""
    found: dict[int, Turn] = {}
    by_id: dict[str, Turn] = {}
    for before, turn in zip([None, *turns], turns, strict=False):
        if turn.role != "tool":
            if turn.call_id:
                by_id[turn.call_id] = turn
        elif turn.call_id in by_id:
            found[turn.index] = by_id[turn.call_id]
        elif before is not None and before.role == "assistant":
            found[turn.index] = before
    return found


def _without_repeats(units: Sequence[ExcerptGroup], turns: dict[int, Turn]) -> list[ExcerptGroup]:
    """Of stretches that say the same word for word the newest stays, at the place of the best."""
    newest: dict[str, int] = {}
    words: list[str] = []
    for unit in units:
        quote = unit.excerpts[-1]
        text = turns[quote.index].content[quote.span.start : quote.span.stop].strip()
        words.append(text if len(text) >= REPEAT_CHARS_MIN else f"{quote.index}:{quote.span.start}")
        newest[words[-1]] = max(newest.get(words[-1], -1), quote.index)
    by_words = {w: unit for w, unit in zip(words, units, strict=True) if unit.excerpts[-1].index == newest[w]}
    return [clip(by_words[w], turns) for w in dict.fromkeys(words)]


# Shorter ones ("ok", "yes") cost nothing to repeat, and where they were said matters.
REPEAT_CHARS_MIN = 200


async def _expand_outline(
    branch: BranchReader, snapshot: TreeSnapshot, units: Sequence[ExcerptGroup], turns: dict[int, Turn], lines: int
) -> tuple[TreeSnapshot, Mapping[bytes, Summary]]:
    """Opens the outline to about so many lines; reads the summaries it may show."""
    shown, tiled = quotes_by_turn(units, turns), TileCache()
    snapshot = await with_expanded(branch, snapshot, tile(snapshot, shown, tiled), lines)
    items = tile(snapshot, shown, tiled)
    return snapshot, await branch.summaries(outline_nodes(items))
