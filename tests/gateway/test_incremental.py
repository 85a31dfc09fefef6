"""What is remembered between requests changes nothing: results are those of a gateway that remembers nothing."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.compaction import Compacted, ConversationTracker
from ctxmem_mcp.http_api.gateway.conversation import TokenCounter
from ctxmem_mcp.http_api.gateway.gemini import Gemini
from ctxmem_mcp.http_api.gateway.incremental_json import CHARS_MIN, BodyParser
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.prefix import GroupCache, PrefixCache, shared_text
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.http_api.gateway.responses import Responses
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

Json = dict[str, Any]
OPTIONS = MemoryOptions(True, "m")
PADDING = "x" * CHARS_MIN
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def bodies(draw: st.DrawFn) -> list[bytes]:
    """Bodies of one client: each repeats a beginning of the last, with or without blanks, and goes on.

    What is before the list, its first item and one in the middle may differ.
    """
    name = draw(st.sampled_from(["messages", "input", "contents"]))
    after = {"tools": draw(VALUES)}
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]))
    items, found = list[Any](), list[bytes]()
    for _ in range(draw(st.integers(1, 5))):
        items = items[: draw(st.integers(0, len(items)))] + draw(st.lists(VALUES, max_size=4))
        for at in draw(st.lists(st.integers(0, 5), max_size=2)):
            items[at : at + 1] = draw(st.lists(VALUES, min_size=1, max_size=1))
        before = {"model": "m", "system": PADDING + draw(st.sampled_from(["", "", "1", "22"]))}
        body = {**before, name: items, **draw(st.sampled_from([after, {}, {"model": "n"}]))}
        text = json.dumps(body, separators=separators, ensure_ascii=draw(st.booleans()))
        broken = [text + " ", text[:-1], text + "]", text.replace("[", "[,", 1)]
        found.append(draw(st.sampled_from([text, text, text, *broken])).encode("utf-8", "surrogatepass"))
    return found


@settings(max_examples=150, deadline=None)
@given(bodies())
def test_bodies_are_parsed_as_if_each_were_the_first(found: list[bytes]) -> None:
    parser = BodyParser()
    for content in found:
        try:
            expected = json.loads(content)
        except ValueError:
            expected = None
        assert parser.parse(content) == expected


def test_messages_after_another_system_prompt_are_the_same_objects() -> None:
    messages = [{"role": "user", "content": f"Look at file {i}."} for i in range(400)]
    for in_list in (True, False):
        parser, before = BodyParser(), list[Any]()
        for number in (1, 22, 333):
            system = f"You are an agent. It is {number}. {PADDING}"
            more = [{"role": "user", "content": str(i)} for i in range(number)]
            fields = {"model": "m"} if in_list else {"model": "m", "system": system}
            first = [{"role": "system", "content": system}] if in_list else []
            body = parser.parse(json.dumps({**fields, "messages": [*first, *messages, *more]}).encode())
            assert body is not None
            found = body["messages"][len(first) : len(first) + 400]
            assert found == messages
            # The last message of the request before is parsed again.
            assert all(a is b for a, b in zip(before, found[:399], strict=False))
            before = found


def test_a_field_that_stands_twice_counts_last_and_other_encodings_are_read() -> None:
    parser = BodyParser()
    for text in (
        f'{{"messages":[1],"x":"{PADDING}","messages":[2]}}', f'{{"messages":"{PADDING}","messages":[1]}}',
        f'{{"messages":[1] "x":"{PADDING}"}}', f'{{"messages":[1],"x":"{PADDING}",}}', f'["{PADDING}"]', "{}",
    ):  # fmt: skip
        for content in (text.encode(), text.encode("utf-16"), text.encode("utf-8-sig")):
            try:
                expected = json.loads(content)
            except ValueError:
                expected = None
            assert parser.parse(content) == (expected if isinstance(expected, dict) else None)


@given(st.text(), st.text(), st.text(), st.integers(0, 70_000))
def test_what_texts_have_in_common(shared: str, a: str, b: str, padding: int) -> None:
    first, second = ("x" * padding + shared + rest for rest in (a, b))
    found = shared_text(first, second)
    assert first[:found] == second[:found]
    assert found == min(len(first), len(second)) or first[found] != second[found]


@given(st.lists(st.lists(st.booleans(), max_size=9), min_size=1, max_size=6), st.data())
def test_groups_are_those_of_the_whole_list(parts: list[list[bool]], data: st.DataObject) -> None:
    cache: GroupCache[int] = GroupCache()
    items: list[list[bool]] = []
    for part in parts:
        items = items[: data.draw(st.integers(0, len(items)))] + [[flag] for flag in part]
        joins = lambda a, b: a[0] and b[0]  # noqa: E731
        assert cache.split(items, joins) == GroupCache[int]().split(items, joins)
        groups = cache.split(items, joins)
        assert [item for group in groups for item in group] == items
        assert cache.map(groups, len) == [len(group) for group in groups]


def test_results_are_computed_once_while_a_list_grows() -> None:
    cache, computed = PrefixCache[int](), list[int]()
    items = [object() for _ in range(9)]

    def compute(at: int) -> int:
        computed.append(at)
        return at

    for end in (3, 5, 9):
        assert cache.map(items[:end], compute) == list(range(end))
    assert computed == list(range(9))


def session(rounds: int) -> list[Json]:
    messages: list[Json] = []
    for i in range(rounds):
        call = {"id": f"c{i}", "type": "function", "function": {"name": "read", "arguments": f'{{"n":{i}}}'}}
        messages += [
            {"role": "user", "content": f"Look at file {i}."},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{i}", "content": f"token{i} failed\n" * 60},
            {"role": "assistant", "content": f"File {i} is fixed."},
        ]
    return messages


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), min_size=2, max_size=6))
def test_requests_that_repeat_edit_or_shorten_each_other_are_compacted_as_by_a_new_gateway(
    steps: list[tuple[int, int]],
) -> None:
    """Each step returns to an earlier message, and goes on from there with other words."""

    async def check() -> None:
        parser, kept = BodyParser(), ConversationTracker(4_000, "o200k_base")
        memory, provider = Memory(InMemoryStore(), ExtractiveSummarizer()), OpenAI()
        messages = session(30)
        for number, (back, more) in enumerate(steps):
            messages = messages[: max(1, len(messages) - back)]
            messages = messages + [{**one, "content": f"{one['content']} ({number})"} for one in session(more)]
            content = json.dumps({"model": "m", "messages": messages}).encode()
            body = parser.parse(content)
            assert body is not None
            done = await kept.compact(memory, "", provider, body, OPTIONS)
            new = Memory(InMemoryStore(), ExtractiveSummarizer())
            fresh = await ConversationTracker(4_000, "o200k_base").compact(
                new, "", OpenAI(), json.loads(content), OPTIONS
            )
            assert _sizes(done) == _sizes(fresh)
            turns = await memory.turns(done.conversation.conversation_id, turn_id=done.conversation.turn_ids[-1])
            assert [turn.id for turn in turns] == list(done.conversation.turn_ids)
            assert [turn.content for turn in turns] == [turn.content for turn in fresh.conversation.turns]

    asyncio.run(check())


def _sizes(done: Compacted) -> tuple[object, ...]:
    first = None if done.body is None else done.body["messages"][1:]
    return done.tokens_in, done.cut, first


class CountingAnthropic(Anthropic):
    """Counts the turns that are converted to a transcript's form."""

    def __init__(self) -> None:
        super().__init__()
        self.converted = 0

    def as_in_transcript(self, turn: NewTurn) -> NewTurn:
        self.converted += 1
        return super().as_in_transcript(turn)


def test_of_a_sessions_next_request_only_what_is_new_is_aligned_although_its_system_prompt_differs() -> None:
    async def check() -> None:
        parser, kept, provider = BodyParser(), ConversationTracker(10**6, "o200k_base"), CountingAnthropic()
        memory, messages = Memory(InMemoryStore(), ExtractiveSummarizer()), list[Json]()
        for number in range(4):
            for i in range(20 if not number else 1):
                messages = [
                    *messages,
                    {"role": "user", "content": f"Look at file {number} {i}."},
                    {"role": "assistant", "content": f"File {number} {i} is fixed. {PADDING}"},
                ]
            system = [{"type": "text", "text": f"cch={number};"}, {"type": "text", "text": "You are an agent."}]
            content = json.dumps({"model": "m", "messages": messages, "tools": [{"name": "Read"}], "system": system})
            body = parser.parse(content.encode())
            assert body is not None
            before = provider.converted
            done = await kept.compact(memory, "", provider, body, OPTIONS, ["s-1"])
            # The last message of the request before is parsed again.
            assert provider.converted - before == (2 + 40 if not number else 3)
            assert done.conversation.conversation_id == "s-1"
            fresh = await ConversationTracker(10**6, "o200k_base").compact(
                memory, "", Anthropic(), json.loads(content), OPTIONS, ["s-1"]
            )
            assert done.conversation.positions == fresh.conversation.positions
            assert done.conversation.turn_ids == fresh.conversation.turn_ids
            assert (done.tokens_in, done.tokens_sent) == (fresh.tokens_in, fresh.tokens_sent)
        # Without one of its two texts, all turns are at other places.
        shorter = {"model": "m", "system": "You are an agent.", "tools": [{"name": "Read"}], "messages": messages}
        last = await kept.compact(memory, "", provider, shorter, OPTIONS, ["s-1"])
        assert len(last.conversation.positions) == len(done.conversation.positions) - 1
        assert last.conversation.turn_ids == done.conversation.turn_ids

    asyncio.run(check())


PROVIDERS: list[tuple[Provider, str, Json, Json]] = [
    (OpenAI(), "messages", {"role": "user", "content": "Go on."}, {"role": "assistant", "content": "a " * 200}),
    (Anthropic(), "messages", {"role": "user", "content": "Go on."}, {"role": "assistant", "content": "a " * 200}),
    (Responses(), "input", {"role": "user", "content": "Go on."}, {"role": "assistant", "content": "a " * 200}),
    (
        Gemini(), "contents", {"role": "user", "parts": [{"text": "Go on."}]},
        {"role": "model", "parts": [{"text": "a " * 200}]},
    ),
]  # fmt: skip


def test_the_work_for_a_request_does_not_grow_with_the_history() -> None:
    """A hundred messages are parsed in any case; after forty times as many, it would take forty times as long."""
    for provider, name, prompt, answer in PROVIDERS:
        tokens, parser = TokenCounter("o200k_base"), BodyParser()
        seconds = {length: _seconds(provider, name, prompt, answer, length, tokens, parser) for length in (100, 4_000)}
        assert seconds[4_000] < 8 * seconds[100] + 0.02, (type(provider).__name__, seconds)


def _seconds(
    provider: Provider, name: str, prompt: Json, answer: Json, length: int, tokens: TokenCounter, parser: BodyParser
) -> float:
    """The processor time of a request that adds two messages to so many; the least of five."""
    messages = [prompt, answer] * (length // 2)
    times: list[float] = []
    for _ in range(6):
        messages = [*messages, prompt, answer]
        content = json.dumps({"model": "m", name: messages}).encode()
        began = time.process_time()
        body = parser.parse(content)
        assert body is not None
        request = provider.parse_request(body, tokens)
        times.append(time.process_time() - began)
        assert len(request.messages) == len(messages)
    return min(times[1:])
