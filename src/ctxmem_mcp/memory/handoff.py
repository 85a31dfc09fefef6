"""Reads what the brief for the next agent run is made of."""

from __future__ import annotations

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, spoken_turns
from ctxmem_mcp.memory.last_words import load_last_words, own_words, quote_last_words
from ctxmem_mcp.memory.section_summaries import load_sections
from ctxmem_mcp.memory.standing_instructions import standing_instructions
from ctxmem_mcp.memory.view import load_header
from ctxmem_mcp.models import Highlight, Turn
from ctxmem_mcp.results import View
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.host_text import is_host_text
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
from ctxmem_mcp.views.replaced import STATEMENTS_MAX, replaced_highlights

NOTE_CHARS_MAX = 4_000
BRIEF_TOKENS_MIN = 200
# Replacements of earlier statements are looked for among the user's short turns, of so many last turns.
STATEMENT_TURNS, STATEMENT_TOKENS_MAX = 2_000, 100
# The first request is read if its turn has up to this many tokens: a host may have put thousands of its own in it.
FIRST_REQUEST_TOKENS_MAX = 20_000
# At most this many of the newest errors are quoted.
ERRORS_READ_MAX = 20


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
    last_words = await load_last_words(branch)
    last, longer = [
        quote_last_words(last_words, round(room * share)) for share in (LAST_MESSAGES_SHARE, LAST_MESSAGES_SHARE_MAX)
    ]
    shown = {quoted.turn.index for quoted in last}
    requests = await _quote_requests(branch, request_turns(sections), room, shown)
    errors = await _quote_errors(branch, error_turns(sections)[:ERRORS_READ_MAX], shown)
    standing = await standing_instructions(branch, round(room * STANDING_SHARE), from_files=from_files)
    instructions = [one.quote for one in standing]
    short = await _short_user_turns(branch)
    pairs = replaced_highlights((summary for _, summary in sections), instructions, short)
    replaced = await _verbatim(branch, pairs)
    quotes = BriefQuotes(last, longer, requests, errors, instructions, replaced)
    return with_header(header, build_brief(sections, quotes, note, token_budget - header.cost(count), count), count)


async def _short_user_turns(branch: BranchReader) -> list[Turn]:
    length = branch.lineage.length
    bare = spoken_turns(await branch.metadata(length - STATEMENT_TURNS, length - 1), "user")
    short = [turn.index for turn in bare if turn.tokens <= STATEMENT_TOKENS_MAX][-STATEMENTS_MAX:]
    return list((await branch.turns(short)).values())


async def _verbatim(branch: BranchReader, replaced: dict[Highlight, Highlight]) -> dict[Highlight, Highlight]:
    """Keeps the pairs whose later statement is in its turn word for word: a model may have written the highlight."""
    turns = await branch.turns(later.index for later in replaced.values())
    return {
        earlier: later
        for earlier, later in replaced.items()
        if later.text.strip(" .…").casefold()[1:] in " ".join(turns[later.index].content.split()).casefold()
    }


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
    quotes = [own_words(turns[index]) for index in chosen if not is_host_text(turns[index].content)]
    return [
        quote
        for quote in quotes
        if sum(span.stop - span.start for span in quote.spans) > line_chars[quote.turn.index] + OMITTED_CHARS_MIN
    ]


async def _quote_errors(branch: BranchReader, errors: list[tuple[int, str]], except_for: set[int]) -> list[Quote]:
    """Quotes, of each turn that reports an error, the chunk that contains the line."""
    turns = await branch.turns(index for index, _ in errors if index not in except_for)
    pieces = await branch.pieces_of([turn.seq for turn in turns.values()])
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
