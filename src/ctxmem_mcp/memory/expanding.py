"""Opens one id: a turn byte for byte in pages, the turns of a leaf or span in pages, an inner node's outline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ctxmem_mcp import tokens
from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.grounding import Branch, outline_nodes, unfolded
from ctxmem_mcp.memory.naming import Span
from ctxmem_mcp.model import Node, Summary, Turn, View
from ctxmem_mcp.recall.fitting import Material, fit
from ctxmem_mcp.recall.heading import Heading, headed
from ctxmem_mcp.recall.layout import Ground, Quoted, Stretch, tile
from ctxmem_mcp.recall.rendering import PREFACE, Clock, Detail, node_lines, quoted_text
from ctxmem_mcp.stores.contract import State, Store

# A page of a turn is cut at a line end if there is one in its last third.
LINE_END_SEARCHED = 0.67
# More characters than any page can need, per token.
CHARS_PER_TOKEN_MAX = 12
# Turns are read this many at a time while a page fills.
TURNS_AT_ONCE = 32
OUTLINE_LINE_TOKENS = 60

Count = Callable[[str], int]


async def expansion(
    store: Store,
    state: State,
    lineage: Lineage,
    named: Node | Span | int,
    token_budget: int,
    cursor: str | None,
) -> View:
    """What stands behind an id. `cursor` is the `next_cursor` of the page before."""
    branch = Branch(store, state, lineage)
    count = partial(tokens.count, encoding=state.encoding)
    if isinstance(named, int):
        (turn,) = await store.turns(state.conversation_id, [named])
        return _turn_page(branch, turn, token_budget, _number(cursor), count)
    if isinstance(named, Node) and named.level and cursor is None and named.tokens > token_budget * 0.8:
        return await _node_outline(branch, named, token_budget, count)
    return await _turns_page(branch, named, token_budget, cursor, count)


def _number(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal():
        raise InvalidArgument("cursor", f"is {cursor!r}", "Take next_cursor from the page before, or leave it out.")
    return int(cursor)


def _heading(branch: Branch, turns: int, total: int, token_budget: int, **extra: str | int | None) -> Heading:
    return Heading(branch.id, None, turns, total, token_budget, branch.state.encoding, None, dict(extra))


# ---------------------------------------------------------------- one turn


def _turn_page(branch: Branch, turn: Turn, token_budget: int, start: int, count: Count) -> View:
    """The header line, then the content from character `start` on, and nothing else."""
    heading = _heading(
        branch, 1, turn.tokens, token_budget, turn_id=turn.id, role=turn.role, name=turn.name,
        said_at=turn.said_at, call_id=turn.call_id,
    )  # fmt: skip
    room = token_budget - heading.cost(count) - count(f',"next_cursor":"{len(turn.content)}"')
    if room < 1:
        raise BudgetTooSmall(token_budget, token_budget - room + 1)
    stop = _page_end(turn.content, start, room, count)
    heading = replace(heading, head=None, next_cursor=str(stop) if stop < len(turn.content) else None)
    return headed(heading, turn.content[start:stop], count)


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


async def _turns_page(branch: Branch, named: Node | Span, token_budget: int, cursor: str | None, count: Count) -> View:
    """Turns in full, in order, as many as fit; one that alone is too long is begun, and its id opens the rest."""
    first = _number(cursor) if cursor else named.first
    if not named.first <= first <= named.last:
        raise InvalidArgument("cursor", f"is {cursor!r}, outside this node", "Take next_cursor from the page before.")
    total = named.tokens if isinstance(named, Node) else await branch.tokens(named.first, named.last)
    heading = _heading(branch, named.last - named.first + 1, total, token_budget, node_id=_name_of(named))
    top = PREFACE + "\n"
    if isinstance(named, Node):
        summary = (await branch.summaries([named])).get(named.digest, Summary("", ""))
        top += node_lines(named, Detail.TITLES, "", lambda _: summary)
    room = token_budget - heading.cost(count) - count(f',"next_cursor":"{named.last}"') - count(top)
    clock, parts, index = Clock(), [top], first
    while index <= named.last and room > 0:
        turns = await branch.turns(range(index, min(named.last, index + TURNS_AT_ONCE - 1) + 1))
        for index in sorted(turns):
            text = _quoted(turns[index], room, len(parts) == 1, clock, count)
            if text is None:
                return _paged(heading, parts, index, token_budget, count)
            parts.append(text)
            room -= count(text)
        index += 1
    return _paged(heading, parts, index if index <= named.last else None, token_budget, count)


def _name_of(named: Node | Span) -> str:
    return named.id if isinstance(named, Node) else f"t{named.first}-t{named.last}"


def _quoted(turn: Turn, room: int, alone: bool, clock: Clock, count: Count) -> str | None:
    """The turn's text if it fits; its beginning if it must; None where it should wait for the next page."""
    length = len(turn.content)
    text = quoted_text(Quoted.all_of(turn), clock)
    if count(text) <= room:
        return text
    if not alone:
        return None
    clock = Clock()
    for share in (0.9, 0.6, 0.3, 0.1):
        stop = _page_end(turn.content, 0, max(1, round(room * share)), count)
        stretch = Stretch(0, stop, count(turn.content[:stop]))
        text = quoted_text(Quoted(turn, (stretch,), length), clock)
        if count(text) <= room:
            return text
    return None


def _paged(heading: Heading, parts: list[str], after: int | None, token_budget: int, count: Count) -> View:
    if len(parts) == 1 and after is not None:
        raise BudgetTooSmall(token_budget, token_budget + 100)
    return headed(replace(heading, next_cursor=None if after is None else str(after)), "".join(parts), count)


# ---------------------------------------------------------------- an inner node


async def _node_outline(branch: Branch, node: Node, token_budget: int, count: Count) -> View:
    """The node's children with what happened in them, and as many levels below as the budget holds lines."""
    read = await branch.store.nodes(branch.id, list(node.children))
    children = tuple(read[digest] for digest in node.children)
    after = node.last + 1
    ground = Ground(children, dict(read), {}, after, after)
    heading = _heading(branch, node.turns, node.tokens, token_budget, node_id=node.id)
    lines = round(token_budget / OUTLINE_LINE_TOKENS)
    ground = await unfolded(branch, ground, tile(ground, {}), lines)
    summaries = await branch.summaries(outline_nodes(tile(ground, {})))
    material = Material(ground, (), {}, lambda n: summaries.get(n.digest, Summary("", "")), count, outline_share=1.0)
    fitted = fit(material, token_budget - heading.cost(count))
    if isinstance(fitted, int):
        raise BudgetTooSmall(token_budget, fitted + heading.cost(count))
    return headed(heading, fitted.text, count)
