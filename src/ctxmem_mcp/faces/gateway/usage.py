"""GET /v1/usage: tokens sent, answered, cached and saved, per conversation and day, at the prices that were set."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from ctxmem_mcp import spending

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.faces.http.deps import Deps
    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.spending import Spent

_COUNTS = ("requests", "tokens_in", "tokens_out", "tokens_cached", "tokens_saved")


async def usage(deps: Deps, request: Request) -> JSONResponse:
    """`?conversation_id=` gives one conversation's. Conversations that are gone stand under null."""
    spent = await asyncio.to_thread(spending.read, deps.folder(request), request.query_params.get("conversation_id"))
    return JSONResponse(told(spent, deps.settings))


def told(spent: list[Spent], settings: Settings) -> dict[str, Any]:
    rows = [
        {
            "date": datetime.fromtimestamp(s.day * 86_400, UTC).date().isoformat(),
            "conversation_id": s.conversation_id or None,
            **{name: getattr(s, name) for name in _COUNTS},
            "cost": cost(s, settings),
        }
        for s in spent
    ]
    total = {name: sum(getattr(s, name) for s in spent) for name in _COUNTS}
    prices = {"input": settings.price_in, "cached": settings.price_cached, "output": settings.price_out}
    return {
        "currency": "USD",
        "prices_per_million_tokens": prices,
        "total": {**total, "cost": round(sum(cost(s, settings) for s in spent), 6)},
        "data": rows,
    }


def cost(spent: Spent, settings: Settings) -> float:
    """Dollars: what was cached at its own price, the rest of what was sent, and what was answered."""
    cached = min(spent.tokens_cached, spent.tokens_in)
    fresh = spent.tokens_in - cached
    dollars = fresh * settings.price_in + cached * settings.price_cached + spent.tokens_out * settings.price_out
    return round(dollars / 1_000_000, 6)
