"""Anthropic's messages: a request, the folded request, and the answer, whole or in events. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.gateway.conversation import Message, Said, Sizes, mended, quoted, unmarked
from ctxmem_mcp.http_api.gateway.cut_point import Block, Cut
from ctxmem_mcp.http_api.gateway.provider import Heard, Usage, whole
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.content_blocks import turns_from_blocks

PATH = "/v1/messages"
# The API takes no more than this many marks in a request.
MARKS_MAX = 4
_REMINDER = "<system-reminder>"


class Anthropic:
    """How the gateway speaks messages."""

    path = PATH

    def said(self, body: Mapping[str, Any], sizes: Sizes) -> Said:
        """Raises InvalidArgument where the messages are none."""
        system = unmarked(body.get("system"))
        lead = mended(turn for turn in turns_from_blocks("system", system) if turn.content)
        messages = [_message(message, i, sizes) for i, message in enumerate(_messages(body))]
        return Said(lead, sizes.of(lead, system), tuple(messages))

    def folded(self, body: Mapping[str, Any], cut: Cut, view: str) -> dict[str, Any]:
        """The request with what was said before the cut as a view, which ends with a mark for the upstream's cache."""
        messages = _messages(body)
        kept = [*(messages[i] for i in cut.kept), *messages[cut.start :]]
        block: dict[str, Any] = {"type": "text", "text": quoted(view)}
        # A mark on the request itself stands for one on its last message.
        inner = [*_marks(kept), *_marks({"cache_control": body.get("cache_control")})]
        marks = [*_marks([body.get("tools"), body.get("system")]), *inner]
        if len(marks) < MARKS_MAX:
            block["cache_control"] = _mark_before(inner)
        return {**body, "messages": [{"role": "user", "content": [block]}, *kept]}

    def answer(self, found: Any) -> list[NewTurn]:
        """The turns of an answer that came whole; none where it is no answer."""
        if not isinstance(found, dict) or found.get("role") != "assistant":
            return []
        turns = turns_from_blocks("assistant", unmarked(found.get("content")))
        return list(mended(turn for turn in turns if turn.content or turn.call_id))

    def usage(self, found: Any) -> Usage:
        told = found.get("usage") if isinstance(found, dict) else None
        if not isinstance(told, dict):
            return Usage()
        cached = whole(told.get("cache_read_input_tokens"))
        parts = [whole(told.get("input_tokens")), cached, whole(told.get("cache_creation_input_tokens"))]
        tokens_in = None if parts[0] is None else sum(part or 0 for part in parts)
        return Usage(tokens_in, whole(told.get("output_tokens")), cached)

    def with_raw(self, found: Any, saved: int) -> bool:
        """Says in an answer's usage what the history would have cost as it came; False where it tells no usage."""
        tokens_in = self.usage(found).tokens_in
        if tokens_in is None:
            return False
        found["usage"]["raw_input_tokens"] = tokens_in + saved
        return True

    def heard(self) -> Heard:
        return _Heard()

    def asks_for(self, body: Mapping[str, Any]) -> int | None:
        """How many tokens the answer may have."""
        return whole(body.get("max_tokens"))

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind = "invalid_request_error" if status < 500 else "api_error"
        return {"type": "error", "error": {"type": kind, "message": message}}


def _messages(body: Mapping[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidArgument("messages", "takes a list of at least one message")
    return messages


def _message(message: Any, i: int, sizes: Sizes) -> Message:
    role = message.get("role") if isinstance(message, dict) else None
    if role not in ("user", "assistant", "system"):
        raise InvalidArgument(f"messages[{i}].role", f"is {role!r}; takes user or assistant")
    content = unmarked(message.get("content"))
    turns = mended(turn for turn in turns_from_blocks(role, content) if turn.content or turn.call_id)
    results = frozenset(turn.call_id for turn in turns if turn.role == "tool" and turn.call_id)
    return Message(
        turns,
        Block(
            sizes.of(turns, content),
            frozenset(turn.call_id for turn in turns if turn.role == "assistant" and turn.call_id),
            results if role == "user" else frozenset(),
            asks=role == "user" and any(turn.role == "user" and not _is_reminder(turn) for turn in turns),
            is_result=role == "user" and any(turn.role == "tool" for turn in turns),
        ),
    )


def _is_reminder(turn: NewTurn) -> bool:
    return turn.content.lstrip().startswith(_REMINDER)


def _marks(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for part in value:
            yield from _marks(part)
    elif isinstance(value, dict):
        if value.get("cache_control"):
            yield value["cache_control"]
        yield from _marks(value.get("content"))


def _mark_before(following: list[Any]) -> dict[str, Any]:
    """A mark that may stand before these: one for an hour must not follow a shorter one."""
    longest = any(isinstance(mark, dict) and mark.get("ttl") == "1h" for mark in following)
    return {"type": "ephemeral", "ttl": "1h"} if longest else {"type": "ephemeral"}


@dataclass(slots=True)
class _Heard:
    """An answer that comes in events."""

    blocks: dict[Any, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[Any, str] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    finished: bool = False

    def take(self, event: Any) -> None:
        if not isinstance(event, dict):
            return
        kind, index = event.get("type"), event.get("index")
        if kind == "message_start":
            self._counted(event.get("message"))
        elif kind == "content_block_start" and isinstance(event.get("content_block"), dict):
            self.blocks[index] = dict(event["content_block"])
        elif kind == "content_block_delta" and isinstance(event.get("delta"), dict) and index in self.blocks:
            self._delta(index, event["delta"])
        elif kind == "message_delta":
            self._counted(event)
        elif kind == "message_stop":
            self.finished = True

    def _counted(self, told: Any) -> None:
        usage = told.get("usage") if isinstance(told, dict) else None
        if isinstance(usage, dict):
            self.counts |= {name: value for name, value in usage.items() if value is not None}

    def _delta(self, index: Any, delta: dict[str, Any]) -> None:
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
        return Anthropic().answer({"role": "assistant", "content": [*self.blocks.values()]})

    def usage(self) -> Usage:
        return Anthropic().usage({"usage": self.counts})
