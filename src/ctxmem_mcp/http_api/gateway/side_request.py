"""Recognises requests from which no conversation continues: probes, titles, classifications. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import InvalidArgument

if TYPE_CHECKING:
    from ctxmem_mcp.http_api.gateway.provider import Provider

# A request with a single message and at most this many output tokens is a probe or asks for a title.
SIDE_REQUEST_TOKENS_MAX = 128
# The beginning of the system prompt with which opencode asks for a session's title.
_TITLE = "You are a title generator."
# Where the APIs state the format of the answer.
_FORMATS = (("response_format",), ("text", "format"), ("output_format",), ("output_config", "format"))
_MIME_TYPES = (("generationConfig", "responseMimeType"), ("request", "generationConfig", "responseMimeType"))


def is_side_request(body: Mapping[str, Any], provider: Provider, *, requested: bool) -> bool:
    """Returns whether no conversation continues from this request.

    Args:
        body: the request.
        provider: its API.
        requested: the request itself asks for memory. One that does not, has no tools and demands JSON, or a title in
            opencode's words, is an agent's own, beside the conversation: a title, a choice of the model, who speaks
            next.
    """
    if provider.has_tools(body):
        return False
    if not requested and _demands_json(body):
        return True
    try:
        messages = provider.messages(body)
    except InvalidArgument:
        messages = []
    if not requested and _TITLE in str(
        [body.get("system"), body.get("instructions"), body.get("systemInstruction"), *messages[:1]]
    ):
        return True
    limit = provider.max_output_tokens(body)
    if limit is None or limit > SIDE_REQUEST_TOKENS_MAX:
        return False
    return sum(_role(message) not in ("system", "developer") for message in messages) <= 1


def _demands_json(body: Mapping[str, Any]) -> bool:
    formats = (_value(body, path) for path in _FORMATS)
    if any(isinstance(found, dict) and str(found.get("type")).startswith("json") for found in formats):
        return True
    return any(_value(body, path) == "application/json" for path in _MIME_TYPES)


def _value(body: object, path: tuple[str, ...]) -> object:
    for name in path:
        body = body.get(name) if isinstance(body, Mapping) else None
    return body


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None
