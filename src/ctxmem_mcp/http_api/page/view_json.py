"""A view as the page gets it, and the budget that a request names."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.http_api.request_fields import query_integer

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.results import View

BUDGET, BUDGET_MIN, BUDGET_MAX = 8_000, 200, 200_000


def budget_of(request: Request) -> int:
    """Returns the tokens that a view may have."""
    return query_integer(request, "budget", BUDGET, BUDGET_MIN, BUDGET_MAX)


def view_json(view: View) -> dict[str, Any]:
    """Returns a view's text, its sizes, and why each part is in it."""
    quoted = sum(reason.tokens for reason in view.reasons)
    return {
        "text": view.text, "header": view.header, "shown_tokens": view.shown_tokens, "token_budget": view.token_budget,
        "turns": view.turns, "tokens": view.tokens, "quoted_tokens": quoted,
        "reasons": [asdict(reason) for reason in view.reasons],
    }  # fmt: skip
