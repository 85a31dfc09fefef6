"""Reads what the brief for the next agent run is made of."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, spoken_turns
from ctxmem_mcp.memory.section_summaries import load_sections
from ctxmem_mcp.memory.stable_view import whole_or_ends
from ctxmem_mcp.memory.view import load_header
from ctxmem_mcp.models import Piece, Role, Turn, View
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.handoff_brief import (
    LAST_MESSAGES_SHARE,
    LAST_MESSAGES_SHARE_MAX,
    OMITTED_CHARS_MIN,
    BriefQuotes,
    build_brief,
    error_turns,
    note_lines,
    request_turns,
)
from ctxmem_mcp.views.header import with_header
from ctxmem_mcp.views.layout import CharSpan, Quote

NOTE_CHARS_MAX = 4_000
# The last words of user and agent are looked for among this many last turns.
LAST_TURNS = 60
BRIEF_TOKENS_MIN = 200
# At most this many of the newest errors are quoted.
ERRORS_READ_MAX = 20
_SIDES: tuple[Role, ...] = ("assistant", "user")


async def hand_off(branch: BranchReader, summarizer: Summarizer, token_budget: int, note: str | None) -> View:
    """Builds the brief for the next run, as of the branch's last turn.

    Raises:
        InvalidArgument: The note is too long.
        BudgetTooSmall: No brief fits the budget.
    """
    if note is not None and len(note) > NOTE_CHARS_MAX:
        raise InvalidArgument("note", f"must be up to {NOTE_CHARS_MAX} characters; got {len(note)}", "Shorten it.")
    count = tokenizer.CachedCounter(branch.state.encoding)
    snapshot = await load_snapshot(branch)
    header = await load_header(branch, snapshot, token_budget)
    note_cost = count("\n".join(note_lines(note))) if note else 0
    room = token_budget - header.cost(count) - note_cost
    if room < BRIEF_TOKENS_MIN:
        raise BudgetTooSmall(token_budget, header.floor(note_cost + BRIEF_TOKENS_MIN, count))
    sections = await load_sections(branch, snapshot, summarizer)
    last_words = await _load_last_words(branch)
    last, longer = [
        _quote_last_words(last_words, round(room * share)) for share in (LAST_MESSAGES_SHARE, LAST_MESSAGES_SHARE_MAX)
    ]
    shown = {quoted.turn.index for quoted in last}
    requests = await _quote_requests(branch, request_turns(sections), room, shown)
    errors = await _quote_errors(branch, error_turns(sections)[:ERRORS_READ_MAX], shown)
    quotes = BriefQuotes(last, longer, requests, errors)
    return with_header(header, build_brief(sections, quotes, note, token_budget - header.cost(count), count), count)


async def _load_last_words(branch: BranchReader) -> list[tuple[Turn, Sequence[Piece]]]:
    """Reads the last words of the agent and of the user, with their chunks."""
    length = branch.lineage.length
    bare = await branch.metadata(length - LAST_TURNS, length - 1)
    turns = await branch.turns(turn.index for role in _SIDES for turn in spoken_turns(bare, role)[-1:])
    pieces = await branch.store.pieces_of(branch.id, [turn.seq for turn in turns.values()])
    agent_first = sorted(turns.values(), key=lambda turn: _SIDES.index(turn.role))
    return [(turn, pieces.get(turn.seq, ())) for turn in agent_first]


def _quote_last_words(last_words: Sequence[tuple[Turn, Sequence[Piece]]], room: int) -> list[Quote]:
    """Quotes the turns in full, or the beginning and end of long ones; the agent's takes its room first."""
    found: list[Quote] = []
    for turn, pieces in last_words:
        found.append(whole_or_ends(turn, pieces, room))
        room -= sum(span.tokens for span in found[-1].spans)
    return sorted(found, key=lambda quoted: quoted.turn.index)


async def _quote_requests(
    branch: BranchReader, requests: list[tuple[int, int]], room: int, except_for: set[int]
) -> list[Quote]:
    """Quotes the user's requests and terms that are longer than their lines, in the order of `request_turns`."""
    bare = await branch.metadata_of([seq for index, _ in requests if (seq := branch.lineage.seq_at(index)) is not None])
    size = {turn.index: turn.tokens for turn in bare}
    chosen: list[int] = []
    for index, _ in requests:
        if index not in except_for and size.get(index, room) <= room:
            chosen.append(index)
            room -= size[index]
    turns, line_chars = await branch.turns(chosen), dict(requests)
    return [
        Quote.all_of(turns[index])
        for index in chosen
        if len(turns[index].content) > line_chars[index] + OMITTED_CHARS_MIN
    ]


async def _quote_errors(branch: BranchReader, errors: list[tuple[int, str]], except_for: set[int]) -> list[Quote]:
    """Quotes, of each turn that reports an error, the chunk that contains the line."""
    turns = await branch.turns(index for index, _ in errors if index not in except_for)
    pieces = await branch.store.pieces_of(branch.id, [turn.seq for turn in turns.values()])
    found: list[Quote] = []
    for index, line in errors:
        if index in turns and len(turns[index].content) > len(line) + OMITTED_CHARS_MIN:
            turn = turns[index]
            at = max(0, turn.content.find(line.removesuffix("…")))
            piece = next((p for p in pieces.get(turn.seq, ()) if p.start <= at < p.stop), None)
            if piece:
                span = CharSpan(piece.start, piece.stop, piece.tokens)
                found.append(Quote(turn, (span,), len(turn.content)))
    return found
