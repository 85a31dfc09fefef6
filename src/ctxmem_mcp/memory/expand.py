"""Opens one id: a turn byte for byte in pages, the turns of a leaf or span in pages, an inner node's outline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, checks_of, outline_nodes, with_expanded
from ctxmem_mcp.memory.id_resolver import Span
from ctxmem_mcp.models import EMPTY_SUMMARY, Node, Turn, View
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.budget import FitInput, fit
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.layout import CharSpan, Quote, TreeSnapshot, tile
from ctxmem_mcp.views.render import PREFACE, Detail, TimestampPrinter, node_lines, quote_text, shorten_name

# A page of a turn is cut at a line end if there is one in its last third.
LINE_END_SEARCHED = 0.67
# More characters than any page can need, per token.
CHARS_PER_TOKEN_MAX = 12
# Turns are read this many at a time while a page fills.
TURNS_AT_ONCE = 32
OUTLINE_LINE_TOKENS = 60
CURSOR_DIGITS_MAX = 18

Count = Callable[[str], int]


async def expand(branch: BranchReader, named: Node | Span | int, token_budget: int, cursor: str | None) -> View:
    """What stands behind an id. `cursor` is the `next_cursor` of the page before."""
    count = partial(tokenizer.count, encoding=branch.state.encoding)
    if isinstance(named, int):
        (turn,) = await branch.store.turns(branch.id, [named])
        return await _turn_page(branch, turn, token_budget, _number(cursor), count)
    if isinstance(named, Node) and named.level and cursor is None and named.tokens > token_budget * 0.8:
        return await _node_outline(branch, named, token_budget, count)
    return await _turns_page(branch, named, token_budget, cursor, count)


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > CURSOR_DIGITS_MAX:
        told = f"is {cursor[:CURSOR_DIGITS_MAX]!r}"
        raise InvalidArgument("cursor", told, "Take next_cursor from the page before, or leave it out.")
    return int(cursor)


async def _heading(
    branch: BranchReader, turns: int, total: int, token_budget: int, **extra: str | int | None
) -> ViewHeader:
    """What the first line says: turns and tokens are those of what is opened, the head is the conversation's."""
    (head,) = await branch.bare_turns([branch.state.head])
    return ViewHeader(branch.id, head.id, turns, total, token_budget, branch.state.encoding, None, dict(extra))


# ---------------------------------------------------------------- one turn


async def _turn_page(branch: BranchReader, turn: Turn, token_budget: int, start: int, count: Count) -> View:
    """The header line, then the content from character `start` on, and nothing else."""
    if start > len(turn.content):
        raise InvalidArgument("cursor", f"is '{start}', beyond this turn", "Take next_cursor from the page before.")
    heading = await _heading(
        branch, 1, turn.tokens, token_budget, turn_id=turn.id, role=turn.role, name=shorten_name(turn.name),
        said_at=turn.said_at, call_id=shorten_name(turn.call_id),
    )  # fmt: skip
    of_cursor = count(f',"next_cursor":"{len(turn.content)}"')
    room = token_budget - heading.cost(count) - of_cursor
    if room < 1:
        raise BudgetTooSmall(token_budget, heading.floor(of_cursor + 1, count))
    stop = _page_end(turn.content, start, room, count)
    heading = replace(heading, next_cursor=str(stop) if stop < len(turn.content) else None)
    return with_header(heading, turn.content[start:stop], count)


def _page_end(content: str, start: int, room: int, count: Count) -> int:
    """The furthest character so that content[start:end] takes at most `room` tokens; at a line end if one is near."""
    low, high = start, min(len(content), start + room * CHARS_PER_TOKEN_MAX)
    if count(content[start:high]) <= room:
        low = high
    while high - low > 1:
        middle = (low + high) // 2
        if count(content[start:middle]) <= room:
            low = middle
        else:
            high = middle
    if low < len(content):
        line_end = content.rfind("\n", start + int((low - start) * LINE_END_SEARCHED), low)
        if line_end >= 0 and count(content[start : line_end + 1]) <= room:
            low = line_end + 1
    return max(low, min(start + 1, len(content)))


# ---------------------------------------------------------------- many turns


async def _turns_page(
    branch: BranchReader, named: Node | Span, token_budget: int, cursor: str | None, count: Count
) -> View:
    """Turns in full, in order, as many as fit; one that alone is too long is begun, and its id opens the rest."""
    first = _number(cursor) if cursor else named.first
    if not named.first <= first <= named.last:
        raise InvalidArgument("cursor", f"is {cursor!r}, outside this node", "Take next_cursor from the page before.")
    total = await _tokens_of(branch, named)
    heading = await _heading(branch, named.last - named.first + 1, total, token_budget, node_id=_name_of(named))
    top = PREFACE + "\n"
    if isinstance(named, Node):
        summary = (await branch.summaries([named])).get(named.digest, EMPTY_SUMMARY)
        top += node_lines(named, Detail.TITLES, "", lambda _: summary)
    above = count(f',"next_cursor":"{named.last}"') + count(top)
    room = token_budget - heading.cost(count) - above
    least = _least((await branch.turns([first]))[first], count)
    if room < least:
        raise BudgetTooSmall(token_budget, heading.floor(above + least, count))
    clock, parts, index = TimestampPrinter(), [top], first
    while index <= named.last and room > 0:
        turns = await branch.turns(range(index, min(named.last, index + TURNS_AT_ONCE - 1) + 1))
        for index in sorted(turns):
            text = _quoted(turns[index], room, len(parts) == 1, clock, count)
            if text is None:
                return _paged(heading, parts, index, count)
            parts.append(text)
            room -= count(text)
        index += 1
    return _paged(heading, parts, index if index <= named.last else None, count)


async def _tokens_of(branch: BranchReader, named: Node | Span) -> int:
    if isinstance(named, Node):
        return named.tokens
    return sum(turn.tokens for turn in await branch.bare(named.first, named.last))


def _name_of(named: Node | Span) -> str:
    return named.id if isinstance(named, Node) else f"t{named.first}-t{named.last}"


def _quoted(turn: Turn, room: int, alone: bool, clock: TimestampPrinter, count: Count) -> str | None:
    """The turn's text if it fits; its beginning if it must; None where it should wait for the next page."""
    text = quote_text(Quote.all_of(turn), clock)
    if count(text) <= room:
        return text
    if not alone:
        return None
    for share in (0.9, 0.6, 0.3, 0.1):
        text = _begun(turn, _page_end(turn.content, 0, max(1, round(room * share)), count), count)
        if count(text) <= room:
            return text
    return _begun(turn, 1, count)


def _begun(turn: Turn, stop: int, count: Count) -> str:
    span = CharSpan(0, stop, count(turn.content[:stop]))
    return quote_text(Quote(turn, (span,), len(turn.content)), TimestampPrinter())


def _least(turn: Turn, count: Count) -> int:
    """The tokens without which a page that begins with this turn would show nothing of it."""
    begun = count(_begun(turn, 1, count))
    return begun if turn.tokens > begun else min(begun, count(quote_text(Quote.all_of(turn), TimestampPrinter())))


def _paged(heading: ViewHeader, parts: list[str], after: int | None, count: Count) -> View:
    return with_header(replace(heading, next_cursor=None if after is None else str(after)), "".join(parts), count)


# ---------------------------------------------------------------- an inner node


async def _node_outline(branch: BranchReader, node: Node, token_budget: int, count: Count) -> View:
    """The node's children with what happened in them, and as many levels below as the budget holds lines."""
    read = await branch.store.nodes(branch.id, list(node.children))
    children = tuple(read[digest] for digest in node.children)
    after = node.last + 1
    snapshot = TreeSnapshot(children, dict(read), {}, after, after)
    heading = await _heading(branch, node.turns, node.tokens, token_budget, node_id=node.id)
    lines = round(token_budget / OUTLINE_LINE_TOKENS)
    snapshot = await with_expanded(branch, snapshot, tile(snapshot, {}), lines)
    summaries = await branch.summaries(outline_nodes(tile(snapshot, {})))
    checks = await checks_of(branch, snapshot)
    material = FitInput(
        snapshot, (), {}, lambda n: summaries.get(n.digest, EMPTY_SUMMARY), count, outline_share=1.0, checks=checks
    )
    fitted = fit(material, token_budget - heading.cost(count))
    if isinstance(fitted, int):
        raise BudgetTooSmall(token_budget, heading.floor(fitted, count))
    return with_header(heading, fitted.text, count)
