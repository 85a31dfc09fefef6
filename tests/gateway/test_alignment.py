"""A client that re-serialises arguments or drops reasoning makes no branch; the stored bytes stay."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.http_api.gateway.alignment import align, is_same_turn
from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

OPTIONS = MemoryOptions(True, "m")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def call(arguments: str) -> NewTurn:
    return NewTurn("assistant", arguments, "run", call_id="c")


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4))
def test_arguments_are_compared_by_value(arguments: dict[str, Any]) -> None:
    backwards = dict(reversed(arguments.items()))
    assert is_same_turn(
        call(json.dumps(arguments, indent=2)), call(json.dumps(backwards, ensure_ascii=False, separators=(",", ":")))
    )


@given(JSON, JSON)
def test_other_values_are_other_arguments(a: Any, b: Any) -> None:
    same = json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    assert is_same_turn(call(json.dumps({"x": a})), call(json.dumps({"x": b}, indent=1))) == same


def test_only_a_calls_arguments_are_json() -> None:
    assert not is_same_turn(NewTurn("user", '{"a": 1}'), NewTurn("user", '{"a":1}'))
    assert not is_same_turn(
        NewTurn("tool", '{"a": 1}', "run", call_id="c"), NewTurn("tool", '{"a":1}', "run", call_id="c")
    )
    assert not is_same_turn(call('{"a": '), call('{"a":'))


TURNS = st.lists(
    st.builds(NewTurn, st.just("user"), st.sampled_from("abc"))
    | st.builds(NewTurn, st.just("system"), st.sampled_from("abc"), st.just(INJECTED))
    | st.builds(NewTurn, st.just("assistant"), st.sampled_from("abc"), st.sampled_from((None, THINKING))),
    max_size=8,
)


@given(TURNS, TURNS)
def test_an_alignment_keeps_every_turn_of_the_client_in_order(sent: list[NewTurn], stored: list[NewTurn]) -> None:
    found = align(sent, stored)
    assert [found.turns[position] for position in found.positions] == sent
    assert list(found.turns[: found.known]) == stored[: found.known]
    extra = [turn for i, turn in enumerate(found.turns) if i not in found.positions]
    assert all(turn.name in (THINKING, INJECTED) for turn in extra)


@given(TURNS)
def test_turns_without_their_reasoning_are_known(stored: list[NewTurn]) -> None:
    sent = [turn for turn in stored if turn.name != THINKING]
    found = align(sent, stored)
    assert list(found.turns) == stored[: len(found.turns)]


# ---------------------------------------------------------------- through the tracker


def answer(step: int) -> dict[str, Any]:
    """An answer of a model that reasons and calls a tool."""
    function = {"name": "run", "arguments": f'{{"command": "ls {step}", "n": {step}}}'}
    calls = [{"id": f"call_{step}", "type": "function", "function": function}]
    return {"role": "assistant", "content": None, "reasoning_content": f"thought {step}", "tool_calls": calls}


def as_sent_back(message: dict[str, Any]) -> dict[str, Any]:
    """The message as a client sends it: without reasoning, the arguments serialised again."""
    again: dict[str, Any] = json.loads(
        json.dumps({name: value for name, value in message.items() if name != "reasoning_content"})
    )
    for one in again.get("tool_calls", ()):
        arguments = json.loads(one["function"]["arguments"])
        one["function"]["arguments"] = json.dumps(dict(reversed(arguments.items())), separators=(",", ":"))
    return again


@settings(max_examples=10)
@given(st.sets(st.integers(0, 11)), st.sampled_from((1_000_000, 4_000)))
def test_a_session_is_one_line_whatever_its_client_serialises(restarts: set[int], budget: int) -> None:
    async def session() -> None:
        store, provider = InMemoryStore(), OpenAI()
        messages: list[dict[str, Any]] = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Go."},
        ]
        for step in range(12):
            if step in restarts or not step:
                memory, tracker = Memory(store, ExtractiveSummarizer()), ConversationTracker(budget, "o200k_base")
            done = await tracker.compact(memory, "", provider, {"model": "m", "messages": messages}, OPTIONS)
            turns = provider.parse_response({"choices": [{"message": answer(step)}]})
            await tracker.store_answer(memory, done.conversation, turns)
            result = {"role": "tool", "tool_call_id": f"call_{step}", "content": f"{step} fine\n" * 200}
            messages += [as_sent_back(answer(step)), result]
        (conversation,) = (await memory.conversations()).conversations
        assert conversation.branches == 1
        stored = await memory.turns(conversation.conversation_id)
        assert [t.content for t in stored if t.name == THINKING] == [f"thought {i}" for i in range(12)]
        exact = [answer(i)["tool_calls"][0]["function"]["arguments"] for i in range(12)]
        assert [t.content for t in stored if t.name == "run"] == exact

    asyncio.run(session())


def test_streamed_reasoning_is_a_thought() -> None:
    assembler = OpenAI().assembler()
    for delta in ({"reasoning_content": "I th"}, {"reasoning_content": "ink."}, {"content": "Yes."}):
        assembler.add({"choices": [{"index": 0, "delta": delta}]})
    assembler.add({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    assert assembler.turns() == [NewTurn("assistant", "I think.", THINKING), NewTurn("assistant", "Yes.")]


def test_a_chat_is_stored_that_begins_like_a_forgotten_one() -> None:
    async def chat() -> None:
        memory = Memory(InMemoryStore(), ExtractiveSummarizer())
        forgotten = await memory.sync([NewTurn("user", "Hi"), NewTurn("assistant", "Hello. The key is 4711.")])
        await memory.forget(forgotten.conversation_id, forgotten.conversation_id)
        messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What can I do?"}]
        body = {"model": "m", "messages": [*messages, {"role": "user", "content": "Sort."}]}
        done = await ConversationTracker(4_000, "o200k_base").compact(memory, "", OpenAI(), body, OPTIONS)
        stored = await memory.turns(done.conversation.conversation_id)
        assert [turn.content for turn in stored] == ["Hi", "What can I do?", "Sort."]

    asyncio.run(chat())
