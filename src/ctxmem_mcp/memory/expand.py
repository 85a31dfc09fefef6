"""Expands an id: a turn byte for byte, in pages; the turns of a leaf or span, in pages; an inner node's outline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branch_reader import BranchReader, outline_nodes, span_checks, with_expanded
from ctxmem_mcp.memory.id_resolver import Span
from ctxmem_mcp.models import EMPTY_SUMMARY, Node, Turn
from ctxmem_mcp.results import View
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.media import shown_text
from ctxmem_mcp.views.budget import fit
from ctxmem_mcp.views.header import ViewHeader, with_header
from ctxmem_mcp.views.layout import CharSpan, Quote, TreeSnapshot, tile
from ctxmem_mcp.views.page_layout import FitInput
from ctxmem_mcp.views.render import PREFACE, Detail, TimestampPrinter, node_lines, quote_text, shorten_name

# A page of a turn ends at a line end, if there is one in its last third.
LINE_END_SEARCH_FROM = 0.67
# No token has more characters than this.
CHARS_PER_TOKEN_MAX = 12
# Turns are read this many at a time until a page is full.
TURNS_AT_ONCE = 32
# Estimated tokens of a child's line with its summary.
SUMMARY_LINE_TOKENS = 60
CURSOR_DIGITS_MAX = 18

Count = Callable[[str], int]


async def expand(branch: BranchReader, target: Node | Span | int, token_budget: int, cursor: str | None) -> View:
    """Builds the view of what an id names.

    Args:
        branch: A branch that contains it.
        target: A node, a span, or the seq of a turn.
        token_budget: The most that header and text take together.
        cursor: `next_cursor` of the previous page.

    Raises:
        InvalidArgument: The cursor is none of this target.
        BudgetTooSmall: No page fits the budget.
    """
    count = partial(tokenizer.count, encoding=branch.state.encoding)
    if isinstance(target, int):
        (turn,) = await branch.store.turns(branch.id, [target])
        return await _turn_page(branch, turn, token_budget, _parse_cursor(cursor), count)
    if isinstance(target, Node) and target.level and cursor is None and target.tokens > token_budget * 0.8:
        return await _node_outline(branch, target, token_budget, count)
    return await _turns_page(branch, target, token_budget, cursor, count)


def _parse_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not cursor.isdecimal() or len(cursor) > CURSOR_DIGITS_MAX:
        rule = f"is {cursor[:CURSOR_DIGITS_MAX]!r}"
        raise InvalidArgument("cursor", rule, "Take next_cursor from the previous page, or leave it out.")
    return int(cursor)


async def _load_header(
    branch: BranchReader, turns: int, total: int, token_budget: int, **extra: str | int | None
) -> ViewHeader:
    """Reads what the header states. turns, total: the size of what is expanded; the head is the conversation's."""
    (head,) = await branch.metadata_of([branch.state.head])
    return ViewHeader(branch.id, head.id, turns, total, token_budget, branch.state.encoding, None, dict(extra))


# ---------------------------------------------------------------- one turn


async def _turn_page(branch: BranchReader, turn: Turn, token_budget: int, start: int, count: Count) -> View:
    """Returns the content from character `start` on, and nothing else; a line in place of a picture or other data."""
    content = shown_text(turn.content)
    if start > len(content):
        raise InvalidArgument(
            "cursor", f"is '{start}', beyond the end of this turn", "Take next_cursor from the previous page."
        )
    header = await _load_header(
        branch, 1, turn.tokens, token_budget, turn_id=turn.id, role=turn.role, name=shorten_name(turn.name),
        said_at=turn.said_at, call_id=shorten_name(turn.call_id),
    )  # fmt: skip
    cursor_cost = count(f',"next_cursor":"{len(content)}"')
    room = token_budget - header.cost(count) - cursor_cost
    if room < 1:
        raise BudgetTooSmall(token_budget, header.floor(cursor_cost + 1, count))
    stop = _page_end(content, start, room, count)
    header = replace(header, next_cursor=str(stop) if stop < len(content) else None)
    return with_header(header, content[start:stop], count)


def _page_end(content: str, start: int, room: int, count: Count) -> int:
    """Returns the largest end for which content[start:end] takes at most `room` tokens, or a line end close to it."""
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
        line_end = content.rfind("\n", start + int((low - start) * LINE_END_SEARCH_FROM), low)
        if line_end >= 0 and count(content[start : line_end + 1]) <= room:
            low = line_end + 1
    return max(low, min(start + 1, len(content)))


# ---------------------------------------------------------------- many turns


async def _turns_page(
    branch: BranchReader, target: Node | Span, token_budget: int, cursor: str | None, count: Count
) -> View:
    """Returns as many turns in full as fit, in order; of a first one that is too long, the beginning."""
    first = _parse_cursor(cursor) if cursor else target.first
    if not target.first <= first <= target.last:
        raise InvalidArgument("cursor", f"is {cursor!r}, outside this node", "Take next_cursor from the previous page.")
    total = await _tokens_of(branch, target)
    header = await _load_header(branch, target.last - target.first + 1, total, token_budget, node_id=_id_of(target))
    top = PREFACE + "\n"
    if isinstance(target, Node):
        summary = (await branch.summaries([target])).get(target.digest, EMPTY_SUMMARY)
        top += node_lines(target, Detail.TITLES, "", lambda _: summary)
    frame_cost = count(f',"next_cursor":"{target.last}"') + count(top)
    room = token_budget - header.cost(count) - frame_cost
    minimum = _minimum((await branch.turns([first]))[first], count)
    if room < minimum:
        raise BudgetTooSmall(token_budget, header.floor(frame_cost + minimum, count))
    timestamps, parts, index = TimestampPrinter(), [top], first
    while index <= target.last and room > 0:
        turns = await branch.turns(range(index, min(target.last, index + TURNS_AT_ONCE - 1) + 1))
        for index in sorted(turns):
            text = _quoted(turns[index], room, len(parts) == 1, timestamps, count)
            if text is None:
                return _page(header, parts, index, count)
            parts.append(text)
            room -= count(text)
        index += 1
    return _page(header, parts, index if index <= target.last else None, count)


async def _tokens_of(branch: BranchReader, target: Node | Span) -> int:
    if isinstance(target, Node):
        return target.tokens
    return sum(turn.tokens for turn in await branch.metadata(target.first, target.last))


def _id_of(target: Node | Span) -> str:
    return target.id if isinstance(target, Node) else f"t{target.first}-t{target.last}"


def _quoted(turn: Turn, room: int, is_first: bool, timestamps: TimestampPrinter, count: Count) -> str | None:
    """Returns the turn's text if it fits, else its beginning if it is the first on the page, else None."""
    # A turn that exceeds the page by far is not counted once more.
    if turn.tokens <= 2 * room and count(text := quote_text(Quote.all_of(turn), timestamps)) <= room:
        return text
    if not is_first:
        return None
    for share in (0.9, 0.6, 0.3, 0.1):
        text = _beginning(turn, _page_end(turn.content, 0, max(1, round(room * share)), count), count)
        if count(text) <= room:
            return text
    return _beginning(turn, 1, count)


def _beginning(turn: Turn, stop: int, count: Count) -> str:
    span = CharSpan(0, stop, count(shown_text(turn.content, 0, stop)))
    return quote_text(Quote(turn, (span,), len(turn.content)), TimestampPrinter())


def _minimum(turn: Turn, count: Count) -> int:
    """Returns the fewest tokens with which a page can show any of this turn."""
    beginning = count(_beginning(turn, 1, count))
    return (
        beginning
        if turn.tokens > beginning
        else min(beginning, count(quote_text(Quote.all_of(turn), TimestampPrinter())))
    )


def _page(header: ViewHeader, parts: list[str], after: int | None, count: Count) -> View:
    return with_header(replace(header, next_cursor=None if after is None else str(after)), "".join(parts), count)


# ---------------------------------------------------------------- an inner node


async def _node_outline(branch: BranchReader, node: Node, token_budget: int, count: Count) -> View:
    """Returns the node's children with their summaries, and as many levels below them as the budget has lines for."""
    read = await branch.store.nodes(branch.id, list(node.children))
    children = tuple(read[digest] for digest in node.children)
    after = node.last + 1
    snapshot = TreeSnapshot(children, dict(read), {}, after, after)
    header = await _load_header(branch, node.turns, node.tokens, token_budget, node_id=node.id)
    lines = round(token_budget / SUMMARY_LINE_TOKENS)
    snapshot = await with_expanded(branch, snapshot, tile(snapshot, {}), lines)
    summaries = await branch.summaries(outline_nodes(tile(snapshot, {})))
    checks = await span_checks(branch, snapshot)
    fit_input = FitInput(
        snapshot, (), {}, lambda n: summaries.get(n.digest, EMPTY_SUMMARY), count, outline_share=1.0, checks=checks
    )
    result = fit(fit_input, token_budget - header.cost(count))
    if isinstance(result, int):
        raise BudgetTooSmall(token_budget, header.floor(result, count))
    return with_header(header, result.text, count)
