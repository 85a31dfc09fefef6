"""OpenAI's chat completions: parsing requests and responses, compacting a request. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
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
from ctxmem_mcp.http_api.gateway.provider import (
    AnswerAssembler,
    RepeatsConversation,
    Usage,
    count_or_none,
    messages_of,
    openai_error,
)
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import compact_json
from ctxmem_mcp.transcripts.openai import THOUGHT_FIELDS, turns_from_message

_SYSTEM_ROLES = ("system", "developer")
_RESULT_ROLES = ("tool", "function")
# Copilot CLI writes it before a prompt; its transcript has it beside the prompt.
_CURRENT_TIME = lazy_regex(r"\A<current_datetime>[^<]*</current_datetime>\n\n")


class OpenAI(RepeatsConversation):
    """The chat completions API. See `Provider` for the methods."""

    def parse_request(self, body: Mapping[str, Any], tokens: TokenCounter) -> ParsedRequest:
        messages = messages_of(body)
        split = _system_length(messages)
        system = [_message(messages[i], i, tokens) for i in range(split)]
        # Recognised without the system prompt, in which agents put the time.
        others = messages[split:]
        parsed = tokens.messages.map(others, lambda i: _message(others[i], split + i, tokens))
        turns = tuple(turn for message in system for turn in message.turns)
        return ParsedRequest(turns, sum(message.facts.tokens for message in system), tuple(parsed))

    def compact_request(self, body: Mapping[str, Any], cut: Cut, head: Head) -> dict[str, Any]:
        messages = messages_of(body)
        split = _system_length(messages)
        parts = head.parts()
        texts = [part for part in parts if isinstance(part, str)]
        content: Any = "\n\n".join(texts)
        if len(texts) < len(parts):
            content = head.blocks(lambda text: {"type": "text", "text": text})
        sent = self._with_joined_users(
            messages[split:], [{"role": "user", "content": content}, *messages[split + cut.start :]]
        )
        return {**body, "messages": [*messages[:split], *sent]}

    def parse_response(self, response: Any) -> list[NewTurn]:
        try:
            message = response["choices"][0]["message"]
            answer = {"role": "assistant", **message, "content": message.get("content")}
            return list(sanitise(turns_from_message(answer, "answer")))
        except (LookupError, TypeError, AttributeError, InvalidArgument):
            return []

    def parse_usage(self, response: Any) -> Usage:
        usage = response.get("usage") if isinstance(response, dict) else None
        if not isinstance(usage, dict):
            return Usage()
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        return Usage(
            count_or_none(usage.get("prompt_tokens")),
            count_or_none(usage.get("completion_tokens")),
            count_or_none(cached),
        )

    def annotate_usage(self, response: Any, saved: int) -> bool:
        usage = response.get("usage") if isinstance(response, dict) else None
        if not isinstance(usage, dict) or count_or_none(usage.get("prompt_tokens")) is None:
            return False
        usage["raw_prompt_tokens"] = usage["prompt_tokens"] + saved
        return True

    def assembler(self) -> AnswerAssembler:
        return _Assembler()

    def as_in_transcript(self, turn: NewTurn) -> NewTurn:
        if turn.role == "user":
            return replace(turn, content=_CURRENT_TIME.sub("", turn.content))
        if turn.role != "assistant" or turn.call_id is None:
            return turn
        try:
            return replace(turn, content=compact_json(json.loads(turn.content)))
        except (ValueError, RecursionError):
            return turn

    def max_output_tokens(self, body: Mapping[str, Any]) -> int | None:
        return count_or_none(body.get("max_completion_tokens", body.get("max_tokens")))

    def error_body(self, status: int, message: str) -> dict[str, Any]:
        return openai_error(status, message)


def _system_length(messages: Sequence[Any]) -> int:
    """Returns the number of messages that form the system prompt."""
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _SYSTEM_ROLES:
            return i
    return len(messages)


def _message(message: Any, i: int, tokens: TokenCounter) -> Message:
    plain = {**message, "content": without_cache_marks(message["content"])} if _has_parts(message) else message
    turns = sanitise(turns_from_message(plain, f"messages[{i}]"))
    role = message["role"]
    result = message.get("tool_call_id")
    content = plain.get("content")
    facts = MessageFacts(
        tokens.count_message(turns, content),
        frozenset(turn.call_id for turn in turns if turn.role == "assistant" and turn.call_id),
        frozenset((result,) if isinstance(result, str) and role in _RESULT_ROLES else ()),
        is_result=role in _RESULT_ROLES,
    )
    return parse_message(role, turns, content, facts, tokens)


def _has_parts(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), list)


@dataclass(slots=True)
class _Assembler:
    """Assembles an answer from chunks. Only the first choice is stored: the next request will contain that one."""

    content: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    thoughts: dict[str, list[str]] = field(default_factory=dict)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: bool = False
    reported: Usage = field(default_factory=Usage)

    def add(self, event: Any) -> None:
        if not isinstance(event, dict):
            return
        if isinstance(event.get("usage"), dict):
            self.reported = OpenAI().parse_usage(event)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._add_delta(choice.get("delta"))
                self.finished = self.finished or bool(choice.get("finish_reason"))

    def _add_delta(self, delta: Any) -> None:
        if not isinstance(delta, dict):
            return
        for name, parts in (("content", self.content), ("refusal", self.refusal)):
            if isinstance(delta.get(name), str):
                parts.append(delta[name])
        for name in THOUGHT_FIELDS:
            if isinstance(delta.get(name), str):
                self.thoughts.setdefault(name, []).append(delta[name])
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._add_call(call)

    def _add_call(self, call: dict[str, Any]) -> None:
        index = call.get("index")
        if index is None:  # some upstreams do not number their calls: an id starts a new one
            index = len(self.calls) if call.get("id") or not self.calls else len(self.calls) - 1
        known = self.calls.setdefault(index, {"id": None, "function": {"name": "", "arguments": ""}})
        known["id"] = known["id"] or call.get("id")
        function = call.get("function")
        for name in ("name", "arguments"):
            if isinstance(function, dict) and isinstance(function.get(name), str):
                known["function"][name] += function[name]

    def turns(self) -> list[NewTurn]:
        if not self.finished:
            return []
        content = "".join(self.content)
        message: dict[str, Any] = {"content": content or None, "tool_calls": [*self.calls.values()]}
        message |= {name: "".join(parts) for name, parts in self.thoughts.items()}
        if not content and self.refusal:
            message["refusal"] = "".join(self.refusal)
        elif not content and not self.calls:
            message["content"] = ""
        return OpenAI().parse_response({"choices": [{"message": message}]})

    def usage(self) -> Usage:
        return self.reported

    def complete(self) -> None:
        return None
