"""Builds the view of a branch within a token budget: reads in a few batches what retrieval and layout need.

query -> ranked chunks -> excerpts that fit (by estimate) -> the tree above them -> text that fits (counted)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, spoken_turns
from ctxmem_mcp.memory.candidates import take_candidates, with_repeats_last
from ctxmem_mcp.memory.excerpts import Selection, excerpt, excerpt_group, fit_selection, indexes_of
from ctxmem_mcp.memory.reasons import view_reasons
from ctxmem_mcp.memory.recent import last_user_query, newest_within
from ctxmem_mcp.memory.replaced_turns import find_replacements
from ctxmem_mcp.memory.retrieve import RankedPiece, Ranking, rank_branch
from ctxmem_mcp.memory.section_summaries import load_sections
from ctxmem_mcp.memory.stable_view import stable_view
from ctxmem_mcp.memory.standing_instructions import standing_excerpts
from ctxmem_mcp.models import HighlightKinds, Piece
from ctxmem_mcp.results import View
from ctxmem_mcp.retrieval.confidence import CONFIDENCE_MAX, confidence
from ctxmem_mcp.retrieval.query import OVERVIEW_KINDS, asks_for_status
from ctxmem_mcp.retrieval.selection import RESERVE_OF_ORDER, cost_weight_of, reserve_of, selection_rows, with_endings
from ctxmem_mcp.retrieval.summary_hits import confirmations, highlight_turns, turns_between_error_and_fix
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.budget import FitResult
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.layout import CharSpan, Quote, TreeSnapshot
from ctxmem_mcp.views.page_layout import OUTLINE_SHARE_MAX
from ctxmem_mcp.views.render import NO_KIND_FILTER
from ctxmem_mcp.views.summary_requests import summary_request_tokens, with_summary_requests

# The last turns are shown with any query, in this share of the budget; in the larger one if there is no query.
RECENT_SHARE, RECENT_SHARE_NO_QUERY = 0.03, 0.35
RECENT_TURNS_MAX = 60
# What the user asked for once and for all is part of every view. Measured in a simulation on long chats: 3 percent find
# such instructions in 65 / 81 / 96 of 100 cases with 4,000 / 8,000 / 16,000 tokens, up from 56 / 79 / 81.
STANDING_SHARE = 0.03
# In plain conversation the turns themselves are hardly longer than lines about them.
OUTLINE_SHARE_OF_TALK = 0.06
# The outline answers a question about the whole history, better than more quotes would.
OUTLINE_SHARE_WHOLE, OUTLINE_SHARE_EVERYTHING = 0.4, 0.75
# An overview quotes the requests; the outline covers the rest.
REQUESTS: HighlightKinds = frozenset(("request",))
# How many turns of highlights are considered, and how many tokens of a long one are shown.
HIGHLIGHT_TURNS_MAX, HIGHLIGHT_TURN_TOKENS = 400, 1_000
# The proposal that the user confirms is looked for in this many turns before.
PROPOSAL_WITHIN_TURNS = 8
# A smaller view has no room for the confidence in its header: its five tokens cost two of 90 answers in 1,000 tokens,
# one in 2,000, and a part of one of 447 in 8,000 and in 12,000.
CONFIDENCE_FROM = 16_000
LAYOUTS = ("tree", "stable")


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """What a caller wants to see.

    Attributes:
        layout: one of LAYOUTS.
        explain: with the reason for each excerpt.
        request_summaries: the header may name nodes that need a better summary.
        omitted: indexes of turns that are not quoted (stable layout only).
        events_pending: how many captured events are not stored yet; the header states them if there are any.
    """

    query: str | None
    token_budget: int
    layout: str = "tree"
    explain: bool = False
    request_summaries: bool = False
    omitted: frozenset[int] = frozenset()
    events_pending: int = 0


async def view(branch: BranchReader, summarizer: Summarizer, request: ViewRequest) -> View:
    """Builds the view of a branch as of its last turn.

    Raises:
        InvalidArgument: The layout is unknown.
        BudgetTooSmall: No view fits the budget.
    """
    query, token_budget, layout = request.query, request.token_budget, request.layout
    if layout not in LAYOUTS:
        raise InvalidArgument("layout", f"must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    count = tokenizer.CachedCounter(branch.state.encoding)
    snapshot = await load_snapshot(branch)
    header = await load_header(branch, snapshot, token_budget)
    if request.events_pending:
        header = replace(header, extra={"events_pending": request.events_pending})
    if layout == "stable":
        ranking = await rank_branch(branch, query) if query and query.strip() else None
        groups = [excerpt_group(f) for f in by_value_per_token(ranking, token_budget)] if ranking else []
        return await stable_view(branch, snapshot, header, groups, count, request.omitted)
    if query and (not query.strip() or asks_for_status(query)):
        query = None
    states_confidence = bool(query) and token_budget >= CONFIDENCE_FROM
    if states_confidence:
        header = header.with_field("confidence", CONFIDENCE_MAX)
    budget = token_budget - header.cost(count) - (summary_request_tokens(header) if request.request_summaries else 0)
    standing = await _standing(branch, round(budget * STANDING_SHARE))
    recent = await recent_groups(branch, round(budget * (RECENT_SHARE if query else RECENT_SHARE_NO_QUERY)))
    topic = query or await last_user_query(branch, within=RECENT_TURNS_MAX)
    ranking = await rank_branch(branch, topic) if topic else None
    ranked = await with_repeats_last(branch, by_value_per_token(ranking, budget)) if ranking else []
    kinds = ranking.parsed.summary_kinds if ranking and query else NO_KIND_FILTER
    selection = await _from_summaries(branch, snapshot, summarizer, kinds, ranked) if kinds else None
    if selection:
        # The highlights lead; what ranking found fills the room that they leave, however few they are.
        known = indexes_of(selection.groups)
        others = [f for f in ranked if f.piece.index not in known]
        leaf_of = {f.piece.index: f.piece.leaf for f in others} | selection.leaf_of
        selection = replace(
            selection,
            groups=[*standing, *selection.groups, *recent],
            leaf_of=leaf_of,
            fillers=list(map(excerpt_group, others)),
        )
    else:
        share = _outline_share(ranking) if ranking and query else OUTLINE_SHARE_MAX
        leaf_of = {f.piece.index: f.piece.leaf for f in ranked}
        compact = bool(ranking and query and not ranking.parsed.wants_whole_history)
        selection = Selection([*standing, *recent, *map(excerpt_group, ranked)], leaf_of, share, compact=compact)
    if ranking:
        selection = selection.with_replacements(await find_replacements(branch, ranking.iter_pieces()))
    requests = request.request_summaries
    result = await fit_selection(branch, snapshot, selection, budget, count, request_summaries=requests)
    if isinstance(result, int):
        raise BudgetTooSmall(token_budget, header.floor(result, count))
    estimate = _confidence(ranking, result) if query and ranking and selection.compact else None
    header = header.with_field("confidence", estimate if states_confidence else None)
    if request.request_summaries:
        header = with_summary_requests(header, result.summary_requests, count)
    shown = replace(with_header(header, result.text, count), confidence=estimate)
    return replace(shown, reasons=view_reasons(ranking, ranked, result)) if request.explain and ranking else shown


def _confidence(ranking: Ranking, result: FitResult) -> float | None:
    """Returns how likely the view shows the answer; None if the query has no word to rank by."""
    if ranking.result is None:
        return None
    import numpy as np

    spans = {item.turn.index: item.spans for item in result.items if isinstance(item, Quote)}
    quoted = np.flatnonzero(np.isin(ranking.table.rows.turn, list(spans)))
    pieces = ranking.table.pieces
    rows = [row for row in quoted.tolist() if _is_within(pieces[row], spans[pieces[row].index])]
    return confidence(ranking.result, rows)


def _is_within(piece: Piece, spans: Iterable[CharSpan]) -> bool:
    return any(span.start <= piece.start and piece.stop <= span.stop for span in spans)


async def load_header(branch: BranchReader, snapshot: TreeSnapshot, token_budget: int) -> ViewHeader:
    """Reads what the header of every view states."""
    last = branch.lineage.last_seq
    head = (await branch.metadata_of([last]))[0].id if last else None
    total = sum(node.tokens for node in snapshot.roots) + sum(t.tokens for t in snapshot.leaves[snapshot.tail_first])
    return ViewHeader(branch.id, head, branch.lineage.length, total, token_budget, branch.state.encoding)


async def _standing(branch: BranchReader, budget: int) -> list[ExcerptGroup]:
    """Returns the user's standing instructions that fit, word for word."""
    return [ExcerptGroup((one,)) for one in await standing_excerpts(branch, budget)]


async def recent_groups(branch: BranchReader, budget: int) -> list[ExcerptGroup]:
    """Returns as many of the last turns as fit, newest first; if the very last is too long, its end."""
    length = branch.lineage.length
    seqs = branch.lineage.seqs(length - RECENT_TURNS_MAX, length - 1)
    pieces = await branch.pieces_of(seqs)
    fitting = newest_within(seqs, budget, lambda seq: sum(piece.tokens for piece in pieces[seq]))
    if fitting or not seqs:
        return [ExcerptGroup(tuple(map(excerpt, pieces[seq]))) for seq in reversed(fitting)]
    end = pieces[seqs[-1]][-1]
    return [ExcerptGroup((excerpt(end),))] if end.tokens <= budget else []


def _outline_share(ranking: Ranking) -> float:
    """Returns the outline's share of the budget, for this query in this kind of conversation."""
    if ranking.parsed.wants_whole_history:
        return OUTLINE_SHARE_WHOLE
    talk = (ranking.kinds or {}).get("dialogue", 0.0)
    return OUTLINE_SHARE_MAX * (1 - talk) + OUTLINE_SHARE_OF_TALK * talk


def by_value_per_token(ranking: Ranking, budget: int) -> list[RankedPiece]:
    """Returns ranked chunks in the order in which the view takes them."""
    if ranking.result is None:
        return []
    kinds = ranking.kinds or {"coding": 0.0}
    reserve = reserve_of(ranking.parsed)
    # An order is in the user's words whatever the kind of conversation.
    coding = 1.0 if reserve == RESERVE_OF_ORDER else kinds["coding"]
    scores = ranking.result.by_row
    rows = selection_rows(
        ranking.table.rows, scores, budget, coding=coding, cost_weight=cost_weight_of(kinds), reserve=reserve
    )
    if not ranking.parsed.wants_work:
        rows = with_endings(rows, ranking.table.rows, scores, budget)
    pieces, ordinals = ranking.table.pieces, ranking.table.rows.ordinal
    best = next((pieces[row] for row in ranking.result.rows[:1].tolist()), None)
    ordered = (RankedPiece(pieces[row], float(scores[row]), int(ordinals[row])) for row in rows)
    return take_candidates(ordered, best, budget)


async def _from_summaries(
    branch: BranchReader,
    snapshot: TreeSnapshot,
    summarizer: Summarizer,
    kinds: HighlightKinds,
    ranked: Sequence[RankedPiece],
) -> Selection | None:
    """Answers a question that names nothing in particular with the turns of the summaries' highlights.

    Errors come with the turns between each and its fix, and with the ranked chunks of those sections; decisions come
    with the proposals and the user's requests. Returns None if no summary has a highlight of these kinds.
    """
    kinds_shown = kinds if kinds != OVERVIEW_KINDS else REQUESTS
    sections = await load_sections(branch, snapshot, summarizer)
    highlights = highlight_turns(sections, kinds_shown)
    indexes = [index for turns in highlights for index in turns] + turns_between_error_and_fix(highlights)
    proposals: list[int] = []
    if "decision" in kinds_shown:
        proposals = await _last_agent_turns_before(branch, confirmations(sections))
        indexes += [*proposals, *(index for turns in highlight_turns(sections, REQUESTS) for index in turns)]
    indexes = list(dict.fromkeys(indexes))[:HIGHLIGHT_TURNS_MAX]
    pieces = await branch.pieces_of([branch.lineage.seq_at(i) or 0 for i in indexes])
    by_index = {turn_pieces[0].index: turn_pieces for turn_pieces in pieces.values()}

    def shown(index: int) -> list[Piece]:
        # A proposal ends with its question.
        ordered = by_index[index][::-1] if index in proposals else by_index[index]
        return _within(ordered, HIGHLIGHT_TURN_TOKENS)

    groups = [ExcerptGroup(tuple(map(excerpt, shown(index)))) for index in indexes if index in by_index]
    leaves = {piece.index: piece.leaf for turn_pieces in pieces.values() for piece in turn_pieces}
    error_leaves = set(leaves.values()) if "error" in kinds_shown else set()
    extra = [f for f in ranked if f.piece.leaf in error_leaves and f.piece.index not in leaves]
    leaf_of = leaves | {f.piece.index: f.piece.leaf for f in extra}
    share = OUTLINE_SHARE_WHOLE if kinds != OVERVIEW_KINDS else OUTLINE_SHARE_EVERYTHING
    return Selection([*groups, *map(excerpt_group, extra)], leaf_of, share, kinds) if groups else None


def _within(pieces: Sequence[Piece], tokens: int) -> list[Piece]:
    """Returns the first chunks that have this many tokens together, at least one."""
    spent = list(accumulate(piece.tokens for piece in pieces))
    return [piece for piece, total in zip(pieces, spent, strict=True) if total <= tokens] or list(pieces[:1])


async def _last_agent_turns_before(branch: BranchReader, indexes: Sequence[int]) -> list[int]:
    """Returns, for each of these turns, the last one before in which the agent speaks, if any is near."""
    found: list[int] = []
    for index in indexes:
        before = await branch.metadata(index - PROPOSAL_WITHIN_TURNS, index - 1)
        found += [turn.index for turn in spoken_turns(before, "assistant")[-1:]]
    return found
