"""Requests that name no session, in a run of `wrap` whose hooks record the sessions: which conversation has them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.capture import run_sessions
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.early_requests import EarlyRequests
from ctxmem_mcp.http_api.gateway.gemini import Gemini
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.side_request import is_side_request
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import THINKING, NewTurn, Turn
from ctxmem_mcp.settings import Settings

pytestmark = pytest.mark.anyio
OPTIONS = MemoryOptions(True, "m")
SYSTEM = {"role": "system", "content": "You are a coding agent."}
Json = dict[str, Any]


def user(words: str) -> Json:
    return {"role": "user", "content": words}


class Agent:
    """An agent whose requests name no session."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.tracker = memory, ConversationTracker(4_000, "o200k_base")
        self.moved: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        self.early = EarlyRequests(self._on_moved)

    async def _on_moved(self, memory: Memory, conversation: str, session: str, tips: Sequence[str]) -> bool:
        if self.failure is not None:
            raise self.failure
        self.moved.append((conversation, session))
        return await memory.remove_moved(conversation, tips)

    async def request(
        self,
        sessions: Sequence[str],
        messages: list[Json],
        answer: str,
        system: Json = SYSTEM,
        *,
        thinks: bool = False,
        days: int | None = None,
    ) -> str:
        """Sends a request, adds the answer to its messages, and returns the conversation."""
        provider = OpenAI()
        body = {"model": "m", "tools": [{"type": "function"}], "messages": [system, *messages]}
        options = replace(OPTIONS, days=days)
        sent = await self.tracker.compact(self.memory, "", provider, body, options, sessions, self.early)
        turns = [NewTurn("assistant", "Hm.", THINKING), NewTurn("assistant", answer)] if thinks else []
        await self.tracker.store_answer(self.memory, sent.conversation, turns or [NewTurn("assistant", answer)])
        self.early.end_request(sent.conversation.conversation_id)
        messages.append({"role": "assistant", "content": answer})
        return sent.conversation.conversation_id

    async def conversations(self) -> list[str]:
        return [info.conversation_id for info in await self.memory.all_conversations()]

    async def words(self, conversation: str) -> list[str]:
        return [turn.content for turn in await self.memory.turns(conversation)]


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[Agent]:
    async with open_memory(Settings(tmp_path, durability="normal")) as memory:
        yield Agent(memory)


async def test_a_cleared_session_with_the_same_prompt_is_another_conversation(agent: Agent) -> None:
    first, second = [user("Hello.")], [user("Hello.")]
    assert await agent.request(["a"], first, "One.") == "a"
    first.append(user("Go on."))
    assert await agent.request(["a"], first, "Two.") == "a"
    assert await agent.request(["b", "a"], second, "Three.") == "b"
    second.append(user("Go on."))
    assert await agent.request(["b", "a"], second, "Four.") == "b"
    first.append(user("Once more."))  # resumed: its hook makes it the latest
    assert await agent.request(["a", "b"], first, "Five.") == "a"
    assert await agent.words("a") == ["Hello.", "One.", "Go on.", "Two.", "Once more.", "Five."]
    assert await agent.words("b") == ["Hello.", "Three.", "Go on.", "Four."]


async def test_a_session_without_requests_takes_none_of_anothers(agent: Agent) -> None:
    messages = [user("Hello.")]
    await agent.request(["a"], messages, "One.")
    messages.append(user("Go on."))
    assert await agent.request(["inner", "a"], messages, "Two.") == "a"
    assert await agent.words("a") == ["Hello.", "One.", "Go on.", "Two."]


async def test_a_sub_agent_is_a_conversation_of_its_own(agent: Agent) -> None:
    await agent.request(["a"], [user("Hello.")], "One.")
    searcher = {"role": "system", "content": "You search."}
    assert await agent.request(["a"], [user("Search.")], "Found.", searcher) != "a"
    assert await agent.words("a") == ["Hello.", "One."]


async def test_a_request_before_the_first_hook_is_stored_and_the_next_has_all_of_it(agent: Agent) -> None:
    messages = [user("Hello.")]
    before = await agent.request([], messages, "One.", thinks=True)
    assert await agent.words(before) == [SYSTEM["content"], "Hello.", "Hm.", "One."]
    messages.append(user("Go on."))
    assert await agent.request(["a"], messages, "Two.") == "a"
    assert await agent.words("a") == ["Hello.", "Hm.", "One.", "Go on.", "Two."]
    assert agent.moved == [(before, "a")]
    assert await agent.conversations() == ["a"]
    again = await agent.request([], [user("Hello.")], "One.")  # moved, not forgotten
    assert await agent.words(again) == [SYSTEM["content"], "Hello.", "One."]


async def test_all_branches_of_a_request_before_the_first_hook_are_the_sessions(agent: Agent) -> None:
    messages = [user("Hello.")]
    before = await agent.request([], [*messages], "One.")
    assert await agent.request([], messages, "Again.") == before
    messages.append(user("Go on."))
    assert await agent.request(["a"], messages, "Two.") == "a"
    assert await agent.conversations() == ["a"]
    assert await agent.words("a") == ["Hello.", "Again.", "Go on.", "Two."]
    tips = [turn.content for turn in await agent.memory.branches("a")]
    assert sorted(tips) == ["One.", "Two."]


async def test_a_request_before_the_first_hook_is_no_other_sessions(agent: Agent) -> None:
    first, second = [user("Hello.")], [user("Hello.")]
    before = await agent.request([], first, "One.")
    assert await agent.request(["b"], second, "Two.") == "b"
    second.append(user("Go on."))
    assert await agent.request(["b"], second, "Three.") == "b"
    await agent.tracker.move_early(agent.memory, "", ["b"], agent.early)
    assert await agent.words(before) == [SYSTEM["content"], "Hello.", "One."]
    first.append(user("What now?"))
    assert await agent.request(["a", "b"], first, "Four.") == "a"
    assert await agent.words("a") == ["Hello.", "One.", "What now?", "Four."]
    assert await agent.words("b") == ["Hello.", "Two.", "Go on.", "Three."]
    assert sorted(await agent.conversations()) == ["a", "b"]


async def test_a_session_keeps_the_branch_that_its_transcript_has(agent: Agent) -> None:
    first, second = [user("Hello.")], [user("Hello.")]
    await agent.request([], first, "One.")
    await agent.request([], second, "Again.")
    captured = ["Hello.", "One.", "Go on.", "Two."]
    transcript = [NewTurn("assistant" if i % 2 else "user", words) for i, words in enumerate(captured)]
    await agent.memory.sync(transcript, conversation_id="a", retention_days=7)
    first.append(user("Go on."))
    assert await agent.request(["a"], first, "Two.") == "a"
    assert await agent.conversations() == ["a"]
    assert await agent.words("a") == captured
    assert sorted(turn.content for turn in await agent.memory.branches("a")) == ["Again.", "Two."]
    assert (await agent.memory.info("a")).retention_days == 7


async def test_a_session_that_begins_with_an_earlier_request_is_kept_as_long_as_requested(agent: Agent) -> None:
    await agent.request([], [user("Hello.")], "One.", days=3)
    assert await agent.request(["a"], [user("Hello."), {"role": "assistant", "content": "One."}], "Two.", days=3) == "a"
    assert (await agent.memory.info("a")).retention_days == 3


async def test_a_request_in_progress_is_moved_by_a_later_one(agent: Agent) -> None:
    provider, hello = OpenAI(), {"model": "m", "tools": [{"type": "function"}], "messages": [SYSTEM, user("Hello.")]}
    sent = await agent.tracker.compact(agent.memory, "", provider, hello, OPTIONS, [], agent.early)
    messages = [user("Hello.")]
    assert await agent.request(["a"], messages, "Two.") == "a"
    assert agent.moved == []
    await agent.tracker.store_answer(agent.memory, sent.conversation, [NewTurn("assistant", "One.")])
    agent.early.end_request(sent.conversation.conversation_id)
    messages.append(user("Go on."))
    assert await agent.request(["a"], messages, "Three.") == "a"
    await agent.tracker.move_early(agent.memory, "", ["a"], agent.early)
    assert agent.moved == []  # "One." is not the session's


async def test_a_request_that_ended_late_is_moved_to_the_session_that_repeats_it(agent: Agent) -> None:
    provider, hello = OpenAI(), {"model": "m", "tools": [{"type": "function"}], "messages": [SYSTEM, user("Hello.")]}
    sent = await agent.tracker.compact(agent.memory, "", provider, hello, OPTIONS, [], agent.early)
    messages = [user("Hello."), {"role": "assistant", "content": "One."}, user("Go on.")]
    assert await agent.request(["a"], messages, "Two.") == "a"
    await agent.tracker.store_answer(agent.memory, sent.conversation, [NewTurn("assistant", "One.")])
    agent.early.end_request(sent.conversation.conversation_id)
    messages.append(user("Once more."))
    assert await agent.request(["inner", "a"], messages, "Three.") == "a"
    assert agent.moved == [(sent.conversation.conversation_id, "a")]
    assert await agent.conversations() == ["a"]
    assert await agent.words("a") == ["Hello.", "One.", "Go on.", "Two.", "Once more.", "Three."]


async def test_several_conversations_before_the_first_hook_are_moved(agent: Agent) -> None:
    first, second = [user("Hello.")], [user("Search.")]
    before = [await agent.request([], first, "One."), await agent.request([], second, "Found.")]
    for messages in (first, second):
        messages.append(user("Go on."))
    assert await agent.request(["a"], first, "Two.") == "a"
    assert await agent.request(["b", "a"], second, "Three.") == "b"
    assert agent.moved == [(before[0], "a"), (before[1], "b")]
    assert sorted(await agent.conversations()) == ["a", "b"]


async def test_a_failure_to_move_a_request_is_only_logged_and_not_repeated(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    messages, agent.failure = [user("Hello.")], StoreUnavailable("The disk is full.", "Free some.")
    await agent.request([], messages, "One.")
    for words in ("Two.", "Three."):
        messages.append(user("Go on."))
        assert await agent.request(["a"], messages, words) == "a"
    assert await agent.words("a") == ["Hello.", "One.", "Go on.", "Two.", "Go on.", "Three."]
    assert [record.levelname for record in caplog.records].count("WARNING") == 1


async def test_a_request_whose_conversation_was_forgotten_is_not_remembered(agent: Agent) -> None:
    before = await agent.request([], [user("Hello.")], "One.")
    await agent.memory.forget(before, before)
    assert await agent.request(["a"], [user("Hello.")], "Two.") == "a"
    assert len(agent.early) == 0
    assert await agent.words("a") == ["Hello.", "Two."]


async def test_a_conversation_that_is_forgotten_while_it_is_read_is_not_moved(agent: Agent) -> None:
    await agent.request([], [user("Hello.")], "One.")
    await agent.memory.sync([NewTurn("user", "Hello.")], conversation_id="a")
    forgetting: Any = _ForgettingMemory(agent.memory)
    await agent.tracker.move_early(forgetting, "", ["a"], agent.early)
    assert await agent.words("a") == ["Hello."]
    assert agent.moved == []
    assert len(agent.early) == 0


class _ForgettingMemory:
    """A memory whose conversations are forgotten as soon as one of their branches was read."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def __getattr__(self, name: str) -> Any:
        return getattr(self._memory, name)

    async def history(self, conversation_id: str, **options: Any) -> list[Turn]:
        found = await self._memory.history(conversation_id, **options)
        await self._memory.forget(conversation_id, conversation_id)
        return found


@pytest.mark.parametrize("current", ["One.", "Again."])
async def test_at_the_runs_end_a_longer_transcript_stays_the_current_branch(agent: Agent, current: str) -> None:
    for answer in ("One.", "Again."):
        await agent.request([], [user("Hello.")], answer)
    captured = ["Hello.", current, "More.", "Done."]
    transcript = [NewTurn("assistant" if i % 2 else "user", words) for i, words in enumerate(captured)]
    await agent.memory.sync(transcript, conversation_id="a")
    await agent.tracker.move_early(agent.memory, "", ["a"], agent.early)
    assert await agent.conversations() == ["a"]
    assert await agent.words("a") == captured
    (other,) = {"One.", "Again."} - {current}
    assert sorted(turn.content for turn in await agent.memory.branches("a")) == sorted(["Done.", other])


@pytest.mark.parametrize("captured", [["Hello."], ["Hello.", "One."], ["Hello.", "One.", "More."]])
async def test_at_the_runs_end_the_session_has_the_requests_that_no_other_followed(
    agent: Agent, captured: list[str]
) -> None:
    before = await agent.request([], [user("Hello.")], "One.")
    assert before != "a"
    transcript = [NewTurn("assistant" if i % 2 else "user", words) for i, words in enumerate(captured)]
    await agent.memory.sync(transcript, conversation_id="a")
    await agent.tracker.move_early(agent.memory, "", ["none", "a"], agent.early)
    assert await agent.conversations() == ["a"]
    assert await agent.words("a") == (captured if len(captured) > 1 else ["Hello.", "One."])


async def test_a_context_that_is_stored_before_the_prompt_begins_the_session(agent: Agent) -> None:
    context = NewTurn("system", "<session_context>\nThe folder.\n</session_context>", "injected")
    await agent.memory.sync([context], conversation_id="a")
    assert await agent.request(["a"], [user("Hello.")], "One.") == "a"
    assert await agent.words("a") == [context.content, "Hello.", "One."]


@pytest.mark.parametrize(
    ("provider", "turn", "expected"),
    [
        (OpenAI(), NewTurn("user", "<current_datetime>now</current_datetime>\n\nGo."), NewTurn("user", "Go.")),
        (OpenAI(), NewTurn("user", "It is <current_datetime>."), NewTurn("user", "It is <current_datetime>.")),
        (
            OpenAI(),
            NewTurn("assistant", '{"a": [1, 2]}', "ls", call_id="c"),
            NewTurn("assistant", '{"a":[1,2]}', "ls", call_id="c"),
        ),
        (
            OpenAI(),
            NewTurn("assistant", '{"a": 1', "ls", call_id="c"),
            NewTurn("assistant", '{"a": 1', "ls", call_id="c"),
        ),
        (OpenAI(), NewTurn("assistant", '{"a": 1}'), NewTurn("assistant", '{"a": 1}')),
        (Gemini(), NewTurn("tool", "x", "ls", call_id="c"), NewTurn("tool", "x", "ls", call_id="ls__c")),
        (Gemini(), NewTurn("tool", "x", "ls", call_id="ls__c"), NewTurn("tool", "x", "ls", call_id="ls__c")),
        (Gemini(), NewTurn("user", "x"), NewTurn("user", "x")),
    ],
)
async def test_turns_are_as_in_the_agents_transcripts(provider: Provider, turn: NewTurn, expected: NewTurn) -> None:
    assert provider.as_in_transcript(turn) == expected


async def test_what_qwen_code_says_about_the_folder_is_not_the_users(agent: Agent) -> None:
    context = user("This is the Qwen Code. We are setting up the context for our chat.\nThe folder is empty.")
    messages = [context, {"role": "assistant", "content": "Got it. Thanks for the context!"}, user("Hello.")]
    await agent.request(["a"], messages, "One.")
    messages.append(user("Go on."))
    await agent.request(["a"], messages, "Two.")
    assert await agent.words("a") == ["Hello.", "One.", "Go on.", "Two."]


async def test_opencodes_request_for_a_title_is_no_conversation() -> None:
    system = {"role": "system", "content": "You are a title generator. You output ONLY a thread title."}
    messages = [system, user("Generate a title for this conversation:\n"), user("Hello.")]
    assert is_side_request({"messages": messages}, OpenAI(), requested=False)
    assert not is_side_request({"messages": messages}, OpenAI(), requested=True)
    assert not is_side_request({"messages": [SYSTEM, *messages[1:]]}, OpenAI(), requested=False)


def run_hook(data: Path, event: Json, run: str | None) -> None:
    command = [sys.executable, "-m", "ctxmem_mcp", "hook", "qwen-code", "--data-dir", str(data)]
    environ = {**os.environ, "CTXMEM_RUN": run or ""}
    done = subprocess.run(command, input=json.dumps(event), env=environ, capture_output=True, text=True, check=True)
    assert done.stderr == ""


async def test_hooks_record_the_sessions_of_a_run(tmp_path: Path) -> None:
    prompt = {"hook_event_name": "UserPromptSubmit", "prompt": "Hello."}
    run_hook(tmp_path, {**prompt, "session_id": "a"}, None)
    assert not (tmp_path / run_sessions.FOLDER).exists()
    run_hook(tmp_path, {**prompt, "session_id": "a"}, "r1")
    run_hook(tmp_path, {**prompt, "session_id": "b"}, "r1")
    run_hook(tmp_path, {"hook_event_name": "Stop", "session_id": "a"}, "r1")
    run_hook(tmp_path, {**prompt, "session_id": "inner", "agent_id": "s"}, "r1")
    assert run_sessions.read(str(tmp_path), "r1") == ["b", "a"]
    run_hook(tmp_path, {**prompt, "session_id": "a"}, "r1")
    assert run_sessions.read(str(tmp_path), "r1") == ["a", "b"]
    run_hook(tmp_path, {"hook_event_name": "PostToolUse", "session_id": "late"}, "r1")
    run_hook(tmp_path, {"hook_event_name": "Stop", "session_id": "late"}, "r1")
    assert run_sessions.read(str(tmp_path), "r1") == ["a", "b", "late"]
    run_hook(tmp_path, {**prompt, "session_id": "late"}, "r1")
    assert run_sessions.read(str(tmp_path), "r1") == ["late", "a", "b"]
    assert run_sessions.read(str(tmp_path), "r2") == []
    run_sessions.remove(str(tmp_path), "r1")
    assert run_sessions.read(str(tmp_path), "r1") == []
