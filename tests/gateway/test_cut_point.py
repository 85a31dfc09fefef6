"""The cut of a conversation: calls and results stay together, and the cut rarely moves."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.conversation import Head, TokenCounter
from ctxmem_mcp.http_api.gateway.cut_point import (
    HEAD_SHARE,
    MessageFacts,
    Pin,
    cut_states,
    find_cut,
    keeps_pairs_together,
)
from ctxmem_mcp.http_api.gateway.openai import OpenAI

BUDGET = 4_000
TOKENS = TokenCounter("o200k_base")


@st.composite
def histories(draw: st.DrawFn) -> list[MessageFacts]:
    """Prompts, answers, and calls whose results follow at once, later, in parts, twice, or never."""
    blocks: list[MessageFacts] = []
    waiting: list[str] = []
    for i in range(draw(st.integers(1, 40))):
        tokens = draw(st.sampled_from((5, 60, 400, 1_500, 6_000)))
        kind = draw(st.sampled_from(("prompt", "answer", "call", "call", "result", "result", "result without id")))
        if kind == "call":
            ids = [f"c{i}.{n}" for n in range(draw(st.integers(1, 3)))]
            waiting += ids
            blocks.append(MessageFacts(tokens, calls=frozenset(ids)))
        elif kind == "result" and waiting:
            call = waiting.pop(draw(st.integers(0, len(waiting) - 1)))
            if draw(st.booleans()):
                waiting.append(call)
            blocks.append(MessageFacts(tokens, results=frozenset((call,)), is_result=True))
        elif kind == "result without id" and blocks:
            blocks.append(MessageFacts(tokens, is_result=True))
        else:
            blocks.append(MessageFacts(tokens, is_prompt=kind == "prompt"))
    return blocks


@given(histories())
def test_a_call_and_its_results_are_on_the_same_side(blocks: list[MessageFacts]) -> None:
    for end in range(1, len(blocks) + 1):
        cut = find_cut(blocks[:end], BUDGET)
        if cut is None:
            continue
        assert 0 < cut.start < end
        before = {call for block in blocks[: cut.start] for call in block.calls}
        after = {call for block in blocks[cut.start : end] for call in block.calls}
        assert not any((block.results - after) & before for block in blocks[cut.start : end])
        assert not blocks[cut.start].is_result
        assert keeps_pairs_together(blocks[:end], cut.start)


@given(histories())
def test_messages_that_fit_are_never_cut(blocks: list[MessageFacts]) -> None:
    if sum(block.tokens for block in blocks) <= BUDGET:
        assert find_cut(blocks, BUDGET) is None


def _session(requests: int) -> list[MessageFacts]:
    blocks = [MessageFacts(40, is_prompt=True)]
    for i in range(requests):
        blocks.append(MessageFacts(50, calls=frozenset((f"c{i}",))))
        blocks.append(MessageFacts(150, results=frozenset((f"c{i}",)), is_result=True))
    return blocks


def test_the_cut_moves_rarely_and_only_forward() -> None:
    blocks = _session(300)
    cuts = [find_cut(blocks[:end], 16_000) for end in range(1, len(blocks) + 1, 2)]
    moves = [after for before, after in pairwise(cuts) if before != after]
    assert 4 <= len(moves) <= 9
    assert [cut.start for cut in moves if cut] == sorted({cut.start for cut in moves if cut})


def test_the_view_and_the_unchanged_messages_fit_the_budget() -> None:
    blocks = _session(300)
    for end in range(1, len(blocks) + 1, 2):
        cut = find_cut(blocks[:end], 16_000)
        start = cut.start if cut else 0
        pinned = cut.pinned_tokens if cut else 0
        view = cut.view_tokens if cut else 0
        assert view + pinned + sum(block.tokens for block in blocks[start:end]) <= 16_000


def test_the_prompt_being_worked_on_is_pinned() -> None:
    cut = find_cut(_session(300), 16_000)
    assert cut is not None
    assert cut.pins == (Pin(0, 40),)
    assert cut.prompt == 0
    assert not _session(300)[cut.start].is_prompt


def test_of_a_long_prompt_only_a_part_is_pinned() -> None:
    cut = find_cut([MessageFacts(5_000, is_prompt=True), *_session(300)[1:]], 16_000)
    assert cut is not None
    assert cut.pins == (Pin(0, 3_000),)


def test_the_task_the_instructions_and_a_pasted_text_are_pinned() -> None:
    first = MessageFacts(6_000, is_prompt=True, prompt_tokens=900, instructions_tokens=1_500)
    later = [MessageFacts(size, is_prompt=True) for size in (20, 700, 30, 25)]
    cut = find_cut([first, *_session(60)[1:], *later, *_session(60)[1:]], 16_000)
    assert cut is not None
    at = len(_session(60))
    assert cut.pins == (Pin(0, 1_500, is_instructions=True), Pin(0, 900), Pin(at + 1, 700), Pin(at + 3, 25))


@given(histories(), st.sampled_from((2_000, 4_000, 8_000, 20_000)))
def test_the_pins_leave_room_for_the_view_and_the_rest(blocks: list[MessageFacts], budget: int) -> None:
    cut = find_cut(blocks, budget)
    if cut is not None:
        assert cut.pinned_tokens <= 0.71 * budget
        assert cut.view_tokens >= 0.14 * budget
        assert [pin.message for pin in cut.pins] == sorted(pin.message for pin in cut.pins)
        assert all(pin.message < cut.start for pin in cut.pins)


@given(histories(), st.sampled_from((2_000, 4_000, 8_000)))
def test_a_moved_cut_adds_a_part_or_begins_a_new_view(blocks: list[MessageFacts], budget: int) -> None:
    cuts = [cut for end in range(1, len(blocks) + 1) if (cut := cut_states(blocks[:end], budget, ())[-1].cut)]
    for before, after in pairwise(cuts):
        assert len(after.parts) == 1 or after.parts[: len(before.parts)] == before.parts
        assert [part.end for part in after.parts] == sorted({part.end for part in after.parts})
        if len(after.parts) > 1:
            assert after.head_tokens <= HEAD_SHARE * budget


def test_most_moves_add_a_part() -> None:
    blocks = _session(600)
    cuts = [find_cut(blocks[:end], 16_000) for end in range(1, len(blocks) + 1, 2)]
    moves = [after for before, after in pairwise(cuts) if before != after]
    assert sum(len(cut.parts) > 1 for cut in moves if cut) >= 3 * sum(len(cut.parts) == 1 for cut in moves if cut)


def test_instructions_that_appear_later_begin_a_new_view() -> None:
    late = MessageFacts(300, is_prompt=True, prompt_tokens=20, instructions_tokens=200)
    blocks = [*_session(60), late, *_session(60)[1:]]
    cut = find_cut(blocks, 16_000)
    assert cut is not None
    assert Pin(len(_session(60)), 200, is_instructions=True) in cut.parts[0].pins


# ---------------------------------------------------------------- in both APIs' formats

_TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@st.composite
def openai_messages(draw: st.DrawFn) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": draw(_TEXTS)}]
    for i in range(draw(st.integers(1, 25))):
        messages.append({"role": "user", "content": draw(_TEXTS) * draw(st.sampled_from((1, 200)))})
        for n in range(draw(st.integers(0, 3))):
            ids = [f"{i}.{n}.{k}" for k in range(draw(st.integers(1, 3)))]
            calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
            messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            results = [{"role": "tool", "tool_call_id": id, "content": draw(_TEXTS) * 100} for id in ids]
            messages += results if draw(st.integers(0, 9)) else results[:-1]
        messages.append({"role": "assistant", "content": draw(_TEXTS)})
    return messages[: draw(st.integers(2, len(messages)))]


@given(openai_messages())
def test_a_compacted_request_keeps_calls_before_results_and_its_last_messages(messages: list[dict[str, Any]]) -> None:
    provider = OpenAI()
    cut = find_cut(provider.parse_request({"messages": messages}, TOKENS).facts, BUDGET)
    if cut is None:
        return
    body = provider.compact_request({"model": "m", "messages": messages}, cut, Head((), (), "view"))
    rest = messages[1 + cut.start :]
    assert body["messages"][0] == messages[0]
    if rest[0]["role"] == "user":  # joined with the view
        assert body["messages"][1]["content"].endswith("\n\n" + rest[0]["content"])
        rest = rest[1:]
    assert body["messages"][len(body["messages"]) - len(rest) :] == rest
    called: set[str] = set()
    for message in body["messages"]:
        called |= {call["id"] for call in message.get("tool_calls", ())}
        assert message["role"] != "tool" or message["tool_call_id"] in called


@given(openai_messages())
def test_cache_marks_do_not_change_the_conversation(messages: list[dict[str, Any]]) -> None:
    user_messages = [
        {"role": "user", "content": [{"type": "text", "text": m["content"]}]} for m in messages if m["role"] == "user"
    ]
    if not user_messages:
        return
    marked = json.loads(json.dumps(user_messages))
    marked[-1]["content"][0]["cache_control"] = {"type": "ephemeral"}
    plain = Anthropic().parse_request({"system": "s", "messages": user_messages}, TOKENS)
    assert Anthropic().parse_request({"system": [{"type": "text", "text": "s"}], "messages": marked}, TOKENS) == plain
    assert plain.fingerprint() == Anthropic().parse_request({"system": "s", "messages": marked}, TOKENS).fingerprint()
