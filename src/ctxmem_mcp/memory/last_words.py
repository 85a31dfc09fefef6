"""Quotes the end of a session: the last words of user and agent, and the requests before with the agent's responses."""

from __future__ import annotations

from collections.abc import Sequence

from ctxmem_mcp.memory.branch_reader import BranchReader, spoken_turns
from ctxmem_mcp.memory.stable_view import whole_or_ends
from ctxmem_mcp.models import INJECTED, RECAP, THINKING, Piece, Role, Turn
from ctxmem_mcp.summarizers.requests import is_weak
from ctxmem_mcp.text.host_text import is_host_text, split_host_text
from ctxmem_mcp.views.budget import TURN_HEADER_TOKENS
from ctxmem_mcp.views.excerpt_groups import ExcerptGroup, ExcerptRef
from ctxmem_mcp.views.layout import CharSpan, Quote

# The last words of user and agent are looked for among this many last turns.
LAST_TURNS = 60
# The requests and responses at the end of a session, among so many; an agent may work for hundreds of turns on one.
ENDING_TURNS = 400
# At most so many of them are read.
ENDING_TURNS_READ_MAX = 24
# A quote takes up to this share of the room that is left.
ENDING_SHARE = 0.5
_SIDES: tuple[Role, ...] = ("assistant", "user")


async def ending_groups(branch: BranchReader, budget: int) -> list[ExcerptGroup]:
    """Returns excerpts of the agent's last words, of the last request, and of the requests and responses before, the
    newest first, as many as fit; no calls or results, and no words of the agent between them."""
    length = branch.lineage.length
    talk = [turn for turn in await branch.metadata(length - ENDING_TURNS, length - 1) if _is_talk(turn)]
    ends = [
        turn
        for turn, after in zip(talk, [*talk[1:], None], strict=False)
        if turn.role == "user" or after is None or after.role == "user"
    ][-ENDING_TURNS_READ_MAX:]
    turns = await branch.turns(turn.index for turn in ends)
    pieces = await branch.pieces_of([turn.seq for turn in turns.values()])
    found: list[ExcerptGroup] = []
    for index in sorted(turns, reverse=True):
        turn = turns[index]
        if turn.role == "user" and (is_host_text(turn.content) or is_weak(turn.content.strip())):
            continue
        spans = _quote_words(turn, pieces.get(turn.seq, ()), round(budget * ENDING_SHARE)).spans
        cost = TURN_HEADER_TOKENS + sum(span.tokens for span in spans)
        if spans and cost <= budget:
            budget -= cost
            found.append(ExcerptGroup(tuple(ExcerptRef(index, span) for span in spans)))
    return found


def _is_talk(turn: Turn) -> bool:
    return turn.role in _SIDES and turn.call_id is None and turn.name not in (THINKING, INJECTED, RECAP)


async def load_last_words(branch: BranchReader) -> list[tuple[Turn, Sequence[Piece]]]:
    """Reads the last words of the agent and of the user, with their chunks."""
    length = branch.lineage.length
    bare = await branch.metadata(length - LAST_TURNS, length - 1)
    own = [turn for turn in bare if turn.name not in (INJECTED, RECAP)]
    turns = [turn for role in _SIDES if (turn := await _last_own(branch, spoken_turns(own, role)))]
    pieces = await branch.pieces_of([turn.seq for turn in turns])
    return [(turn, pieces.get(turn.seq, ())) for turn in turns]


async def _last_own(branch: BranchReader, bare: Sequence[Turn]) -> Turn | None:
    """Reads the last of these turns that is not the host's."""
    for one in reversed(bare):
        for turn in (await branch.turns([one.index])).values():
            if turn.role != "user" or not is_host_text(turn.content):
                return turn
    return None


def quote_last_words(last_words: Sequence[tuple[Turn, Sequence[Piece]]], room: int) -> list[Quote]:
    """Quotes the turns in full, or the beginning and end of long ones; the agent's takes its room first."""
    found: list[Quote] = []
    for turn, pieces in last_words:
        found.append(_quote_words(turn, pieces, room))
        room -= sum(span.tokens for span in found[-1].spans)
    return sorted(found, key=lambda quoted: quoted.turn.index)


def _quote_words(turn: Turn, pieces: Sequence[Piece], room: int) -> Quote:
    """Quotes a turn, or the beginning and end of a long one; of a user's turn only the user's own words."""
    own = own_words(turn)
    if own.whole:
        return whole_or_ends(turn, pieces, room)
    if sum(span.tokens for span in own.spans) <= room:
        return own
    touched = [piece for piece in pieces if any(s.start < piece.stop and piece.start < s.stop for s in own.spans)]
    shown = whole_or_ends(turn, touched, room).spans
    both = [(max(a.start, b.start), min(a.stop, b.stop)) for a in own.spans for b in shown]
    return own._replace(spans=tuple(_span_of(turn, start, stop) for start, stop in both if start < stop))


def own_words(turn: Turn) -> Quote:
    """Quotes a turn; of a user's turn the parts that the host did not write."""
    if turn.role != "user":
        return Quote.all_of(turn)
    own = [span for span in split_host_text(turn.content) if span.kind == "user"]
    if not own or own[0].end - own[0].start == len(turn.content):
        return Quote.all_of(turn)
    return Quote(turn, tuple(_span_of(turn, span.start, span.end) for span in own), len(turn.content))


def _span_of(turn: Turn, start: int, stop: int) -> CharSpan:
    """A part of a turn, with its share of the turn's tokens."""
    return CharSpan(start, stop, -(-turn.tokens * (stop - start) // max(1, len(turn.content))))
