"""Which better summaries a view asks its reader for, and what asking may cost. Pure.

Asked is only where it matters: the conversation is several times the view, and a large part of it stands collapsed in
it under the words it was born with. What asking costs is a few tokens of the header, set aside before the view is laid
out; a small view keeps them for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice

from ctxmem_mcp.models import EXTRACTIVE, Node
from ctxmem_mcp.views.header import ViewHeader
from ctxmem_mcp.views.layout import Collapsed, Item
from ctxmem_mcp.views.render import SummaryOf

HEADER_FIELD = "summaries_wanted"
# From this budget on, in a conversation of so many times its tokens.
BUDGET_MIN, TIMES_THE_BUDGET = 8_000, 4
# A section smaller than this is as soon opened as told better.
NODE_TOKENS_MIN = 2_000
NAMED_MAX = 2
# What two names take, or one of a very long conversation.
REQUEST_TOKENS = 32


def summary_request_tokens(header: ViewHeader) -> int:
    """What is set aside for it: nothing where it is not worth it."""
    long = header.tokens >= header.token_budget * TIMES_THE_BUDGET
    return REQUEST_TOKENS if long and header.token_budget >= BUDGET_MIN else 0


def nodes_to_summarize(items: Iterable[Item], summary_of: SummaryOf) -> list[Node]:
    """The collapsed nodes that nobody has told better yet, the largest first."""
    collapsed = [node for item in items if isinstance(item, Collapsed) for node in item.nodes]
    large = sorted((node for node in collapsed if node.tokens >= NODE_TOKENS_MIN), key=lambda node: -node.tokens)
    # One after the other, for few of the summaries were read to the end.
    return list(islice((node for node in large if summary_of(node).author == EXTRACTIVE), NAMED_MAX))


def with_summary_requests(header: ViewHeader, nodes: Iterable[Node], count: Callable[[str], int]) -> ViewHeader:
    """The heading that names as many of these nodes as what was set aside holds."""
    most, fitting, names = header.cost(count) + summary_request_tokens(header), header, list[str]()
    for node in nodes:
        names.append(node.short)
        longer = replace(header, extra={**header.extra, HEADER_FIELD: list(names)})
        if longer.cost(count) > most:
            break
        fitting = longer
    return fitting
