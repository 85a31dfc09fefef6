"""POST /v1/memory: a message list in, one system message with what matters of it out. No model is asked.

The messages themselves say which conversation it is: the longest known prefix is found, the rest is stored, so that
the next call pays for what is new. Where they depart from what is known, they are a branch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp.errors import CtxmemError, InvalidArgument
from ctxmem_mcp.http_api.context_window import compressed
from ctxmem_mcp.http_api.errors import failure, json_object, status_of
from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.transcripts.openai import turns_of_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import NewTurn

PATH = "/v1/memory"
LIMIT_DEFAULT, LIMIT_MIN = 128_000, 10_000
# A tenth of the model's context, between these: what the seed's documentation promises.
SHARE, VIEW_MIN, VIEW_MAX = 10, 8_000, 20_000
EMPTY = "messages must be a non-empty array"


def routes(deps: Deps) -> list[Route]:
    async def compress(request: Request) -> Response:
        try:
            return await _compress(deps, request)
        except CtxmemError as error:
            return failure(PATH, status_of(error), str(error))

    return [Route(PATH, compress, methods=["POST"])]


async def _compress(deps: Deps, request: Request) -> Response:
    body = await json_object(request)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return failure(PATH, 400, EMPTY)
    days = retention(request.headers.get("memory_expiration_days"), body.get("expiration_days"))
    budget = view_budget(body.get("model_context_limit"))
    turns = turns_of_messages(messages)
    if not turns:
        raise InvalidArgument("messages", "say nothing", "Send at least one with content.")
    memory = await deps.memory(request)
    return await _answer(memory, turns, days, budget, deps.settings.encoding)


async def _answer(memory: Memory, turns: Sequence[NewTurn], days: int | None, budget: int, encoding: str) -> Response:
    synced = await memory.sync(turns, retention_days=days)
    conversation, head = synced.conversation_id, synced.head or ""
    content, shown = await compressed(memory, conversation, head, budget, encoding)
    each = [tokenizer.count(turn.content, encoding) for turn in turns]
    given = sum(each)
    usage = {
        "prompt_tokens": given,
        "completion_tokens": shown,
        "total_tokens": given + shown,
        "prompt_tokens_details": {"cached_tokens": sum(each[: synced.known])},
    }
    headers = {"x-ctxmem-conversation": conversation, "x-ctxmem-head": head}
    return JSONResponse({"messages": [{"role": "system", "content": content}], "usage": usage}, headers=headers)


def retention(header: str | None, given: object) -> int | None:
    """Days to keep the conversation: the header's word before the body's, clamped to what there is."""
    of_body = None if given is None else _clamped(given, "expiration_days")
    return of_body if header is None else _clamped(header, "memory_expiration_days")


def view_budget(limit: object) -> int:
    """The tokens of a view for a model whose context holds so many; a number or its digits."""
    held = LIMIT_DEFAULT if limit is None else max(LIMIT_MIN, _number(limit, "model_context_limit"))
    return min(max(held // SHARE, VIEW_MIN), VIEW_MAX)


def _clamped(given: object, name: str) -> int:
    return min(max(_number(given, name), RETENTION_DAYS_MIN), RETENTION_DAYS_MAX)


def _number(given: Any, name: str) -> int:
    try:
        return int(float(given)) if not isinstance(given, bool) and isinstance(given, int | float | str) else int("")
    except (ValueError, OverflowError):
        raise InvalidArgument(name, "takes a number") from None
