"""Hand-off: reads what a brief for the next run is made of."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, spoken
from ctxmem_mcp.memory.section_summaries import sections_of
from ctxmem_mcp.memory.stable_view import whole_or_ends
from ctxmem_mcp.memory.view import heading_of
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
# Among so many turns the last words of each side are looked for.
LAST_TURNS = 60
BRIEF_TOKENS_MIN = 200
# So many of the newest errors may be quoted.
ERRORS_READ_MAX = 20
_SIDES: tuple[Role, ...] = ("assistant", "user")


async def hand_off(branch: BranchReader, summarizer: Summarizer, token_budget: int, note: str | None) -> View:
    """The brief for the next run, as of the branch's last turn."""
    if note is not None and len(note) > NOTE_CHARS_MAX:
        raise InvalidArgument("note", f"takes up to {NOTE_CHARS_MAX} characters; it has {len(note)}", "Shorten it.")
    count = tokenizer.CachedCounter(branch.state.encoding)
    snapshot = await load_snapshot(branch)
    heading = await heading_of(branch, snapshot, token_budget)
    of_note = count("\n".join(note_lines(note))) if note else 0
    room = token_budget - heading.cost(count) - of_note
    if room < BRIEF_TOKENS_MIN:
        raise BudgetTooSmall(token_budget, heading.floor(of_note + BRIEF_TOKENS_MIN, count))
    sections = await sections_of(branch, snapshot, summarizer)
    said = await _said_last(branch)
    last, longer = [_last_words(said, round(room * share)) for share in (LAST_MESSAGES_SHARE, LAST_MESSAGES_SHARE_MAX)]
    shown = {quoted.turn.index for quoted in last}
    asked = await _asked(branch, request_turns(sections), room, shown)
    errors = await _errors(branch, error_turns(sections)[:ERRORS_READ_MAX], shown)
    words = BriefQuotes(last, longer, asked, errors)
    return with_header(heading, build_brief(sections, words, note, token_budget - heading.cost(count), count), count)


async def _said_last(branch: BranchReader) -> list[tuple[Turn, Sequence[Piece]]]:
    """What the agent said last and what the user said last, and the pieces of it."""
    length = branch.lineage.length
    bare = await branch.bare(length - LAST_TURNS, length - 1)
    turns = await branch.turns(turn.index for role in _SIDES for turn in spoken(bare, role)[-1:])
    pieces = await branch.store.pieces_of(branch.id, [turn.seq for turn in turns.values()])
    in_turn = sorted(turns.values(), key=lambda turn: _SIDES.index(turn.role))
    return [(turn, pieces.get(turn.seq, ())) for turn in in_turn]


def _last_words(said: Sequence[tuple[Turn, Sequence[Piece]]], room: int) -> list[Quote]:
    """Whole, or the beginning and the end where it is long; the agent's have the first claim to the room."""
    found: list[Quote] = []
    for turn, pieces in said:
        found.append(whole_or_ends(turn, pieces, room))
        room -= sum(span.tokens for span in found[-1].spans)
    return sorted(found, key=lambda quoted: quoted.turn.index)


async def _asked(branch: BranchReader, asked: list[tuple[int, int]], room: int, but: set[int]) -> list[Quote]:
    """The user's requests and terms in full, as `turns_asked` orders them: those that say more than the lines do."""
    bare = await branch.bare_turns([seq for index, _ in asked if (seq := branch.lineage.seq_at(index)) is not None])
    size = {turn.index: turn.tokens for turn in bare}
    wanted: list[int] = []
    for index, _ in asked:
        if index not in but and size.get(index, room) <= room:
            wanted.append(index)
            room -= size[index]
    turns, told = await branch.turns(wanted), dict(asked)
    return [
        Quote.all_of(turns[index]) for index in wanted if len(turns[index].content) > told[index] + OMITTED_CHARS_MIN
    ]


async def _errors(branch: BranchReader, failed: list[tuple[int, str]], but: set[int]) -> list[Quote]:
    """Of each turn that reports an error, the piece in which its first line stands; all of it where that is short."""
    turns = await branch.turns(index for index, _ in failed if index not in but)
    pieces = await branch.store.pieces_of(branch.id, [turn.seq for turn in turns.values()])
    found: list[Quote] = []
    for index, line in failed:
        if index in turns and len(turns[index].content) > len(line) + OMITTED_CHARS_MIN:
            turn = turns[index]
            at = max(0, turn.content.find(line.removesuffix("…")))
            piece = next((p for p in pieces.get(turn.seq, ()) if p.start <= at < p.stop), None)
            if piece:
                span = CharSpan(piece.start, piece.stop, piece.tokens)
                found.append(Quote(turn, (span,), len(turn.content)))
    return found
