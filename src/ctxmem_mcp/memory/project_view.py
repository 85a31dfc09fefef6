"""Builds the view of a project within a token budget: all its conversations in outline, and what matters in full.

query -> the conversations that match -> ranked chunks of them together -> a share of the budget for each -> their views

Each conversation that is quoted is laid out as its own view is, so the same laws hold for its part: all its turns are
there, verbatim or under an id. Conversations that are not shown are counted in lines that say when they were.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log

from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot
from ctxmem_mcp.memory.candidates import take_candidates, with_copies_last
from ctxmem_mcp.memory.excerpts import Selection, excerpt_group, fit_selection
from ctxmem_mcp.memory.last_words import ending_groups
from ctxmem_mcp.memory.project_ranker import ProjectRanking, rank_project
from ctxmem_mcp.memory.replaced_turns import find_replacements, may_state
from ctxmem_mcp.memory.retrieve import RankedPiece
from ctxmem_mcp.models import Piece
from ctxmem_mcp.results import ConversationInfo, View
from ctxmem_mcp.retrieval.conversation_scores import NORM
from ctxmem_mcp.retrieval.selection import Candidate, Reserve, cost_weight_of, selection_order
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.project_outline import OutlinedSession, outline_project
from ctxmem_mcp.views.render import PREFACE

# So many conversations are ranked together.
RANKED_MAX = 15
# The outline takes up to this share of the budget. If something is asked, only sessions that are quoted have a line.
OUTLINE_SHARE, OUTLINE_SHARE_NO_QUERY = 0.06, 0.4
# Of the room of a conversation that is quoted, the titles of what is omitted take up to this share.
TITLES_SHARE = 0.02
# The reserves for prose of a single conversation would be spent on small talk of all of them. In a simulation on 75
# questions they find 40 / 62 percent of the evidence of people's questions in 2,000 / 8,000 tokens, none 42 / 69.
RESERVE = Reserve(0.0, 0.0)
# How much it counts that a conversation as a whole matches.
CONVERSATION_WEIGHT = 0.5
# Without a question, the ends of this many sessions are quoted, the newest with twice the room of the next.
NEWEST_QUOTED = 3
# A quoted conversation takes at least this much of the budget.
TOKENS_EACH_MIN = 30
# Estimated tokens of the lines around an excerpt.
OVERHEAD_TOKENS = 18


@dataclass(frozen=True, slots=True)
class ProjectRequest:
    """What a caller wants to see.

    Attributes:
        name: the project's name, for the header.
        query: what the reader wants to know; None for how things are.
        shorten: Shortens a conversation's id.
    """

    name: str
    query: str | None
    token_budget: int
    encoding: str
    shorten: Callable[[str], str] = str


@dataclass(frozen=True, slots=True)
class _Share:
    """A conversation's part of the view.

    Attributes:
        groups: its excerpts, best first.
        fillers: those that only fill its room.
        leaf_of: by index of a turn, the first index of its leaf.
        tokens: its room.
        statements: chunks that may be statements of the user, best first.
    """

    groups: list[ExcerptGroup]
    fillers: list[ExcerptGroup]
    leaf_of: Mapping[int, int]
    tokens: int
    statements: Sequence[Piece] = ()


async def project_view(
    infos: Sequence[ConversationInfo],
    matching: Mapping[str, float],
    request: ProjectRequest,
    open_branch: Callable[[str], Awaitable[BranchReader | None]],
) -> View:
    """Builds the view of a project.

    Args:
        infos: Its conversations, the last active first.
        matching: Those that match the query, best first, and how well; without a query, the ones to quote from, newest
            first.
        request: What the caller wants to see.
        open_branch: Opens the branch of a conversation's head; None if the conversation is gone.

    Raises:
        BudgetTooSmall: No view fits the budget.
    """
    count = tokenizer.CachedCounter(request.encoding)
    header = _header(infos, request)
    budget = request.token_budget - header.cost(count) - count(PREFACE + "\n")
    share = OUTLINE_SHARE if request.query else OUTLINE_SHARE_NO_QUERY
    branches = await _open(infos, list(matching)[:RANKED_MAX], open_branch)
    room = round(budget * (1 - share))
    if request.query and branches:
        shares = await _matching(branches, {one: matching[one] for one in branches}, request.query, room)
    else:
        shares = await _newest(branches, list(matching), room)
    texts, left = {}, 0
    for conversation_id, part in shares.items():
        text, spent = await _part(branches[conversation_id], part, left, count)
        left += part.tokens - spent
        if text:
            texts[conversation_id] = text
    sessions = [OutlinedSession(info, texts.get(info.conversation_id, "")) for info in reversed(infos)]
    only_quoted = bool(request.query and texts)
    outlined = outline_project(
        sessions, list(shares), budget, round(budget * share), count, shorten=request.shorten, only_quoted=only_quoted
    )
    if isinstance(outlined, int):
        raise BudgetTooSmall(request.token_budget, header.floor(outlined + count(PREFACE + "\n"), count))
    return with_header(header, f"{PREFACE}\n{outlined}", count)


def with_sessions(
    infos: Sequence[ConversationInfo], newest: ConversationInfo, brief: str, request: ProjectRequest
) -> View:
    """Adds the sessions of a project, the newest last, to the brief of the newest."""
    count = tokenizer.CachedCounter(request.encoding)
    header = _header(infos, request)
    budget = request.token_budget - header.cost(count)
    sessions = [OutlinedSession(info, brief if info == newest else "") for info in reversed(infos)]
    outlined = outline_project(sessions, [newest.conversation_id], budget, budget, count, shorten=request.shorten)
    if isinstance(outlined, int):
        raise BudgetTooSmall(request.token_budget, header.floor(outlined, count))
    return with_header(header, outlined, count)


def _header(infos: Sequence[ConversationInfo], request: ProjectRequest) -> ViewHeader:
    return ViewHeader(
        None, None, sum(info.turns for info in infos), sum(info.tokens for info in infos), request.token_budget,
        request.encoding, extra={"project": request.name, "conversations": len(infos)},
    )  # fmt: skip


async def _open(
    infos: Sequence[ConversationInfo],
    chosen: Sequence[str],
    open_branch: Callable[[str], Awaitable[BranchReader | None]],
) -> dict[str, BranchReader]:
    """Opens these conversations, in the order of time."""
    wanted, found = set(chosen), dict[str, BranchReader]()
    for info in reversed(infos):
        if info.conversation_id in wanted and (branch := await open_branch(info.conversation_id)):
            found[info.conversation_id] = branch
    return found


async def _matching(
    branches: Mapping[str, BranchReader], matching: Mapping[str, float], query: str, room: int
) -> dict[str, _Share]:
    """Divides the room among the conversations by how well their chunks match."""
    opened = list(branches.values())
    ranked = await rank_project(opened, query)
    weighted = _weighted(ranked, list(matching.values()))
    ordered = _by_value_per_token(ranked.kinds, weighted, room)
    ordered = await with_copies_last(ordered, lambda found: opened[ranked.owner(found)])
    return _divide(ranked, weighted, ordered, list(matching), room)


def _divide(
    ranked: ProjectRanking,
    weighted: Sequence[RankedPiece],
    ordered: Sequence[RankedPiece],
    ids: Sequence[str],
    room: int,
) -> dict[str, _Share]:
    """Divides the room among the conversations by the best chunks of all. The one with the best chunk is first."""
    chosen: dict[str, list[ExcerptGroup]] = {}
    others: dict[str, list[ExcerptGroup]] = {}
    leaves: dict[str, dict[int, int]] = {}
    spent: dict[str, int] = {}
    left = room
    statements: dict[str, list[Piece]] = {}
    for found in weighted:
        if may_state(found.piece):
            statements.setdefault(ids[ranked.owner(found)], []).append(found.piece)
    for found in ordered:
        owner = ids[ranked.owner(found)]
        leaves.setdefault(owner, {})[found.piece.index] = found.piece.leaf
        cost = found.piece.tokens + OVERHEAD_TOKENS + (0 if owner in chosen else TOKENS_EACH_MIN)
        if cost <= left:
            chosen.setdefault(owner, []).append(excerpt_group(found))
            spent[owner] = spent.get(owner, 0) + cost
            left -= cost
        else:
            others.setdefault(owner, []).append(excerpt_group(found))
    total = sum(spent.values()) or 1
    return {
        owner: _Share(
            groups, others.get(owner, []), leaves[owner], spent[owner] * room // total, statements.get(owner, ())
        )
        for owner, groups in chosen.items()
    }


def _by_value_per_token(kinds: Mapping[str, float], pieces: Sequence[RankedPiece], room: int) -> list[RankedPiece]:
    """Returns the chunks in the order in which the view takes them, as many as may be considered."""
    by_ordinal = {found.ordinal: found for found in pieces}
    candidates = [
        Candidate(f.ordinal, f.score, f.piece.tokens, f.piece.flags, f.piece.role, f.piece.name) for f in pieces
    ]
    order = selection_order(
        candidates, room, coding=kinds.get("coding", 0.0), cost_weight=cost_weight_of(kinds), reserve=RESERVE
    )
    best = max(pieces, key=lambda found: found.score, default=None)
    return take_candidates((by_ordinal[ordinal] for ordinal in order), best.piece if best else None, room)


def _weighted(ranked: ProjectRanking, scores: Sequence[float]) -> list[RankedPiece]:
    """Adds to the score of each chunk how well its conversation matches. Of copies of a chunk, only one is kept."""
    best = max(scores)
    pieces: dict[object, RankedPiece] = {}
    for found in ranked.pieces:
        gain = CONVERSATION_WEIGHT * NORM * log(scores[ranked.owner(found)] / best)
        weighted = found._replace(score=found.score + gain)
        piece = found.piece
        same = (piece.said_at, piece[3:8], piece.role, piece.name) if piece.said_at else found.ordinal
        if same not in pieces or pieces[same].score < weighted.score:
            pieces[same] = weighted
    return sorted(pieces.values(), key=lambda one: -one.score)


async def _newest(branches: Mapping[str, BranchReader], newest: Sequence[str], room: int) -> dict[str, _Share]:
    """Divides the room among the ends of the newest conversations: their last requests and the agent's responses."""
    found: dict[str, _Share] = {}
    for conversation_id in [one for one in newest if one in branches][:NEWEST_QUOTED]:
        tokens = room // 2
        room -= tokens
        found[conversation_id] = _Share(await ending_groups(branches[conversation_id], tokens), [], {}, tokens)
    return found


async def _part(branch: BranchReader, part: _Share, more: int, count: Callable[[str], int]) -> tuple[str, int]:
    """Returns the text of a conversation's part and its tokens; none if nothing fits."""
    snapshot = await load_snapshot(branch)
    selection = Selection(part.groups, dict(part.leaf_of), TITLES_SHARE, fillers=part.fillers, compact=True)
    selection = selection.with_replacements(await find_replacements(branch, part.statements))
    result = await fit_selection(branch, snapshot, selection, part.tokens + more, count)
    if isinstance(result, int) or not result.taken:
        return "", 0
    text = result.text.removeprefix(PREFACE + "\n")
    return text, count(text)
