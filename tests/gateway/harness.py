"""A gateway and a stub of its upstream, both real HTTP servers on 127.0.0.1, with access to the gateway's memory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.http_api.deps import Deps, own_access
from ctxmem_mcp.http_api.gateway import build_routes
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import Turn
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.settings import Settings

T = TypeVar("T")
Responder = Callable[[Request, Any], Awaitable[Response]]


class _Server(uvicorn.Server):
    def __init__(self, app: Starlette) -> None:
        super().__init__(uvicorn.Config(app, "127.0.0.1", 0, log_level="critical", ws="none", http="h11"))
        self.up = threading.Event()

    async def startup(self, sockets: Any = None) -> None:
        await super().startup(sockets)
        self.up.set()


@contextmanager
def served(app: Starlette) -> Iterator[str]:
    """Serves an app inside the block; yields its URL."""
    server = _Server(app)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert server.up.wait(100)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)


@dataclass
class UpstreamStub:
    """A stub of a model's API: the requests received so far, and how to respond."""

    respond: Responder
    bodies: list[Any] = field(default_factory=list)
    raw: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    # Path and query as in the request line.
    targets: list[str] = field(default_factory=list)
    # The client address of each request's connection.
    peers: list[Any] = field(default_factory=list)
    disconnected: threading.Event = field(default_factory=threading.Event)
    requested: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    async def handle(self, request: Request) -> Response:
        raw = await request.body()
        self.raw.append(raw)
        with contextlib.suppress(ValueError):
            self.bodies.append(json.loads(raw))
        self.headers.append(dict(request.headers))
        self.paths.append(request.url.path)
        query = f"?{request.url.query}" if request.url.query else ""
        self.targets.append(request.scope["raw_path"].decode() + query)
        self.peers.append(request.client)
        self.requested.set()
        return await self.respond(request, self.bodies[-1] if self.bodies else None)

    async def hang(self, request: Request, body: Any) -> Response:
        """Sends nothing until the client disconnects."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self.disconnected.set()
        return Response()


@contextmanager
def upstream_stub(respond: Responder) -> Iterator[UpstreamStub]:
    stub = UpstreamStub(respond)
    with served(Starlette(routes=[Route("/{path:path}", stub.handle, methods=["GET", "POST"])])) as url:
        stub.url = url
        yield stub


class HasUrl(Protocol):
    url: str


@dataclass
class RunningGateway:
    """A running gateway: its URL, its memory and data folder, and its event loop."""

    url: str
    memory: Memory
    folder: Path
    loop: asyncio.AbstractEventLoop

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine in the gateway's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30)

    def conversations(self) -> list[str]:
        return [info.conversation_id for info in self.do(self.memory.conversations()).conversations]

    def turns(self, conversation_id: str) -> list[Turn]:
        """Returns the turns of the head's branch."""
        return self.do(_turns(self.memory, conversation_id))


async def _turns(memory: Memory, conversation_id: str) -> list[Turn]:
    head = await memory.head(conversation_id)
    return [await memory.turn(conversation_id, f"t{i}") for i in range(head.index + 1)] if head else []


@contextmanager
def gateway(
    folder: Path, stub: HasUrl, wrap: Callable[[Memory], Any] | None = None, **changed: Any
) -> Iterator[RunningGateway]:
    """Runs a gateway inside the block. wrap: returns the object that the gateway uses as its memory."""
    changed = {
        "upstream_base_url": f"{stub.url}/v1",
        "upstream_anthropic_url": stub.url,
        "upstream_gemini_url": stub.url,
        "upstream_code_assist_url": stub.url,
        "gateway_seconds": 60,
        **changed,
    }
    settings = Settings(folder, durability="normal", **changed)
    opened: dict[str, Any] = {}

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with open_memory(settings) as memory:
            opened.update(memory=memory, loop=asyncio.get_running_loop())
            yield
            await deps.shut_down()

    async def memory_for(_: str) -> Memory:
        memory: Memory = opened["memory"]
        return wrap(memory) if wrap else memory

    deps = Deps(settings, memory_for, own_access, lambda _: FileRecordStore(folder), lambda _: folder)
    with served(Starlette(routes=build_routes(deps), lifespan=lifespan)) as url:
        yield RunningGateway(url, opened["memory"], folder, opened["loop"])


# ---------------------------------------------------------------- responses


def answers_with(text: str | None = "Done.", **message: Any) -> Responder:
    """Returns a responder with this answer, in the format of the request, complete or streamed."""

    async def respond(request: Request, body: Any) -> Response:
        if request.url.path.endswith("/count_tokens"):
            return JSONResponse({"input_tokens": len(json.dumps(body["messages"]))})
        if request.method == "GET":
            return JSONResponse({"object": "list", "data": [{"id": "m", "object": "model"}]})
        anthropic = request.url.path.endswith("/messages")
        events = anthropic_events(text, **message) if anthropic else openai_events(text, **message)
        if body.get("stream"):
            return StreamingResponse(_iterate(events), media_type="text/event-stream")
        return JSONResponse(anthropic_response(text, **message) if anthropic else openai_response(text, **message))

    return respond


async def _iterate(chunks: list[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 7,
    "total_tokens": 127,
    "prompt_tokens_details": {"cached_tokens": 64},
}


def openai_response(text: str | None, **message: Any) -> dict[str, Any]:
    finish = "tool_calls" if message.get("tool_calls") else "stop"
    choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def openai_events(text: str | None, tool_calls: Any = (), finish: bool = True) -> list[bytes]:
    """Returns the answer as events of a few characters, in chunks that do not end with an event."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": part} for part in _parts(text or "")]
    for i, call in enumerate(tool_calls):
        arguments = call["function"]["arguments"]
        deltas.append({"tool_calls": [{**call, "index": i, "function": {**call["function"], "arguments": ""}}]})
        deltas += [{"tool_calls": [{"index": i, "function": {"arguments": part}}]} for part in _parts(arguments)]
    chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": d, "finish_reason": None}]} for d in deltas]
    if finish:
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    common = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    sent = b"".join(b"data: " + json.dumps(common | chunk, ensure_ascii=False).encode() + b"\n\n" for chunk in chunks)
    sent += b": keep-alive\n\ndata: [DONE]\n\n" if finish else b""
    return [sent[i : i + 17] for i in range(0, len(sent), 17)]


def _parts(text: str) -> list[str]:
    return [text[i : i + 3] for i in range(0, len(text), 3)]


A_USAGE = {"input_tokens": 50, "output_tokens": 9, "cache_read_input_tokens": 70, "cache_creation_input_tokens": 0}


def _blocks(text: str | None, blocks: Any = ()) -> list[dict[str, Any]]:
    return [*([{"type": "text", "text": text}] if text else []), *blocks]


def anthropic_response(text: str | None, blocks: Any = ()) -> dict[str, Any]:
    return {
        "id": "x", "type": "message", "role": "assistant", "model": "m", "content": _blocks(text, blocks),
        "stop_reason": "end_turn", "stop_sequence": None, "usage": A_USAGE,
    }  # fmt: skip


def anthropic_events(text: str | None, blocks: Any = ()) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**anthropic_response(None), "content": [], "stop_reason": None}}
    ]
    for i, block in enumerate(_blocks(text, blocks)):
        empty: dict[str, Any] = {**block, "text": ""} if block["type"] == "text" else {**block, "input": {}}
        events.append({"type": "content_block_start", "index": i, "content_block": empty})
        if block["type"] == "text":
            deltas = [{"type": "text_delta", "text": part} for part in _parts(block["text"])]
        else:
            arguments = json.dumps(block["input"])
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in _parts(arguments)]
        events += [{"type": "content_block_delta", "index": i, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": i})
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 9}})
    events.append({"type": "message_stop"})
    sent = b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode() for event in events
    )
    return [sent[i : i + 23] for i in range(0, len(sent), 23)]


# ---------------------------------------------------------------- histories


def long_history(requests: int, *, words: int = 120) -> list[dict[str, Any]]:
    """Returns the messages of a coding session: prompts, calls with results, answers."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": "You are a coding agent."}]
    for i in range(requests):
        call = {"id": f"call_{i}", "type": "function", "function": {"name": "read", "arguments": f'{{ "n": {i}}}'}}
        messages += [
            {"role": "user", "content": f"Please look at file number {i} and say what fails there."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"call_{i}", "content": f"line {i}: " + f"token{i} failed\n" * words},
            {"role": "assistant", "content": f"File {i} fails because of token{i}; I fixed it."},
        ]
    return [*messages, {"role": "user", "content": "And now?"}]
