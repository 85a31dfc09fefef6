"""POST /v1/memory: compresses a message list into one system message, without a model.

The messages identify the conversation: the longest known prefix is looked up and the rest is stored, so that each call
only processes new messages. Messages that diverge from the stored ones become a branch. Messages of a forgotten
conversation are compressed without being stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse
from starlette.routing import Route

from ctxmem_mcp.composition import open_transient
from ctxmem_mcp.errors import CtxmemError, Forgotten, InvalidArgument
from ctxmem_mcp.http_api.context_window import compress
from ctxmem_mcp.http_api.errors import error_response, status_of
from ctxmem_mcp.http_api.request_fields import json_object
from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN
from ctxmem_mcp.transcripts.openai import turns_from_messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.models import NewTurn

PATH = "/v1/memory"
LIMIT_DEFAULT, LIMIT_MIN = 128_000, 10_000
# The view takes a tenth of the model's context window within these bounds, as NanoGPT's documentation promises.
WINDOW_SHARE, VIEW_MIN, VIEW_MAX = 10, 8_000, 20_000
# The error message that NanoGPT's documentation promises.
NO_MESSAGES = "messages must be a non-empty array"
CONVERSATION_HEADER, HEAD_HEADER, MEMORY_HEADER = "x-ctxmem-conversation", "x-ctxmem-head", "x-ctxmem-memory"


def routes(deps: Deps) -> list[Route]:
    async def handler(request: Request) -> Response:
        try:
            return await _handle(deps, request)
        except CtxmemError as error:
            return error_response(PATH, status_of(error), str(error))

    return [Route(PATH, handler, methods=["POST"])]


async def _handle(deps: Deps, request: Request) -> Response:
    body = await json_object(request)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return error_response(PATH, 400, NO_MESSAGES)
    days = retention(request.headers.get("memory_expiration_days"), body.get("expiration_days"))
    budget = view_budget(body.get("model_context_limit"))
    turns = turns_from_messages(messages)
    if not turns:
        raise InvalidArgument("messages", "have no content", "Send at least one message with content.")
    memory, encoding = await deps.memory(request), deps.settings.encoding
    try:
        return await _store_and_compress(memory, turns, days, budget, encoding)
    except Forgotten:  # compressed all the same, but not stored
        async with open_transient(encoding) as transient:
            response = await _store_and_compress(transient, turns, None, budget, encoding)
    for name in (CONVERSATION_HEADER, HEAD_HEADER):
        del response.headers[name]
    response.headers[MEMORY_HEADER] = "forgotten"
    return response


async def _store_and_compress(
    memory: Memory, turns: Sequence[NewTurn], days: int | None, budget: int, encoding: str
) -> Response:
    synced = await memory.sync(turns, retention_days=days)
    conversation, head = synced.conversation_id, synced.head or ""
    content, shown = await compress(memory, conversation, head, budget, encoding)
    sizes = await memory.turn_sizes(conversation, turn_id=head)  # the branch is these messages
    prompt_tokens = sum(sizes)
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": shown,
        "total_tokens": prompt_tokens + shown,
        "prompt_tokens_details": {"cached_tokens": sum(sizes[: synced.known])},
    }
    headers = {CONVERSATION_HEADER: conversation, HEAD_HEADER: head}
    return JSONResponse({"messages": [{"role": "system", "content": content}], "usage": usage}, headers=headers)


def retention(header: str | None, field: object) -> int | None:
    """Returns the requested retention in days, clamped to the valid range, or None.

    Args:
        header: the header `memory_expiration_days`, which takes precedence.
        field: the body's `expiration_days`.

    Raises:
        InvalidArgument: either is not a number.
    """
    field_days = None if field is None else _clamped(field, "expiration_days")
    return field_days if header is None else _clamped(header, "memory_expiration_days")


def view_budget(limit: object) -> int:
    """Returns the token budget of a view for a model with this context window.

    Args:
        limit: tokens, as a number or its digits; None for the default.

    Raises:
        InvalidArgument: `limit` is not a number.
    """
    window = LIMIT_DEFAULT if limit is None else max(LIMIT_MIN, _number(limit, "model_context_limit"))
    return min(max(window // WINDOW_SHARE, VIEW_MIN), VIEW_MAX)


def _clamped(value: object, name: str) -> int:
    return min(max(_number(value, name), RETENTION_DAYS_MIN), RETENTION_DAYS_MAX)


def _number(value: Any, name: str) -> int:
    try:
        return int(float(value)) if not isinstance(value, bool) and isinstance(value, int | float | str) else int("")
    except (ValueError, OverflowError):
        raise InvalidArgument(name, "must be a number") from None
