"""Long results of tools are shortened in requests, alike in every later one, and the agent can open the whole."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.compaction import Compacted, ConversationTracker
from ctxmem_mcp.http_api.gateway.gemini import Gemini
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.responses import Responses
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.gateway.harness import answers_with, gateway, upstream_stub
from tests.text.test_long_output import FAILURES, OUTPUTS

pytestmark = pytest.mark.anyio
OPTIONS = MemoryOptions(True, "m")
OUTPUT = (OUTPUTS / "pytest.txt").read_text("utf-8")
Body = dict[str, Any]
Step = tuple[str, Body, str]
BUILD: Step = ("Bash", {"command": "pytest -v"}, OUTPUT)


def anthropic(steps: list[Step]) -> Body:
    messages: list[Body] = [{"role": "user", "content": "Run the tests."}]
    for at, (tool, arguments, output) in enumerate(steps):
        messages += [
            {"role": "assistant", "content": [{"type": "tool_use", "id": f"c{at}", "name": tool, "input": arguments}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"c{at}", "content": output}]},
        ]
    return {"model": "m", "system": "You are an agent.", "messages": messages}


def openai(steps: list[Step]) -> Body:
    messages: list[Body] = [{"role": "system", "content": "An agent."}, {"role": "user", "content": "Run the tests."}]
    for at, (tool, arguments, output) in enumerate(steps):
        function = {"name": tool, "arguments": json.dumps(arguments)}
        calls = [{"id": f"c{at}", "type": "function", "function": function}]
        messages += [
            {"role": "assistant", "content": None, "tool_calls": calls},
            {"role": "tool", "tool_call_id": f"c{at}", "content": output},
        ]
    return {"model": "m", "messages": messages}


def responses(steps: list[Step]) -> Body:
    items: list[Body] = [{"role": "user", "content": [{"type": "input_text", "text": "Run the tests."}]}]
    for at, (tool, arguments, output) in enumerate(steps):
        items += [
            {"type": "function_call", "call_id": f"c{at}", "name": tool, "arguments": json.dumps(arguments)},
            {"type": "function_call_output", "call_id": f"c{at}", "output": output},
        ]
    return {"model": "m", "input": items}


def gemini(steps: list[Step]) -> Body:
    contents: list[Body] = [{"role": "user", "parts": [{"text": "Run the tests."}]}]
    for at, (tool, arguments, output) in enumerate(steps):
        response = {"id": f"c{at}", "name": tool, "response": {"output": output}}
        contents += [
            {"role": "model", "parts": [{"functionCall": {"id": f"c{at}", "name": tool, "args": arguments}}]},
            {"role": "user", "parts": [{"functionResponse": response}]},
        ]
    return {"contents": contents}


APIS = [(Anthropic, anthropic), (OpenAI, openai), (Responses, responses), (Gemini, gemini)]


class Client:
    """Sends requests of one API to a tracker that shortens results over 1,000 tokens."""

    def __init__(self, provider: Provider, tokens_max: int = 1_000) -> None:
        self.memory = Memory(InMemoryStore(), ExtractiveSummarizer())
        self.provider, self.tracker = provider, ConversationTracker(50_000, "o200k_base", tokens_max)

    async def send(self, body: Body) -> tuple[Compacted, str]:
        """Returns what was done, and the messages that are sent, as JSON."""
        before = copy.deepcopy(body)
        done = await self.tracker.compact(self.memory, "", self.provider, body, OPTIONS)
        assert body == before
        return done, json.dumps(self.provider.messages(done.body or body))


@pytest.mark.parametrize(("provider", "request_with"), APIS)
async def test_a_long_result_is_shortened_alike_in_every_request(provider: type[Provider], request_with: Any) -> None:
    client = Client(provider())
    done, sent = await client.send(request_with([BUILD]))
    assert done.tokens_sent < done.tokens_in / 2
    for failure in FAILURES["pytest"]:
        assert json.dumps(failure)[1:-1] in sent
    assert "test_frames[60]" not in sent
    conversation, turn = re.search(r"expand_node with conversation (\S+) and id (t[\d-]+)", sent).groups()  # type: ignore[union-attr]
    assert (await client.memory.turn(conversation, turn)).content == OUTPUT
    steps: list[Step] = [BUILD]
    for at in range(4):
        steps.append(("Bash", {"command": f"echo {at}"}, str(at)))
        _, longer = await client.send(request_with(steps))
        assert longer.startswith(sent[:-1])
        sent = longer
    restarted = Client(provider())
    restarted.memory = client.memory
    assert (await restarted.send(request_with(steps)))[1] == sent


@pytest.mark.parametrize(("provider", "request_with"), APIS)
@pytest.mark.parametrize(
    "step",
    [
        ("mcp__ctxmem__expand_node", {"node_id": "t2-1"}, OUTPUT),
        ("Read", {"file_path": "/w/log.txt", "offset": 1, "limit": 400}, OUTPUT),
        ("Bash", {"command": "sed -n 1,400p log.txt"}, OUTPUT),
        ("Bash", {"command": "echo short"}, "short"),
    ],
)
async def test_what_was_asked_for_is_sent_whole(provider: type[Provider], request_with: Any, step: Step) -> None:
    done, _ = await Client(provider()).send(request_with([step]))
    assert done.body is None


@pytest.mark.parametrize(("provider", "request_with"), APIS)
async def test_a_repeated_call_gets_the_whole(provider: type[Provider], request_with: Any) -> None:
    done, sent = await Client(provider()).send(request_with([BUILD, BUILD]))
    assert sent.count(json.dumps(OUTPUT)[1:-1]) == 1
    assert sent.count("returns all of it") == 1
    assert done.tokens_sent < done.tokens_in


def test_nothing_is_shortened_by_default(tmp_path: Path) -> None:
    body = anthropic([BUILD]) | {"memory": True, "max_tokens": 9}
    for settings, is_whole in (({}, True), ({"output_tokens": 1_000}, False)):
        changed: dict[str, Any] = settings
        with (
            upstream_stub(answers_with()) as stub,
            gateway(tmp_path / str(is_whole), stub, **changed) as running,
        ):
            response = httpx2.post(f"{running.url}/v1/messages", json=body, timeout=60)
            assert response.status_code == 200
            assert (stub.bodies[-1]["messages"] == body["messages"]) is is_whole
            (conversation,) = running.conversations()
            assert OUTPUT in [turn.content for turn in running.turns(conversation)]
