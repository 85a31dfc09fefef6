"""Reads what the brief for the next agent run is made of."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, spoken_turns
from ctxmem_mcp.memory.section_summaries import load_sections
from ctxmem_mcp.memory.stable_view import whole_or_ends
from ctxmem_mcp.memory.standing_instructions import standing_instructions
from ctxmem_mcp.memory.view import load_header
from ctxmem_mcp.models import INJECTED, RECAP, Piece, Role, Turn
from ctxmem_mcp.results import View
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.host_text import is_host_text, split_host_text
from ctxmem_mcp.views.brief_parts import STANDING_SHARE, error_turns, request_turns
from ctxmem_mcp.views.handoff_brief import (
    LAST_MESSAGES_SHARE,
    LAST_MESSAGES_SHARE_MAX,
    OMITTED_CHARS_MIN,
    BriefQuotes,
    build_brief,
    note_lines,
)
from ctxmem_mcp.views.header import with_header
from ctxmem_mcp.views.layout import CharSpan, Quote

NOTE_CHARS_MAX = 4_000
# The last words of user and agent are looked for among this many last turns.
LAST_TURNS = 60
BRIEF_TOKENS_MIN = 200
# The first request is read if its turn has up to this many tokens: a host may have put thousands of its own in it.
FIRST_REQUEST_TOKENS_MAX = 20_000
# At most this many of the newest errors are quoted.
ERRORS_READ_MAX = 20
_SIDES: tuple[Role, ...] = ("assistant", "user")


async def hand_off(
    branch: BranchReader, summarizer: Summarizer, token_budget: int, note: str | None, *, from_files: bool = True
) -> View:
    """Builds the brief for the next run, as of the branch's last turn.

    Args:
        branch: The branch.
        summarizer: Summarizes its open end.
        token_budget: The most that header and text take together.
        note: A text to include.
        from_files: Include standing instructions of the project's files, not only those in the user's own words.

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
    standing = await standing_instructions(branch, round(room * STANDING_SHARE), from_files=from_files)
    quotes = BriefQuotes(last, longer, requests, errors, [one.quote for one in standing])
    return with_header(header, build_brief(sections, quotes, note, token_budget - header.cost(count), count), count)


async def _load_last_words(branch: BranchReader) -> list[tuple[Turn, Sequence[Piece]]]:
    """Reads the last words of the agent and of the user, with their chunks."""
    length = branch.lineage.length
    bare = await branch.metadata(length - LAST_TURNS, length - 1)
    own = [turn for turn in bare if turn.name not in (INJECTED, RECAP)]
    turns = [turn for role in _SIDES if (turn := await _last_own(branch, spoken_turns(own, role)))]
    pieces = await branch.store.pieces_of(branch.id, [turn.seq for turn in turns])
    return [(turn, pieces.get(turn.seq, ())) for turn in turns]


async def _last_own(branch: BranchReader, bare: Sequence[Turn]) -> Turn | None:
    """Reads the last of these turns that is not the host's."""
    for one in reversed(bare):
        for turn in (await branch.turns([one.index])).values():
            if turn.role != "user" or not is_host_text(turn.content):
                return turn
    return None


def _quote_last_words(last_words: Sequence[tuple[Turn, Sequence[Piece]]], room: int) -> list[Quote]:
    """Quotes the turns in full, or the beginning and end of long ones; the agent's takes its room first."""
    found: list[Quote] = []
    for turn, pieces in last_words:
        found.append(_quote_words(turn, pieces, room))
        room -= sum(span.tokens for span in found[-1].spans)
    return sorted(found, key=lambda quoted: quoted.turn.index)


def _quote_words(turn: Turn, pieces: Sequence[Piece], room: int) -> Quote:
    """Quotes a turn, or the beginning and end of a long one; of a user's turn only the user's own words."""
    own = _own_words(turn)
    if own.whole:
        return whole_or_ends(turn, pieces, room)
    if sum(span.tokens for span in own.spans) <= room:
        return own
    touched = [piece for piece in pieces if any(s.start < piece.stop and piece.start < s.stop for s in own.spans)]
    shown = whole_or_ends(turn, touched, room).spans
    both = [(max(a.start, b.start), min(a.stop, b.stop)) for a in own.spans for b in shown]
    return own._replace(spans=tuple(_span_of(turn, start, stop) for start, stop in both if start < stop))


def _own_words(turn: Turn) -> Quote:
    """Quotes a turn; of a user's turn what the host did not write."""
    if turn.role != "user":
        return Quote.all_of(turn)
    own = [span for span in split_host_text(turn.content) if span.kind == "user"]
    if not own or own[0].end - own[0].start == len(turn.content):
        return Quote.all_of(turn)
    return Quote(turn, tuple(_span_of(turn, span.start, span.end) for span in own), len(turn.content))


def _span_of(turn: Turn, start: int, stop: int) -> CharSpan:
    """A part of a turn, with its share of the turn's tokens."""
    return CharSpan(start, stop, -(-turn.tokens * (stop - start) // max(1, len(turn.content))))


async def _quote_requests(
    branch: BranchReader, requests: list[tuple[int, int]], room: int, except_for: set[int]
) -> list[Quote]:
    """Quotes the user's requests and terms that are longer than their lines, in the order of `request_turns`."""
    bare = await branch.metadata_of([seq for index, _ in requests if (seq := branch.lineage.seq_at(index)) is not None])
    size = {turn.index: turn.tokens for turn in bare}
    chosen: list[int] = []
    for index, _ in requests:
        limit = FIRST_REQUEST_TOKENS_MAX if index == requests[0][0] else room
        if index not in except_for and size.get(index, limit) <= limit:
            chosen.append(index)
            room -= min(room, size[index])
    turns, line_chars = await branch.turns(chosen), dict(requests)
    quotes = [_own_words(turns[index]) for index in chosen if not is_host_text(turns[index].content)]
    return [
        quote
        for quote in quotes
        if sum(span.stop - span.start for span in quote.spans) > line_chars[quote.turn.index] + OMITTED_CHARS_MIN
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
