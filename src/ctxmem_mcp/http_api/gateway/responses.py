"""OpenAI's Responses API: parsing requests and responses, compacting a request. Pure.

A request's input is a text or items. Neighbouring items of the model (its reasoning, texts and calls) are one message
here, because the API rejects a call without the reasoning that led to it.

A request with a `previous_response_id` has only the new items; the API has the others. It is stored, after what is
known of that response, and forwarded unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
)
from ctxmem_mcp.http_api.gateway.cut_point import Cut, MessageFacts
from ctxmem_mcp.http_api.gateway.prefix import GroupCache
from ctxmem_mcp.http_api.gateway.provider import AnswerAssembler, TopLevelTools, Usage, count_or_none, openai_error
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.json_lines import text_or_none
from ctxmem_mcp.transcripts.responses import item_turns

_SYSTEM_ROLES = ("system", "developer")
_OUTPUT_SUFFIX = "_output"
Item = dict[str, Any]


class Responses(TopLevelTools):
    """The Responses API. See `Provider` for the methods."""

    def __init__(self) -> None:
        self._groups: GroupCache[Message] = GroupCache()

    def parse_request(self, body: Mapping[str, Any], tokens: TokenCounter) -> ParsedRequest:
        items = _input_items(body)
        split = _system_length(items)
        instructions = body.get("instructions")
        system = [NewTurn("system", instructions)] if isinstance(instructions, str) and instructions else []
        system += [turn for item in items[:split] for turn in item_turns(item, None)]
        turns = sanitise(system)
        groups = tokens.groups.split(items[split:], _joins)
        messages = tokens.groups.map(groups, lambda group: _message(group, tokens))
        return ParsedRequest(turns, tokens.count_message(turns), tuple(messages))

    def compact_request(self, body: Mapping[str, Any], cut: Cut, head: Head) -> dict[str, Any]:
        items = _input_items(body)
        split = _system_length(items)
        groups = self._groups.split(items[split:], _joins)
        after = [item for group in groups[cut.start :] for item in group]
        content = head.blocks(lambda text: {"type": "input_text", "text": text})
        first = {"type": "message", "role": "user", "content": content}
        return {**body, "input": [*items[:split], first, *after]}

    def previous_response(self, body: Mapping[str, Any]) -> str | None:
        return text_or_none(body.get("previous_response_id"))

    def with_messages_before(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        return {**body, "input": [*messages, *_input_items(body)]}

    def messages(self, body: Mapping[str, Any]) -> list[Any]:
        return _input_items(body)

    def with_messages(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        return {**body, "input": list(messages)}

    def parse_response(self, response: Any) -> list[NewTurn]:
        output = response.get("output") if isinstance(response, dict) else None
        if not isinstance(output, list) or response.get("status") in ("failed", "cancelled", "in_progress", "queued"):
            return []
        return list(sanitise(turn for item in output for turn in item_turns(item, None)))

    def messages_after(self, body: Mapping[str, Any], response: Any) -> tuple[str, tuple[Any, ...]] | None:
        output = response.get("output") if isinstance(response, dict) else None
        if not isinstance(output, list) or not isinstance(response.get("id"), str):
            return None
        return response["id"], (*_input_items(body), *(item for item in output if isinstance(item, dict)))

    def parse_usage(self, response: Any) -> Usage:
        usage = response.get("usage") if isinstance(response, dict) else None
        if not isinstance(usage, dict):
            return Usage()
        details = usage.get("input_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        tokens_in, tokens_out = count_or_none(usage.get("input_tokens")), count_or_none(usage.get("output_tokens"))
        return Usage(tokens_in, tokens_out, count_or_none(cached))

    def annotate_usage(self, response: Any, saved: int) -> bool:
        tokens_in = self.parse_usage(response).tokens_in
        if tokens_in is None:
            return False
        response["usage"]["raw_input_tokens"] = tokens_in + saved
        return True

    def assembler(self) -> AnswerAssembler:
        return _Assembler()

    def max_output_tokens(self, body: Mapping[str, Any]) -> int | None:
        return count_or_none(body.get("max_output_tokens"))

    def error_body(self, status: int, message: str) -> dict[str, Any]:
        return openai_error(status, message)


def _input_items(body: Mapping[str, Any]) -> list[Item]:
    """Returns the input of a request as items. Raises InvalidArgument if it is no text and no list of objects."""
    found = body.get("input")
    if isinstance(found, str):
        return [{"type": "message", "role": "user", "content": found}]
    if not isinstance(found, list) or not found:
        raise InvalidArgument("input", "must be a text or a non-empty array of items")
    for i, item in enumerate(found):
        if not isinstance(item, dict):
            raise InvalidArgument(f"input[{i}]", f"must be an object; got {type(item).__name__}")
    return found


def _system_length(items: Sequence[Item]) -> int:
    """Returns the number of items that form the system prompt, beside the instructions."""
    return next((i for i, item in enumerate(items) if item.get("role") not in _SYSTEM_ROLES), len(items))


def _joins(before: Item, item: Item) -> bool:
    """Returns whether two neighbouring items are of one message: both are the model's."""
    return _is_models(before) and _is_models(item)


def _is_models(item: Item) -> bool:
    if "role" in item:
        return str(item["role"]) == "assistant"
    return not str(item.get("type")).endswith(_OUTPUT_SUFFIX)


def _message(group: Sequence[Item], tokens: TokenCounter) -> Message:
    turns = sanitise(turn for item in group for turn in item_turns(item, None))
    content = group[0].get("content")
    results = frozenset(turn.call_id for turn in turns if turn.role == "tool" and turn.call_id)
    facts = MessageFacts(
        tokens.count_message(turns, content),
        frozenset(turn.call_id for turn in turns if turn.role == "assistant" and turn.call_id),
        results,
        is_result=bool(results),
    )
    return parse_message(str(group[0].get("role")), turns, content, facts, tokens)


@dataclass(slots=True)
class _Assembler:
    """Assembles an answer from events: from the completed response, or from its items if that lists none."""

    items: list[Item] = field(default_factory=list)
    response: Item | None = None

    def add(self, event: Any) -> None:
        kind = event.get("type") if isinstance(event, dict) else None
        if kind == "response.output_item.done" and isinstance(event.get("item"), dict):
            self.items.append(event["item"])
        elif kind in ("response.completed", "response.incomplete") and isinstance(event.get("response"), dict):
            self.response = event["response"]

    def turns(self) -> list[NewTurn]:
        return Responses().parse_response(self.complete())

    def usage(self) -> Usage:
        return Responses().parse_usage(self.response)

    def complete(self) -> Item | None:
        """Returns the response with its items; None until it is complete."""
        if self.response is None:
            return None
        return {**self.response, "output": self.response.get("output") or self.items}
