"""Gemini's API: parsing requests and responses, compacting a request. Pure.

Neighbouring contents of the model are one message here, and their neighbouring texts one turn: clients keep a streamed
answer in the pieces in which it arrived, or joined. A call need not have an id; its result is in the content after it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from operator import and_
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
from ctxmem_mcp.http_api.gateway.provider import AnswerAssembler, RepeatsConversation, Usage, count_or_none
from ctxmem_mcp.models import THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.json_lines import text_or_none

Content = dict[str, Any]
_STATUSES = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED"}
# The fields of a result that is only a text.
_TEXT_RESULTS = ({"output"}, {"error"}, {"result"}, {"content"})


class Gemini(RepeatsConversation):
    """The API of generateContent and streamGenerateContent. See `Provider` for the methods."""

    def __init__(self) -> None:
        super().__init__()
        self._groups: GroupCache[Message] = GroupCache()

    def parse_request(self, body: Mapping[str, Any], tokens: TokenCounter) -> ParsedRequest:
        system = sanitise(_turns("system", _parts(_instruction(body))))
        groups = tokens.groups.split(self.messages(body), _joins)
        messages = tokens.groups.map(groups, lambda group: _message(group, tokens))
        return ParsedRequest(system, tokens.count_message(system), tuple(messages))

    def compact_request(self, body: Mapping[str, Any], cut: Cut, head: Head) -> dict[str, Any]:
        contents = self.messages(body)
        groups = self._groups.split(contents, _joins)
        after = [content for group in groups[cut.start :] for content in group]
        parts = head.blocks(lambda text: {"text": text})
        # Like the client's own list, this one has no two contents of the user in a row if that has none.
        users = self._users.map(contents, lambda i: _is_user(contents[i]))
        if after and _is_user(after[0]) and not any(map(and_, users, users[1:])):
            parts += _parts(after.pop(0))
        return {**body, "contents": [{"role": "user", "parts": parts}, *after]}

    def messages(self, body: Mapping[str, Any]) -> list[Any]:
        found = body.get("contents")
        if isinstance(found, str):
            return [{"role": "user", "parts": [{"text": found}]}]
        if isinstance(found, dict):
            found = [found]
        if not isinstance(found, list) or not found:
            raise InvalidArgument("contents", "must be a non-empty array")
        for i, content in enumerate(found):
            if not isinstance(content, dict):
                raise InvalidArgument(f"contents[{i}]", f"must be an object; got {type(content).__name__}")
        return found

    def with_messages(self, body: Mapping[str, Any], messages: Sequence[Any]) -> dict[str, Any]:
        return {**body, "contents": list(messages)}

    def parse_response(self, response: Any) -> list[NewTurn]:
        return _answer([response])

    def parse_usage(self, response: Any) -> Usage:
        usage = response.get("usageMetadata") if isinstance(response, dict) else None
        if not isinstance(usage, dict):
            return Usage()
        out = [count_or_none(usage.get(name)) for name in ("candidatesTokenCount", "thoughtsTokenCount")]
        return Usage(
            count_or_none(usage.get("promptTokenCount")),
            None if out == [None, None] else sum(count or 0 for count in out),
            count_or_none(usage.get("cachedContentTokenCount")),
        )

    def annotate_usage(self, response: Any, saved: int) -> bool:
        tokens_in = self.parse_usage(response).tokens_in
        if tokens_in is None:
            return False
        response["usageMetadata"]["rawPromptTokenCount"] = tokens_in + saved
        return True

    def assembler(self) -> AnswerAssembler:
        return _Assembler()

    def as_in_transcript(self, turn: NewTurn) -> NewTurn:
        """Gemini CLI puts the tool's name before a call's id in its transcript."""
        prefix = f"{turn.name}__"
        if not turn.call_id or not turn.name or turn.call_id.startswith(prefix):
            return turn
        return replace(turn, call_id=prefix + turn.call_id)

    def max_output_tokens(self, body: Mapping[str, Any]) -> int | None:
        config = body.get("generationConfig")
        return count_or_none(config.get("maxOutputTokens")) if isinstance(config, dict) else None

    def error_body(self, status: int, message: str) -> dict[str, Any]:
        return {"error": {"code": status, "message": message, "status": _STATUSES.get(status, "INTERNAL")}}


def _instruction(body: Mapping[str, Any]) -> object:
    return body.get("systemInstruction", body.get("system_instruction"))


def _parts(content: object) -> list[Any]:
    """Returns the parts of a content; a text is a part too."""
    if isinstance(content, str):
        return [{"text": content}] if content else []
    found = content.get("parts") if isinstance(content, dict) else None
    if isinstance(found, dict | str):
        found = [found]
    return [{"text": part} if isinstance(part, str) else part for part in found] if isinstance(found, list) else []


def _is_user(content: Content) -> bool:
    return content.get("role") != "model"


def _joins(before: Content, content: Content) -> bool:
    """Returns whether two neighbouring contents are one message: both are the model's."""
    return not _is_user(before) and not _is_user(content)


def _message(group: Sequence[Content], tokens: TokenCounter) -> Message:
    role: Role = "user" if _is_user(group[0]) else "assistant"
    parts = [part for content in group for part in _parts(content)]
    turns = sanitise(_turns(role, parts))
    results = frozenset(turn.call_id for turn in turns if turn.role == "tool" and turn.call_id)
    facts = MessageFacts(
        tokens.count_message(turns, parts),
        frozenset(turn.call_id for turn in turns if turn.role == "assistant" and turn.call_id),
        results,
        is_result=any(turn.role == "tool" for turn in turns),
    )
    return parse_message(role, turns, parts, facts, tokens)


def _turns(role: Role, parts: Iterable[Any]) -> Iterator[NewTurn]:
    """Yields the turns of parts; neighbouring texts of the model are one turn, and so are its thoughts."""
    pending: NewTurn | None = None
    for turn in (turn for part in parts for turn in _part_turns(role, part)):
        is_text = role == "assistant" and turn.role == role and turn.name in (None, THINKING) and not turn.call_id
        if pending is not None and is_text and pending.name == turn.name:
            pending = replace(pending, content=pending.content + turn.content)
            continue
        if pending is not None:
            yield pending
        pending = turn if is_text else None
        if not is_text:
            yield turn
    if pending is not None:
        yield pending


def _part_turns(role: Role, part: Any) -> Iterator[NewTurn]:
    if not isinstance(part, dict):
        return
    call = part.get("functionCall", part.get("function_call"))
    result = part.get("functionResponse", part.get("function_response"))
    if isinstance(call, dict):
        arguments = text_or_json(call.get("args") or {})
        yield NewTurn("assistant", arguments, text_or_none(call.get("name")), call_id=text_or_none(call.get("id")))
    elif isinstance(result, dict):
        text = _result_text(result)
        yield NewTurn("tool", text, text_or_none(result.get("name")), call_id=text_or_none(result.get("id")))
    elif isinstance(part.get("text"), str):
        if part["text"]:  # a part may have nothing but a thought's signature
            yield NewTurn(role, part["text"], THINKING if part.get("thought") and role == "assistant" else None)
    elif set(part) - {"thoughtSignature", "thought_signature", "thought"}:
        yield NewTurn(role, compact_json(part))


def _result_text(result: Content) -> str:
    """Returns a result as a text: the only text in it, or all of it as JSON. Its pictures follow it."""
    response, pictures = result.get("response"), result.get("parts")
    if isinstance(response, dict) and set(response) in _TEXT_RESULTS and not pictures:
        return text_or_json(next(iter(response.values())))
    return text_or_json({"response": response, "parts": pictures} if pictures else response)


def _answer(responses: Iterable[Any]) -> list[NewTurn]:
    """Returns the answer in the parts of a response; only the first candidate: the next request will contain that."""
    parts: list[Any] = []
    for response in responses:
        candidate = _candidate(response)
        parts += _parts(candidate.get("content") if candidate else None)
    return list(sanitise(_turns("assistant", parts)))


def _candidate(response: Any) -> dict[str, Any] | None:
    candidates = response.get("candidates") if isinstance(response, dict) else None
    for candidate in candidates if isinstance(candidates, list) else ():
        if isinstance(candidate, dict) and candidate.get("index", 0) == 0:
            return candidate
    return None


@dataclass(slots=True)
class _Assembler:
    """Assembles an answer from the responses of a stream."""

    responses: list[Any] = field(default_factory=list)
    finished: bool = False
    reported: Usage = field(default_factory=Usage)

    def add(self, event: Any) -> None:
        if not isinstance(event, dict):
            return
        self.responses.append(event)
        if isinstance(event.get("usageMetadata"), dict):
            self.reported = Gemini().parse_usage(event)
        candidate = _candidate(event)
        self.finished = self.finished or bool(candidate and candidate.get("finishReason"))

    def turns(self) -> list[NewTurn]:
        return _answer(self.responses) if self.finished else []

    def usage(self) -> Usage:
        return self.reported

    def complete(self) -> None:
        return None


class CodeAssist(Gemini):
    """The API of Gemini CLI's Google login: Gemini's requests and responses inside objects of its own."""

    def parse_request(self, body: Mapping[str, Any], tokens: TokenCounter) -> ParsedRequest:
        return super().parse_request(_inside(body, "request"), tokens)

    def compact_request(self, body: Mapping[str, Any], cut: Cut, head: Head) -> dict[str, Any]:
        return {**body, "request": super().compact_request(_inside(body, "request"), cut, head)}

    def messages(self, body: Mapping[str, Any]) -> list[Any]:
        return super().messages(body if "contents" in body else _inside(body, "request"))

    def parse_response(self, response: Any) -> list[NewTurn]:
        return super().parse_response(_inside(response, "response"))

    def parse_usage(self, response: Any) -> Usage:
        return super().parse_usage(response if _has_usage(response) else _inside(response, "response"))

    def annotate_usage(self, response: Any, saved: int) -> bool:
        return super().annotate_usage(_inside(response, "response"), saved)

    def assembler(self) -> AnswerAssembler:
        return _CodeAssistAssembler()

    def max_output_tokens(self, body: Mapping[str, Any]) -> int | None:
        return super().max_output_tokens(_inside(body, "request"))

    def has_tools(self, body: Mapping[str, Any]) -> bool:
        return super().has_tools(_inside(body, "request"))


def _inside(value: Any, name: str) -> dict[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, dict) else {}


def _has_usage(response: Any) -> bool:
    return isinstance(response, dict) and "usageMetadata" in response


@dataclass(slots=True)
class _CodeAssistAssembler(_Assembler):
    def add(self, event: Any) -> None:
        _Assembler.add(self, _inside(event, "response"))
