"""Measures the cost of a session through the gateway, request by request, beside three other methods of sending it.

    python -m bench gateway [TRANSCRIPT ...] [--tokens 500000] [--budget 16000] [--block 1024] [--system 0]

Each request of the session is sent through the real gateway, which stores and compacts it, forwards it, and streams and
stores the response. The upstream is a stub that returns the recorded response and caches like a provider: the longest
prefix that it has received before, in whole blocks. The other methods send the same requests unchanged (full history),
reduced to the newest messages that fit, and as a view that is ranked for each request. Several transcripts are sent one
after the other. The default is a synthetic session.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from bench import synthetic
from ctxmem_mcp.http_api.deps import Deps, own_access
from ctxmem_mcp.http_api.gateway.routes import build_routes
from ctxmem_mcp.http_api.gateway.upstream import Upstream
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.transcripts import registry

Message = dict[str, Any]
# Dollars per million tokens: input, cached input, output.
PRICES = {"the seed's prices (5 / 2.5 / 10)": (5.0, 2.5, 10.0), "cached at a tenth (3 / 0.3 / 15)": (3.0, 0.3, 15.0)}
# Repeated to the number of tokens that the system prompts of common agents have.
_SYSTEM_WORDS = "You are a coding agent. Follow the user's words; use the tools; keep answers short. "


class ProviderCache:
    """The prompt cache of a provider: matches the prefix of a request with earlier ones, in whole blocks of tokens."""

    def __init__(self, block: int) -> None:
        import splintr

        self._encode = splintr.Tokenizer.from_pretrained(tokenizer.DEFAULT_ENCODING).encode_ordinary
        self._block = block
        self._ids: dict[str, tuple[int, ...]] = {}

    def method(self) -> Method:
        return Method(self)

    def ids(self, messages: Iterable[Message]) -> list[int]:
        found: list[int] = []
        for message in messages:
            text = _as_text(message)
            if text not in self._ids:
                self._ids[text] = tuple(self._encode(text))
            found += self._ids[text]
        return found

    def count(self, message: Message) -> int:
        return len(self.ids([message]))

    def blocks(self, ids: Sequence[int]) -> Iterator[int]:
        key = 0
        for at in range(0, len(ids) - self._block + 1, self._block):
            key = hash((key, tuple(ids[at : at + self._block])))
            yield key


def _as_text(message: Message) -> str:
    """The text of a message in a provider's prompt template."""
    calls = (f"{call['function']['name']}\n{call['function']['arguments']}" for call in message.get("tool_calls", ()))
    return "\n".join((f"<{message['role']}>", str(message.get("content") or ""), *calls, ""))


@dataclass
class Method:
    """One method of sending, with a cache of its own."""

    provider: ProviderCache
    sent: int = 0
    cached: int = 0
    largest: int = 0
    requests: int = 0
    answered: int = 0
    seen: set[int] = field(default_factory=set)

    def send(self, messages: Sequence[Message], answer: Message) -> tuple[int, int]:
        ids = self.provider.ids(messages)
        cached, known = 0, True
        for key in self.provider.blocks(ids):
            known = known and key in self.seen
            cached += self.provider._block * known
            self.seen.add(key)
        self.sent, self.cached, self.requests = self.sent + len(ids), self.cached + cached, self.requests + 1
        self.largest = max(self.largest, len(ids))
        self.answered += self.provider.count(answer)
        return len(ids), cached

    def cost(self, prices: tuple[float, float, float]) -> float:
        fresh, cached, out = prices
        return ((self.sent - self.cached) * fresh + self.cached * cached + self.answered * out) / 1e6


# ---------------------------------------------------------------- the session


def messages_of(turns: Iterable[NewTurn]) -> list[Message]:
    """Converts turns to the messages of a chat completions client."""
    made: list[Message] = []
    for turn in turns:
        if turn.role == "assistant" and turn.call_id:
            call = {"id": turn.call_id, "type": "function", "function": {"name": turn.name, "arguments": turn.content}}
            if not made or made[-1]["role"] != "assistant":
                made.append({"role": "assistant", "content": None})
            made[-1].setdefault("tool_calls", []).append(call)
        elif turn.role == "tool" and turn.call_id:
            made.append({"role": "tool", "tool_call_id": turn.call_id, "content": turn.content})
        elif turn.role == "assistant" and made and made[-1]["role"] == "assistant" and "tool_calls" not in made[-1]:
            made[-1]["content"] = f"{made[-1]['content'] or ''}\n{turn.content}".strip()
        else:
            made.append({"role": "user" if turn.role == "tool" else turn.role, "content": turn.content})
    return made


def session(transcripts: Sequence[Path], most: int, count: Callable[[Message], int]) -> list[Message]:
    if transcripts:
        turns = [t for p in transcripts for t in registry.parse(p.read_text("utf-8"), p.name).turns]
    else:
        turns = list(synthetic.turns(10_000))
    chosen, total = [], 0
    for message in messages_of(turns):
        total += count(message)
        if total > most:
            break
        chosen.append(message)
    return chosen


# ---------------------------------------------------------------- the ways


def newest_that_fit(messages: Sequence[Message], budget: int, count: Callable[[Message], int]) -> list[Message]:
    chosen: list[Message] = []
    for message in reversed(messages):
        budget -= count(message)
        if budget < 0 and chosen:
            break
        chosen.append(message)
    return chosen[::-1]


async def ranked_view(
    memory: Memory, conversation: str, messages: Sequence[Message], budget: int, count: Callable[[Message], int]
) -> list[Message]:
    """Returns a view ranked for the user's last message, and the newest messages in a quarter of the budget."""
    message = next((str(m["content"]) for m in reversed(messages) if m["role"] == "user"), "")
    recent = newest_that_fit(messages, budget // 4, count)
    view = await memory.view(conversation, query=message[:2_000] or None, token_budget=budget - budget // 4)
    return [{"role": "user", "content": view.text}, *recent]


def stub_provider(answer: Callable[[], Message], send: Callable[[list[Message]], tuple[int, int]]) -> Starlette:
    """Returns an app that streams the recorded response and reports the cached tokens."""

    async def completions(request: Request) -> Response:
        body = await request.json()
        sent, cached = send(body["messages"])
        usage = {
            "prompt_tokens": sent,
            "completion_tokens": 0,
            "prompt_tokens_details": {"cached_tokens": cached},
        }

        async def events() -> Any:
            message = answer()
            calls = [{"index": i, **call} for i, call in enumerate(message.get("tool_calls", ()))]
            delta = {"role": "assistant", "content": message.get("content"), **({"tool_calls": calls} if calls else {})}
            for event in (
                {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
                {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {"choices": [], "usage": usage},
            ):
                yield f"data: {json.dumps(event)}\n\n"
            yield "data: [DONE]\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/chat/completions", completions, methods=["POST"])])


async def replay(messages: list[Message], options: argparse.Namespace, provider: ProviderCache, folder: Path) -> None:
    methods = {
        name: provider.method() for name in ("gateway", "full history", "newest that fit", "recall at every request")
    }
    at = 0
    upstream_app = stub_provider(lambda: messages[at], lambda sent: methods["gateway"].send(sent, messages[at]))
    upstream = Upstream(60, httpx2.ASGITransport(app=upstream_app))
    settings = Settings(
        folder,
        upstream_base_url="http://stub/v1",
        gateway_tokens=options.budget,
        gateway_seconds=600,
        durability="normal",
    )
    memory = Memory(SqliteStore(folder, durability="normal"), ExtractiveSummarizer())

    async def open_memory(_: str) -> Memory:
        return memory

    deps = Deps(settings, open_memory, own_access, lambda _: FileRecordStore(folder), lambda _: folder)
    system = [{"role": "system", "content": _SYSTEM_WORDS * (options.system // 18)}] if options.system else []
    times: list[float] = []
    folds, conversations, previous = 0, set[str](), None
    transport = httpx2.ASGITransport(app=Starlette(routes=build_routes(deps, upstream)))
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        for at in range(1, len(messages)):
            if messages[at]["role"] != "assistant":
                continue
            so_far = system + messages[:at]
            began = time.perf_counter()
            body = {"model": "m:memory", "stream": True, "messages": so_far}
            answer = await client.post("/v1/chat/completions", json=body, timeout=600)
            times.append(time.perf_counter() - began)
            outcome = answer.headers["x-ctxmem-memory"]
            assert outcome in ("whole", "folded"), outcome
            conversation = answer.headers["x-ctxmem-conversation"]
            conversations.add(conversation)
            sent = int(answer.headers["x-ctxmem-tokens-sent"])
            folds, previous = folds + (previous is not None and sent < previous), sent
            methods["full history"].send(so_far, messages[at])
            methods["newest that fit"].send(
                system + newest_that_fit(messages[:at], options.budget, provider.count), messages[at]
            )
            if not options.quick:
                ranked = await ranked_view(memory, conversation, messages[:at], options.budget, provider.count)
                methods["recall at every request"].send(system + ranked, messages[at])
    await memory.close()
    times.sort()
    print(
        f"{folds} folds, {len(conversations)} conversation(s); a request took the gateway and stub "
        f"{1e3 * times[len(times) // 2]:.0f} ms (median), {1e3 * times[int(len(times) * 0.95)]:.0f} ms (p95)"
    )
    report(methods)


def report(methods: dict[str, Method]) -> None:
    full = methods["full history"]
    for name, method in methods.items():
        if method.requests:
            share = 100 * method.cached / max(1, method.sent)
            print(f"{name:24s} {method.sent:>13,} tokens sent, largest {method.largest:>8,}, {share:5.1f} % from cache")
    for words, prices in PRICES.items():
        print(words)
        for name, method in methods.items():
            if method.requests:
                cost = method.cost(prices)
                print(f"  {name:24s} ${cost:9.2f}, {100 * cost / full.cost(prices):6.1f} % of full history's")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench gateway", description=__doc__)
    parser.add_argument("transcripts", nargs="*", type=Path)
    parser.add_argument("--tokens", type=int, default=500_000, help="maximum tokens of the session")
    parser.add_argument("--budget", type=int, default=16_000)
    parser.add_argument("--block", type=int, default=1_024, help="tokens per block of the provider's cache")
    parser.add_argument("--system", type=int, default=0, help="tokens of the system prompt")
    parser.add_argument("--quick", action="store_true", help="skip the method that ranks at every request")
    options = parser.parse_args(arguments)
    provider = ProviderCache(options.block)
    messages = session(options.transcripts, options.tokens, provider.count)
    total, requests = sum(map(provider.count, messages)), sum(m["role"] == "assistant" for m in messages)
    print(f"# {len(messages):,} messages, {total:,} tokens, {requests:,} requests within {options.budget:,} tokens, "
          f"cached in blocks of {options.block:,}")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(replay(messages, options, provider, Path(folder)))
