"""What was said before a receipt is forwarded, and never stored, by the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from starlette.requests import Request
from starlette.responses import Response

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.results import Synced
from tests.gateway.harness import RunningGateway, UpstreamStub, answers_with, gateway, upstream_stub
from tests.stores.samples import raw_files

Message = dict[str, Any]
OPENING: list[Message] = [{"role": "user", "content": "hi"}]
SAID: list[Message] = [
    *OPENING,
    {"role": "assistant", "content": "What is it about the quixoplex?"},
    {"role": "user", "content": "It fails."},
]
ANSWER: Message = {"role": "assistant", "content": "It is the vandrubel."}
WORDS = (b"quixoplex", b"vandrubel")


@pytest.fixture
def stub() -> Iterator[UpstreamStub]:
    with upstream_stub(answers_with(ANSWER["content"])) as found:
        yield found


@pytest.fixture
def running(tmp_path: Path, stub: UpstreamStub) -> Iterator[RunningGateway]:
    with gateway(tmp_path, stub) as found:
        yield found


def ask(running: RunningGateway, messages: list[Message]) -> str:
    """Returns what memory did."""
    body = {"model": "m:memory", "messages": messages}
    response = httpx2.post(f"{running.url}/v1/chat/completions", json=body, timeout=100)
    assert response.json()["choices"][0]["message"]["content"] == ANSWER["content"]
    return str(response.headers["x-ctxmem-memory"])


def forget_all(running: RunningGateway) -> None:
    for conversation in running.conversations():
        running.do(running.memory.forget(conversation, conversation))


def forget_before_answer(running: RunningGateway, stub: UpstreamStub) -> None:
    """Has the next request's conversation be forgotten before the upstream answers."""
    respond = stub.respond

    async def forget_and_respond(request: Request, body: Any) -> Response:
        stub.respond = respond
        forget_all(running)
        return await respond(request, body)

    stub.respond = forget_and_respond


def test_a_forgotten_conversation_is_forwarded_unchanged(running: RunningGateway, stub: UpstreamStub) -> None:
    assert ask(running, SAID) == "whole"
    forget_all(running)
    for messages in (SAID, [*SAID, ANSWER, *OPENING]):
        assert ask(running, messages) == "forgotten"
        assert stub.bodies[-1] == {"model": "m", "messages": messages}
    assert running.conversations() == []
    assert not any(word in raw for raw in raw_files(running.folder).values() for word in WORDS)


@pytest.mark.parametrize("said", [OPENING, SAID])
def test_a_conversation_that_is_forgotten_before_its_answer_stays_forgotten(
    running: RunningGateway, stub: UpstreamStub, said: list[Message]
) -> None:
    forget_before_answer(running, stub)
    assert ask(running, said) == "whole"
    assert ask(running, [*said, ANSWER, {"role": "user", "content": "And now?"}]) == "forgotten"
    assert running.conversations() == []
    assert not any(word in raw for raw in raw_files(running.folder).values() for word in WORDS)


def test_the_usage_is_recorded_if_the_conversation_is_gone_before_its_answer(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    respond = stub.respond

    async def remove_and_respond(request: Request, body: Any) -> Response:
        for conversation in running.conversations():
            tips = [turn.id for turn in running.do(running.memory.branches(conversation))]
            assert running.do(running.memory.remove_moved(conversation, tips))
        return await respond(request, body)

    stub.respond = remove_and_respond
    assert ask(running, OPENING) == "whole"
    assert httpx2.get(f"{running.url}/v1/usage").json()["total"]["requests"] == 1


def test_a_conversation_that_is_forgotten_while_a_request_is_stored_stays_forgotten(
    tmp_path: Path, stub: UpstreamStub
) -> None:
    """The gateway stores the opening first, then the rest."""
    with gateway(tmp_path, stub, _ForgettingMemory) as running:
        assert ask(running, SAID) == "forgotten"
        assert running.conversations() == []
        assert ask(running, [*SAID, ANSWER, *OPENING]) == "forgotten"
        assert not any(word in raw for raw in raw_files(tmp_path).values() for word in WORDS)


class _ForgettingMemory:
    """A memory whose first conversation is forgotten as soon as it is stored."""

    def __init__(self, memory: Memory) -> None:
        self._memory, self._forget = memory, True

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._memory, name)  # type: ignore[no-any-return]

    async def sync(self, *args: Any, **options: Any) -> Synced:
        done = await self._memory.sync(*args, **options)
        if self._forget:
            self._forget = False
            await self._memory.forget(done.conversation_id, done.conversation_id)
        return done
