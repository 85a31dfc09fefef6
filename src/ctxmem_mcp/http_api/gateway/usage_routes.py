"""GET /v1/usage: tokens sent, answered, cached and saved, per conversation and day, at the prices that were set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from ctxmem_mcp import usage_ledger

if TYPE_CHECKING:
    from starlette.requests import Request

    from ctxmem_mcp.http_api.deps import Deps


async def usage(deps: Deps, request: Request) -> JSONResponse:
    """`?conversation_id=` gives one conversation's. Conversations that are gone stand under null."""
    spent = await asyncio.to_thread(
        usage_ledger.read, deps.folder(request), request.query_params.get("conversation_id")
    )
    return JSONResponse(usage_ledger.usage_report(spent, deps.settings))
