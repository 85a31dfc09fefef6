"""Anthropic's messages: parsing requests and responses, compacting a request. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.gateway.conversation import (
    Head,
    Message,
    ParsedRequest,
    TokenCounter,
    parse_message,
    sanitise,
    without_cache_marks,
)
from ctxmem_mcp.http_api.gateway.cut_point import Cut, MessageFacts
from ctxmem_mcp.http_api.gateway.found_tools import FoundTools
from ctxmem_mcp.http_api.gateway.provider import AnswerAssembler, RepeatsConversation, Usage, count_or_none, messages_of
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.content_blocks import turns_from_blocks

# The API accepts at most this many cache marks per request.
CACHE_MARKS_MAX = 4


class Anthropic(RepeatsConversation):
    """The messages API. See `Provider` for the methods."""

    def __init__(self) -> None:
        super().__init__()
        self._found_tools = FoundTools()

    def parse_request(self, body: Mapping[str, Any], tokens: TokenCounter) -> ParsedRequest:
        content = without_cache_marks(body.get("system"))
        system = sanitise(turn for turn in turns_from_blocks("system", content) if turn.content)
        found = messages_of(body)
        messages = tokens.messages.map(found, lambda i: _message(found[i], i, tokens))
        return ParsedRequest(system, tokens.count_message(system, content), tuple(messages))

    def compact_request(self, body: Mapping[str, Any], cut: Cut, head: Head) -> dict[str, Any]:
        """The head ends with a cache mark if the request has fewer than the API accepts."""
        messages = messages_of(body)
        verbatim = [*self._found_tools.in_messages(messages[: cut.start]), *messages[cut.start :]]
        blocks = head.blocks(lambda text: {"type": "text", "text": text})
        # A mark on the request itself counts as one on its last message.
        following = [*_cache_marks(verbatim), *_cache_marks({"cache_control": body.get("cache_control")})]
        marks = [*_cache_marks([body.get("tools"), body.get("system")]), *following]
        if len(marks) < CACHE_MARKS_MAX:
            blocks[-1] = {**blocks[-1], "cache_control": _cache_mark_before(following)}
        sent = self._with_joined_users(messages, [{"role": "user", "content": blocks}, *verbatim])
        return {**body, "messages": sent}

    def parse_response(self, response: Any) -> list[NewTurn]:
        if not isinstance(response, dict) or response.get("role") != "assistant":
            return []
        turns = turns_from_blocks("assistant", without_cache_marks(response.get("content")))
        return list(sanitise(turn for turn in turns if turn.content or turn.call_id))

    def parse_usage(self, response: Any) -> Usage:
        usage = response.get("usage") if isinstance(response, dict) else None
        if not isinstance(usage, dict):
            return Usage()
        uncached, cached = count_or_none(usage.get("input_tokens")), count_or_none(usage.get("cache_read_input_tokens"))
        written = count_or_none(usage.get("cache_creation_input_tokens"))
        tokens_in = None if uncached is None else uncached + (cached or 0) + (written or 0)
        return Usage(tokens_in, count_or_none(usage.get("output_tokens")), cached)

    def annotate_usage(self, response: Any, saved: int) -> bool:
        tokens_in = self.parse_usage(response).tokens_in
        if tokens_in is None:
            return False
        response["usage"]["raw_input_tokens"] = tokens_in + saved
        return True

    def assembler(self) -> AnswerAssembler:
        return _Assembler()

    def max_output_tokens(self, body: Mapping[str, Any]) -> int | None:
        return count_or_none(body.get("max_tokens"))

    def error_body(self, status: int, message: str) -> dict[str, Any]:
        kind = "invalid_request_error" if status < 500 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": message}}


def _message(message: Any, i: int, tokens: TokenCounter) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant", "system"):
        raise InvalidArgument(f"messages[{i}].role", f"must be one of user, assistant; got {role!r}")
    content = without_cache_marks(message.get("content"))
    turns = sanitise(turn for turn in turns_from_blocks(role, content) if turn.content or turn.call_id)
    results = frozenset(turn.call_id for turn in turns if turn.role == "tool" and turn.call_id)
    facts = MessageFacts(
        tokens.count_message(turns, content),
        frozenset(turn.call_id for turn in turns if turn.role == "assistant" and turn.call_id),
        results if role == "user" else frozenset(),
        is_result=role == "user" and any(turn.role == "tool" for turn in turns),
    )
    return parse_message(role, turns, content, facts, tokens)


def _cache_marks(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _cache_marks(part)
    elif isinstance(value, dict):
        if value.get("cache_control"):
            yield value["cache_control"]
        yield from _cache_marks(value.get("content"))


def _cache_mark_before(following: list[Any]) -> dict[str, Any]:
    """Returns a mark that may precede these: the API rejects one for an hour after a shorter one."""
    longest = any(isinstance(mark, dict) and mark.get("ttl") == "1h" for mark in following)
    return {"type": "ephemeral", "ttl": "1h"} if longest else {"type": "ephemeral"}


@dataclass(slots=True)
class _Assembler:
    """Assembles an answer from events."""

    blocks: dict[Any, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[Any, str] = field(default_factory=dict)
    reported: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    def add(self, event: Any) -> None:
        if not isinstance(event, dict):
            return
        kind, index = event.get("type"), event.get("index")
        if kind == "message_start":
            self._add_usage(event.get("message"))
        elif kind == "content_block_start" and isinstance(event.get("content_block"), dict):
            self.blocks[index] = dict(event["content_block"])
        elif kind == "content_block_delta" and isinstance(event.get("delta"), dict) and index in self.blocks:
            self._add_delta(index, event["delta"])
        elif kind == "message_delta":
            self._add_usage(event)
        elif kind == "message_stop":
            self.finished = True

    def _add_usage(self, message: Any) -> None:
        usage = message.get("usage") if isinstance(message, dict) else None
        if isinstance(usage, dict):
            self.reported |= {name: value for name, value in usage.items() if value is not None}

    def _add_delta(self, index: Any, delta: dict[str, Any]) -> None:
        for name in ("text", "thinking", "signature"):
            if isinstance(delta.get(name), str):
                self.blocks[index][name] = str(self.blocks[index].get(name) or "") + delta[name]
        if isinstance(delta.get("partial_json"), str):
            self.inputs[index] = self.inputs.get(index, "") + delta["partial_json"]

    def turns(self) -> list[NewTurn]:
        if not self.finished:
            return []
        for index, text in self.inputs.items():
            if text:
                try:
                    self.blocks[index]["input"] = json.loads(text)
                except ValueError:
                    self.blocks[index]["input"] = text
        return Anthropic().parse_response({"role": "assistant", "content": [*self.blocks.values()]})

    def usage(self) -> Usage:
        return Anthropic().parse_usage({"usage": self.reported})

    def complete(self) -> None:
        return None
