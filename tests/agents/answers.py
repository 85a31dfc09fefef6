"""What the scripted model sends in each API: Anthropic's messages, OpenAI's Responses and chat completions, Gemini's
contents."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

Json = dict[str, Any]


class Script(Protocol):
    """Where the answers come from: `Model`."""

    def answer(self, request: Any, last_text: str, tools: Sequence[str]) -> list[Json]: ...

    def pause(self) -> None: ...


def _id(prefix: str) -> str:
    return f"{prefix}_{uuid.uuid4().hex[:24]}"


def _pieces(text: str) -> Iterator[str]:
    """The text in a few parts, as a stream delivers it."""
    size = max(1, len(text) // 4)
    return (text[at : at + size] for at in range(0, len(text), size))


class Answer:
    """An answer in one of the APIs."""

    def __init__(self, model: Script, request: Any) -> None:
        self.model, self.body = model, request.body
        self.tokens = len(json.dumps(request.body)) // 4
        self.tools = self.read_tools()
        self.blocks = model.answer(request, self.last_text(), list(self.tools))

    def read_tools(self) -> dict[str, Json]:
        raise NotImplementedError

    def last_text(self) -> str:
        raise NotImplementedError

    def whole(self) -> Json:
        raise NotImplementedError

    def events(self) -> Iterator[bytes]:
        raise NotImplementedError

    def arguments(self, block: Json) -> Json:
        """A call's arguments as the tool's schema has them."""
        given, fields = dict(block["arguments"]), self.tools.get(block["call"], {}).get("properties", {})
        if "command" not in given or "command" in fields:
            if isinstance(fields.get("command"), dict) and fields["command"].get("type") == "array":
                given["command"] = ["bash", "-lc", given["command"]]
            if "description" in fields and "command" in given:
                given["description"] = "Run a command"
            return given
        command = given.pop("command")
        return given | ({"commands": [command]} if "commands" in fields else {"cmd": command})


def text_of(content: Any) -> str:
    """The text in a message's content."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or () if isinstance(part, dict))


class Anthropic(Answer):
    def read_tools(self) -> dict[str, Json]:
        return {tool["name"]: tool.get("input_schema") or {} for tool in self.body.get("tools") or ()}

    def last_text(self) -> str:
        return text_of(self.body["messages"][-1]["content"])

    def whole(self) -> Json:
        return {**self._message(), "content": list(self._content()), "stop_reason": self._stop()}

    def _message(self) -> Json:
        usage = {"input_tokens": self.tokens, "output_tokens": 50}
        usage |= {"cache_creation_input_tokens": 0, "cache_read_input_tokens": 0}
        return {
            "id": _id("msg"), "type": "message", "role": "assistant", "model": self.body.get("model"), "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": usage,
        }  # fmt: skip

    def _stop(self) -> str:
        return "tool_use" if any("call" in block for block in self.blocks) else "end_turn"

    def _content(self) -> Iterator[Json]:
        thinking = self.body.get("thinking")
        if isinstance(thinking, dict) and thinking.get("type") != "disabled" and self.tools:
            yield {"type": "thinking", "thinking": f"A thought, {uuid.uuid4().hex}.", "signature": _id("signature")}
        for block in self.blocks:
            if "say" in block:
                yield {"type": "text", "text": block["say"]}
            elif "call" in block:
                yield {"type": "tool_use", "id": _id("toolu"), "name": block["call"], "input": self.arguments(block)}

    def events(self) -> Iterator[bytes]:
        yield _sse("message_start", {"message": self._message()})
        index = 0
        for index, block in enumerate(self._content()):
            yield from self._block(index, block)
        if any("hold" in block for block in self.blocks):
            self.model.pause()
        yield _sse("message_delta", {"delta": {"stop_reason": self._stop(), "stop_sequence": None},
                                     "usage": {"output_tokens": 50}})  # fmt: skip
        yield _sse("message_stop", {})

    def _block(self, index: int, block: Json) -> Iterator[bytes]:
        kind = block["type"]
        blanks: dict[str, Json] = {"thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
        empty = blanks.get(kind, {"text": ""})
        yield _sse("content_block_start", {"index": index, "content_block": {**block, **empty}})
        name = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}[kind]
        text = json.dumps(block["input"], ensure_ascii=False) if kind == "tool_use" else block[kind]
        delta = {"text": "text_delta", "thinking": "thinking_delta", "tool_use": "input_json_delta"}[kind]
        for piece in _pieces(text):
            yield _sse("content_block_delta", {"index": index, "delta": {"type": delta, name: piece}})
        if kind == "thinking":
            signed = {"type": "signature_delta", "signature": block["signature"]}
            yield _sse("content_block_delta", {"index": index, "delta": signed})
        yield _sse("content_block_stop", {"index": index})


def _sse(event: str, data: Json) -> bytes:
    return f"event: {event}\ndata: {json.dumps({'type': event, **data}, ensure_ascii=False)}\n\n".encode()


class Responses(Answer):
    def read_tools(self) -> dict[str, Json]:
        tools: dict[str, Json] = {}
        for tool in self.body.get("tools") or ():
            if tool.get("type") == "namespace":
                inner = tool.get("tools") or ()
                tools |= {f"{tool['name']}\0{one['name']}": one.get("parameters") or {} for one in inner}
            elif tool.get("name"):
                tools[tool["name"]] = tool.get("parameters") or {}
        return tools

    def last_text(self) -> str:
        given = self.body.get("input")
        return given if isinstance(given, str) else text_of(given[-1].get("content")) if given else ""

    def _items(self) -> Iterator[Json]:
        for block in self.blocks:
            if "say" in block:
                content = [{"type": "output_text", "text": block["say"], "annotations": []}]
                yield {"id": _id("msg"), "type": "message", "role": "assistant", "status": "completed",
                       "content": content}  # fmt: skip
            elif "call" in block:
                space, _, name = block["call"].rpartition("\0")
                item = {"id": _id("fc"), "type": "function_call", "status": "completed", "call_id": _id("call"),
                        "name": name, "arguments": json.dumps(self.arguments(block))}  # fmt: skip
                yield {**item, "namespace": space} if space else item

    def _response(self, status: str, output: list[Json]) -> Json:
        usage = {"input_tokens": self.tokens, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50,
                 "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": self.tokens + 50}  # fmt: skip
        return {"id": _id("resp"), "object": "response", "created_at": int(time.time()), "status": status,
                "model": self.body.get("model"), "output": output, "usage": usage}  # fmt: skip

    def whole(self) -> Json:
        return self._response("completed", list(self._items()))

    def events(self) -> Iterator[bytes]:
        yield _sse("response.created", {"response": self._response("in_progress", [])})
        output = list(self._items())
        for index, item in enumerate(output):
            yield _sse("response.output_item.added", {"output_index": index, "item": {**item, "status": "in_progress"}})
            if item["type"] == "message":
                for piece in _pieces(item["content"][0]["text"]):
                    delta = {"item_id": item["id"], "output_index": index, "content_index": 0, "delta": piece}
                    yield _sse("response.output_text.delta", delta)
            yield _sse("response.output_item.done", {"output_index": index, "item": item})
        if any("hold" in block for block in self.blocks):
            self.model.pause()
        yield _sse("response.completed", {"response": self._response("completed", output)})


class Chat(Answer):
    def read_tools(self) -> dict[str, Json]:
        functions = [tool.get("function") or tool for tool in self.body.get("tools") or ()]
        return {one["name"]: one.get("parameters") or {} for one in functions if one.get("name")}

    def last_text(self) -> str:
        return text_of(self.body["messages"][-1].get("content"))

    def _calls(self) -> list[Json]:
        return [
            {"id": _id("call"), "type": "function",
             "function": {"name": block["call"], "arguments": json.dumps(self.arguments(block))}}
            for block in self.blocks if "call" in block
        ]  # fmt: skip

    def _text(self) -> str:
        return "\n".join(block["say"] for block in self.blocks if "say" in block)

    def _base(self, kind: str) -> Json:
        usage = {"prompt_tokens": self.tokens, "completion_tokens": 50, "total_tokens": self.tokens + 50}
        return {"id": _id("chatcmpl"), "object": kind, "created": int(time.time()), "model": self.body.get("model"),
                "usage": usage}  # fmt: skip

    def whole(self) -> Json:
        message: Json = {"role": "assistant", "content": self._text() or None}
        calls = self._calls()
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if calls else "stop"}
        return self._base("chat.completion") | {"choices": [choice]}

    def events(self) -> Iterator[bytes]:
        base = self._base("chat.completion.chunk")
        usage, calls = base.pop("usage"), self._calls()
        deltas: list[Json] = [
            {"role": "assistant", "content": ""},
            *({"content": one} for one in _pieces(self._text())),
        ]
        deltas += [{"tool_calls": [{"index": index, **one}]} for index, one in enumerate(calls)]
        for delta in deltas:
            yield self._chunk(base, [{"index": 0, "delta": delta, "finish_reason": None}])
        if any("hold" in block for block in self.blocks):
            self.model.pause()
        yield self._chunk(base, [{"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}])
        yield self._chunk(base | {"usage": usage}, [])
        yield b"data: [DONE]\n\n"

    def _chunk(self, base: Json, choices: list[Json]) -> bytes:
        return f"data: {json.dumps(base | {'choices': choices}, ensure_ascii=False)}\n\n".encode()


class Gemini(Answer):
    def read_tools(self) -> dict[str, Json]:
        declared = [one for tool in self.body.get("tools") or () for one in tool.get("functionDeclarations") or ()]
        return {one["name"]: one.get("parametersJsonSchema") or one.get("parameters") or {} for one in declared}

    def last_text(self) -> str:
        return text_of(self.body["contents"][-1].get("parts"))

    def _parts(self) -> Iterator[Json]:
        for block in self.blocks:
            if "say" in block:
                yield {"text": block["say"]}
            elif "call" in block:
                yield {"functionCall": {"id": _id("call"), "name": block["call"], "args": self.arguments(block)}}

    def _response(self, parts: list[Json], finish: Json) -> Json:
        usage = {"promptTokenCount": self.tokens, "candidatesTokenCount": 50, "totalTokenCount": self.tokens + 50}
        candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **finish}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "stub", "responseId": _id("r")}

    def whole(self) -> Json:
        return self._response(list(self._parts()), {"finishReason": "STOP"})

    def events(self) -> Iterator[bytes]:
        for part in self._parts():
            pieces = [{"text": piece} for piece in _pieces(part["text"])] if "text" in part else [part]
            for piece in pieces:
                yield self._data(self._response([piece], {}))
        if any("hold" in block for block in self.blocks):
            self.model.pause()
        yield self._data(self._response([], {"finishReason": "STOP"}))

    def _data(self, value: Json) -> bytes:
        return f"data: {json.dumps(value, ensure_ascii=False)}\r\n\r\n".encode()
