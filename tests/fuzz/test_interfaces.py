"""Every tool, route and hook event, with wrong values and broken bytes: a result or a refusal, never a failure.

The long form takes `CTXMEM_FUZZ_SECONDS` for all targets together, and says how many inputs each had.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlencode

import anyio
import pytest
from pydantic import ValidationError
from starlette.types import ASGIApp, Message

from ctxmem_mcp.agents import AGENTS
from ctxmem_mcp.capture.events import parse_event
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.mcp_server.jsonrpc import parse_message
from ctxmem_mcp.mcp_server.tool_arguments import describe_errors
from ctxmem_mcp.mcp_server.tools import TOOLS, Tool
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
from tests.fuzz.values import broken, damaged
from tests.http_api.conftest import running

pytestmark = pytest.mark.anyio

Target = Callable[[random.Random], Awaitable[None]]
CONVERSATION = "c"
# An input that takes longer is taken for a hang: the longest takes a tenth of a second on an idle machine.
SECONDS_MAX = 60
# How many inputs the long form gives at a time.
LANES = 8
MESSAGE = {
    "role": "user",
    "content": [{"type": "text", "text": "hello"}],
    "name": "n",
    "said_at": "2026-01-01T00:00:00Z",
}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "append_turn": {
        **MESSAGE,
        "content": "hello",
        "conversation_id": CONVERSATION,
        "retention_days": 30,
        "parent_id": "t0",
    },
    "sync_transcript": {"messages": [MESSAGE, {"role": "tool", "content": "x", "tool_call_id": "1"}], "after": "t0"},
    "get_context": {"conversation_id": CONVERSATION, "query": "hello", "token_budget": 600, "layout": "stable"},
    "expand_node": {"conversation_id": CONVERSATION, "node_id": "t0", "token_budget": 100, "cursor": "1"},
    "search_turns": {
        "query": "hello",
        "conversation_id": CONVERSATION,
        "limit": 3,
        "role": "user",
        "since": "2026-01-01",
    },
    "revert_to": {"conversation_id": CONVERSATION, "turn_id": "t0"},
    "forget_conversation": {"conversation_id": "other", "confirm": "other", "turn_id": "t0"},
    "list_conversations": {"space": "s", "limit": 3, "cursor": "x"},
    "write_summary": {"conversation_id": CONVERSATION, "node_id": "n0-1-2", "title": "t", "summary": "s"},
    "hand_off": {"conversation_id": CONVERSATION, "token_budget": 600, "note": "n"},
}
EVENT = {
    "session_id": "s", "hook_event_name": "PostToolUse", "transcript_path": "/nowhere/x.jsonl", "cwd": "/w",
    "tool_name": "Bash", "tool_input": {"command": "ls"}, "tool_response": {"stdout": "a"}, "prompt": "hello",
    "last_assistant_message": "Done.", "conversation_id": "s", "text": "x", "taskId": "1", "hookName": "TaskStart",
}  # fmt: skip
EVENT_NAMES = ("SessionStart", "UserPromptSubmit", "PreToolUse", "PostToolUse", "Stop", "SessionEnd", "PreCompact")
REQUEST = {
    "messages": [MESSAGE, {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f"}}]}],
    "model": "m", "name": "n", "role": "user", "content": "hello", "context_budget": 500, "space_id": "s",
    "system_prompt": None, "input": "x", "contents": [{"role": "user", "parts": [{"text": "x"}]}], "max_tokens": 5,
}  # fmt: skip
BODY_ROUTES = (
    "/mcp", "/v1/memory", "/v1/chat/sessions", "/v1/chat/sessions/{id}/messages", "/v1/chat/sessions/{id}",
    "/v1/spaces",
    "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens",
)  # fmt: skip
QUERY_ROUTES = (
    "/v1/chat/sessions", "/v1/chat/sessions/{id}/context", "/v1/chat/sessions/{id}/messages", "/v1/spaces/{id}",
    "/health", "/ready", "/metrics", "/v1/usage", "/openapi.json",
)  # fmt: skip


def tool_target(memory: Memory, tool: Tool) -> Target:
    async def call(randomly: random.Random) -> None:
        given = damaged(ARGUMENTS[tool.name], randomly)
        try:
            await tool.call(memory, tool.arguments.model_validate(given if isinstance(given, dict) else {}))
        except ValidationError as error:
            describe_errors(error, tool.name, tool.input_schema)
        except CtxmemError as error:
            str(error)

    return call


async def respond(app: ASGIApp, method: str, path: str, query: str = "", body: bytes = b"") -> tuple[int, bytes]:
    """Calls an app without a client, which would take longer than the app. Returns the status and the body."""
    given, status, raw = [{"type": "http.request", "body": body}], 0, b""
    ended = anyio.Event()

    async def receive() -> Message:
        if given:
            return given.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, raw
        status, raw = message.get("status", status), raw + message.get("body", b"")
        if message["type"] == "http.response.body" and not message.get("more_body"):
            ended.set()

    headers = [
        (b"host", b"127.0.0.1:8377"), (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
        (b"accept", b"application/json, text/event-stream"),
    ]  # fmt: skip
    await app(
        {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(path), "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
            "headers": headers, "server": ("127.0.0.1", 8377), "client": ("127.0.0.1", 123),
        },
        receive,
        send,
    )  # fmt: skip
    return status, raw


def route_target(app: ASGIApp, method: str, route: str) -> Target:
    async def call(randomly: random.Random) -> None:
        path = route.replace("{id}", randomly.choice(("x", "..", "%00", "a" * 300, "%ff", "-")))
        if method == "GET":
            query = {randomly.choice(("limit", "query", "q", "budget", "order", "x")): str(damaged("5", randomly))}
            status, text = await respond(app, method, path, urlencode(query, errors="replace"))
        else:
            raw = json.dumps(damaged(REQUEST, randomly)).encode()
            body = broken(raw, randomly) if randomly.random() < 0.3 else raw
            status, text = await respond(app, method, path, body=body)
        assert status not in (0, 500, 501), (method, path, text)

    return call


def event_target(agent: str) -> Target:
    async def parse(randomly: random.Random) -> None:
        event = {**EVENT, "hook_event_name": randomly.choice(EVENT_NAMES)}
        raw = json.dumps(damaged(event, randomly)).encode()
        parse_event(agent, broken(raw, randomly) if randomly.random() < 0.3 else raw, 1.0)

    return parse


async def message_target(randomly: random.Random) -> None:
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "x", "arguments": {"a": [1]}}}
    raw = json.dumps(damaged(call, randomly)).encode()
    parse_message(broken(raw, randomly) if randomly.random() < 0.5 else raw)


@asynccontextmanager
async def targets(folder: Path) -> AsyncIterator[dict[str, Target]]:
    """Opens a memory and a service, and yields what can be given wrong inputs."""
    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(open_memory(Settings(folder / "tools", durability="normal")))
        app = await stack.enter_async_context(
            running(http_app(Settings(folder / "http", durability="normal"), "127.0.0.1"))
        )
        found = {f"tool {tool.name}": tool_target(memory, tool) for tool in TOOLS}
        found |= {f"POST {route}": route_target(app, "POST", route) for route in BODY_ROUTES}
        found |= {f"GET {route}": route_target(app, "GET", route) for route in QUERY_ROUTES}
        found |= {
            f"{how} /v1/chat/sessions/{{id}}": route_target(app, how, "/v1/chat/sessions/{id}")
            for how in ("PATCH", "DELETE")
        }
        found |= {f"event of {agent}": event_target(agent) for agent in AGENTS}
        found["message over stdio"] = message_target
        yield found


async def fuzz(
    named: dict[str, Target], seed: int, rounds: int, seconds: float, lanes: int = 1
) -> tuple[Counter[str], dict[str, str]]:
    """Gives each target an input in turn. Returns the number of inputs of each, and what failed.

    Args:
        named: The targets.
        seed: Of the random inputs.
        rounds: How many inputs each gets.
        seconds: No round begins later than this.
        lanes: How many rounds run at a time: most of a call is waiting, for a thread or another task.
    """
    counts, failures, left = Counter[str](), dict[str, str](), iter(range(rounds))
    end = time.monotonic() + seconds

    async def run_lane(randomly: random.Random) -> None:
        for _ in left:
            for name, target in named.items():
                await give(name, target, randomly)
            if time.monotonic() > end:
                break

    async def give(name: str, target: Target, randomly: random.Random) -> None:
        began = time.monotonic()
        try:
            await target(randomly)
        except Exception:  # Goes on, so that one run finds every fault.
            place = traceback.format_exc()
            failures.setdefault(f"{name}: {place.splitlines()[-1]:.200}", place)
        counts[name] += 1
        if time.monotonic() - began > SECONDS_MAX:
            failures.setdefault(f"{name} hangs", "")

    async with anyio.create_task_group() as group:
        for lane in range(lanes):
            group.start_soon(run_lane, random.Random(seed + lane))
    return counts, failures


async def test_no_input_fails_a_tool_a_route_or_an_event(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with targets(tmp_path) as named:
        counts, failures = await fuzz(named, seed=1, rounds=12, seconds=600)
    assert not failures, failures
    assert min(counts.values()) == 12
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR], caplog.text


def test_a_space_that_is_not_valid_unicode_is_refused() -> None:
    tool = next(tool for tool in TOOLS if tool.name == "list_conversations")
    with pytest.raises(ValidationError):
        tool.arguments.model_validate({"space": "\ud800"})


async def test_a_project_s_view_of_a_conversation_in_which_nobody_speaks(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path), background=False) as memory:
        await memory.sync([NewTurn("tool", "x", call_id="1")], conversation_id="c", space="s")
        tool = next(tool for tool in TOOLS if tool.name == "get_context")
        assert "c" in str(await tool.call(memory, tool.arguments.model_validate({"project": "s"})))


@pytest.mark.soak
@pytest.mark.timeout(0)
async def test_no_input_fails_a_tool_a_route_or_an_event_for_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = float(os.environ.get("CTXMEM_FUZZ_SECONDS", "600"))
    async with targets(tmp_path) as named:
        counts, failures = await fuzz(named, random.randrange(10**6), 10**9, seconds, LANES)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{sum(counts.values()):,} inputs, {min(counts.values()):,} of each of {len(counts)} targets\n"
        )
    assert not failures, "\n".join(failures.values())
