"""OpenAI's chat completions: a request's messages, the folded request, and the answer, whole or in events. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.http_api.gateway.conversation import Message, Said, Sizes, mended, quoted, unmarked
from ctxmem_mcp.http_api.gateway.cut_point import Block, Cut
from ctxmem_mcp.http_api.gateway.provider import Heard, Usage, whole
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.openai import turns_from_message

PATH = "/chat/completions"
_LEADING = ("system", "developer")
_RESULTS = ("tool", "function")


class OpenAI:
    """How the gateway speaks chat completions."""

    path = PATH

    def said(self, body: Mapping[str, Any], sizes: Sizes) -> Said:
        """Raises InvalidArgument where the messages are none."""
        messages = _messages(body)
        lead = _leading(messages)
        told = [_message(message, i, sizes) for i, message in enumerate(messages)]
        turns = tuple(turn for message in told[:lead] for turn in message.turns)
        return Said(turns, sum(message.block.tokens for message in told[:lead]), tuple(told[lead:]))

    def folded(self, body: Mapping[str, Any], cut: Cut, view: str) -> dict[str, Any]:
        """The request with what was said before the cut as a view. What follows is as it came."""
        messages = _messages(body)
        lead = _leading(messages)
        rest = messages[lead:]
        sent = [*messages[:lead], {"role": "user", "content": quoted(view)}, *(rest[i] for i in cut.kept)]
        return {**body, "messages": [*sent, *rest[cut.start :]]}

    def answer(self, found: Any) -> list[NewTurn]:
        """The turns of an answer that came whole; none where it is no answer."""
        try:
            message = found["choices"][0]["message"]
            told = {"role": "assistant", **message, "content": message.get("content")}
            return list(mended(turns_from_message(told, "answer")))
        except (LookupError, TypeError, AttributeError, InvalidArgument):
            return []

    def usage(self, found: Any) -> Usage:
        told = found.get("usage") if isinstance(found, dict) else None
        details = told.get("prompt_tokens_details") if isinstance(told, dict) else None
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        if not isinstance(told, dict):
            return Usage()
        return Usage(whole(told.get("prompt_tokens")), whole(told.get("completion_tokens")), whole(cached))

    def with_raw(self, found: Any, saved: int) -> bool:
        """Says in an answer's usage what the history would have cost as it came; False where it tells no usage."""
        told = found.get("usage") if isinstance(found, dict) else None
        if not isinstance(told, dict) or whole(told.get("prompt_tokens")) is None:
            return False
        told["raw_prompt_tokens"] = told["prompt_tokens"] + saved
        return True

    def heard(self) -> Heard:
        return _Heard()

    def asks_for(self, body: Mapping[str, Any]) -> int | None:
        """How many tokens the answer may have."""
        return whole(body.get("max_completion_tokens", body.get("max_tokens")))

    def error(self, status: int, message: str) -> dict[str, Any]:
        kind = "invalid_request_error" if status < 500 else "api_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _messages(body: Mapping[str, Any]) -> list[Any]:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidArgument("messages", "takes a list of at least one message")
    return messages


def _leading(messages: Sequence[Any]) -> int:
    """How many messages the system prompt has."""
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in _LEADING:
            return i
    return len(messages)


def _message(message: Any, i: int, sizes: Sizes) -> Message:
    plain = {**message, "content": unmarked(message["content"])} if _has_parts(message) else message
    turns = mended(turns_from_message(plain, f"messages[{i}]"))
    role = message["role"]
    result = message.get("tool_call_id")
    return Message(
        turns,
        Block(
            sizes.of(turns, plain.get("content")),
            frozenset(turn.call_id for turn in turns if turn.role == "assistant" and turn.call_id),
            frozenset((result,) if isinstance(result, str) and role in _RESULTS else ()),
            asks=role == "user",
            is_result=role in _RESULTS,
        ),
    )


def _has_parts(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content"), list)


@dataclass(slots=True)
class _Heard:
    """An answer that comes in chunks. Only the first choice is kept: it is what the next request will hold."""

    content: list[str] = field(default_factory=list)
    refusal: list[str] = field(default_factory=list)
    calls: dict[int, dict[str, Any]] = field(default_factory=dict)
    finished: bool = False
    told: Usage = field(default_factory=Usage)

    def take(self, event: Any) -> None:
        if not isinstance(event, dict):
            return
        if isinstance(event.get("usage"), dict):
            self.told = OpenAI().usage(event)
        choices = event.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._delta(choice.get("delta"))
                self.finished = self.finished or bool(choice.get("finish_reason"))

    def _delta(self, delta: Any) -> None:
        if not isinstance(delta, dict):
            return
        for name, parts in (("content", self.content), ("refusal", self.refusal)):
            if isinstance(delta.get(name), str):
                parts.append(delta[name])
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else ():
            if isinstance(call, dict):
                self._call(call)

    def _call(self, call: dict[str, Any]) -> None:
        index = call.get("index")
        if index is None:  # some upstreams don't number their calls: one with an id begins another
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
        if not content and self.refusal:
            message["refusal"] = "".join(self.refusal)
        elif not content and not self.calls:
            message["content"] = ""
        return OpenAI().answer({"choices": [{"message": message}]})

    def usage(self) -> Usage:
        return self.told
