"""Requests for better summaries in a view's header. Pure.

A view requests summaries only if they matter: the conversation is several times larger than the view, and a large part
of it is collapsed with no more than its first, extractive summary. The request takes a few tokens of the header, which
are set aside before the view is laid out; a small view requests nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ctxmem_mcp.models import Node
from ctxmem_mcp.views.header import ViewHeader
from ctxmem_mcp.views.layout import Collapsed, Item, Omitted

HEADER_FIELD = "summaries_wanted"
# The minimum budget, and the minimum size of the conversation in multiples of it.
BUDGET_MIN, TIMES_THE_BUDGET = 8_000, 4
# Expanding a smaller node costs no more than summarising it better.
NODE_TOKENS_MIN = 2_000
REQUESTS_MAX = 2
# The tokens of two node ids, or of one in a very long conversation.
REQUEST_TOKENS = 32


def summary_request_tokens(header: ViewHeader) -> int:
    """Returns the tokens to set aside for requests: 0 if the view makes none."""
    long = header.tokens >= header.token_budget * TIMES_THE_BUDGET
    return REQUEST_TOKENS if long and header.token_budget >= BUDGET_MIN else 0


def large_collapsed(items: Iterable[Item]) -> list[Node]:
    """Returns the collapsed nodes that are large enough for a better summary, largest first."""
    collapsed = [node for item in items if isinstance(item, (Collapsed, Omitted)) for node in item.nodes]
    return sorted((node for node in collapsed if node.tokens >= NODE_TOKENS_MIN), key=lambda node: -node.tokens)


def with_summary_requests(header: ViewHeader, nodes: Iterable[Node], count: Callable[[str], int]) -> ViewHeader:
    """Returns the header with the ids of as many of these nodes as fit into the tokens set aside."""
    limit, fitting, ids = header.cost(count) + summary_request_tokens(header), header, list[str]()
    for node in nodes:
        ids.append(node.short)
        longer = replace(header, extra={**header.extra, HEADER_FIELD: list(ids)})
        if longer.cost(count) > limit:
            break
        fitting = longer
    return fitting
