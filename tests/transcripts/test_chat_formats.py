"""Every chat format: all words of any chat are read once, in order, by their author; damage costs only what it hits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import HEAD_CHARS, Transcript
from tests.transcripts.chats import ENCODERS, Encoder, Step, lines

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda s: s.strip()
)
by_format = pytest.mark.parametrize("encoder", ENCODERS, ids=[f"{e.agent}-{e.encode.__name__}" for e in ENCODERS])
by_lines = pytest.mark.parametrize(
    "encoder", [e for e in ENCODERS if e.suffix == ".jsonl"], ids=lambda e: e.encode.__name__
)


def steps_of(encoder: Encoder) -> st.SearchStrategy[list[Step]]:
    step = st.builds(Step, st.sampled_from(encoder.kinds), words.map(lambda text: f"w {text}"), words)
    return st.lists(step, min_size=1, max_size=8).map(lambda steps: [Step("user", "Hello there."), *steps])


def expected(steps: list[Step]) -> Iterator[tuple[str, str, str]]:
    for step in steps:
        role = "user" if step.kind == "user" else "assistant"
        kind = {"thinking": THINKING, "call": "run"}.get(step.kind, "")
        yield role, kind, step.text
        if step.kind == "call":
            yield "tool", "run", step.result


def parsed(text: str, suffix: str) -> Transcript:
    """Returns the only conversation in a file."""
    found = registry.parse(text, f"chat{suffix}")
    return found if found.turns or not found.threads else found.threads[0]


def brief(turn: NewTurn) -> tuple[str, str, str]:
    is_speaker = turn.name in ("Mara", "Ithil")
    is_openhands = turn.name == "run" and turn.content.startswith('{"command":')
    content = json.loads(turn.content)["command"] if is_openhands else turn.content
    return turn.role, "" if turn.name is None or is_speaker else turn.name, content


def own_turns(transcript: Transcript, encoder: Encoder) -> list[tuple[str, str, str]]:
    turns = [brief(turn) for turn in transcript.turns]
    return turns[2:] if encoder.agent == "grok" else turns  # its encoder begins with two of its own


@by_format
@given(st.data())
def test_every_word_is_read_once_and_in_order(encoder: Encoder, data: st.DataObject) -> None:
    steps = data.draw(steps_of(encoder))
    text = encoder.encode(steps)
    assert registry.parse(text, f"chat{encoder.suffix}").agent == encoder.agent
    transcript = parsed(text, encoder.suffix)
    assert own_turns(transcript, encoder) == [*expected(steps)]
    assert (transcript.warnings, transcript.unread, transcript.abandoned_branches) == ((), 0, ())
    calls = [turn.call_id for turn in transcript.turns if turn.role == "assistant" and turn.name == "run"]
    assert [turn.call_id for turn in transcript.turns if turn.role == "tool"] == calls
    assert None not in calls
    assert len({*calls}) == len(calls)


@by_format
@given(st.data())
def test_a_file_that_is_cut_off_gives_what_is_whole(encoder: Encoder, data: st.DataObject) -> None:
    steps = data.draw(steps_of(encoder))
    text = encoder.encode(steps)
    cut = data.draw(st.integers(len(text) // 2, len(text)))
    module = registry.detect_format(f"chat{encoder.suffix}", text[:HEAD_CHARS])
    assert module is not None
    found = module.parse(text[:cut], f"chat{encoder.suffix}")
    turns = own_turns(found if found.turns or not found.threads else found.threads[0], encoder)
    rest = iter(text for _, _, text in expected(steps))
    assert all(content in rest for _, _, content in turns[:-1] if content), "in order"


@by_lines
@given(st.data())
def test_broken_lines_nul_bytes_and_windows_line_ends_cost_only_themselves(
    encoder: Encoder, data: st.DataObject
) -> None:
    steps = data.draw(steps_of(encoder))
    rows = [row + "\n" for row in encoder.encode(steps).split("\n") if row]
    at = data.draw(st.integers(1, len(rows)))
    broken = data.draw(st.sampled_from(['{"type": "user", "mess\n', "\0\0\0\n", "\n", "no json\n", "[1, 2]\n"]))
    damaged = "\ufeff" + "".join([*rows[:at], broken, *rows[at:]]).replace("\n", "\r\n")
    assert own_turns(parsed(damaged, encoder.suffix), encoder) == [*expected(steps)]


# ---------------------------------------------------------------- what only some formats have


def contents(turns: tuple[NewTurn, ...]) -> list[str]:
    return [turn.content for turn in turns]


def test_other_answers_and_edited_messages_are_abandoned_branches() -> None:
    claude = [
        {"uuid": "a", "sender": "human", "text": "one", "parent_message_uuid": "00000000-0000-4000-8000-000000000000"},
        {"uuid": "b", "sender": "assistant", "text": "wrong", "parent_message_uuid": "a"},
        {"uuid": "c", "sender": "assistant", "text": "right", "parent_message_uuid": "a"},
    ]
    found = parsed(
        json.dumps({"uuid": "s", "name": "n", "current_leaf_message_uuid": "c", "chat_messages": claude}), ".json"
    )
    assert (contents(found.turns), [*map(contents, found.abandoned_branches)]) == (["one", "right"], [["one", "wrong"]])
    swipe = {"name": "I", "is_user": False, "mes": "b", "swipes": ["a", "b"], "swipe_id": 1}
    found = parsed(
        lines([{"user_name": "M", "character_name": "I"}, swipe, {"name": "M", "is_user": True, "mes": "c"}]), ".jsonl"
    )
    assert (contents(found.turns), [*map(contents, found.abandoned_branches)]) == (["b", "c"], [["a"]])
    rows = [
        {"sessionId": "s", "projectHash": "h"}, {"id": "1", "type": "user", "content": "one"},
        {"id": "2", "type": "gemini", "content": "two"}, {"id": "3", "type": "user", "content": "three"},
        {"id": "2", "type": "gemini", "content": "two, whole"}, {"$rewindTo": "3"}, {"id": "4", "type": "user",
        "content": "four"},
    ]  # fmt: skip
    found = parsed(lines(rows), ".jsonl")
    assert contents(found.turns) == ["one", "two, whole", "four"]
    assert [*map(contents, found.abandoned_branches)] == [["one", "two, whole", "three"]]


def test_what_a_compaction_left_out_stays() -> None:
    rows: list[dict[str, object]] = [
        {"sessionId": "s", "projectHash": "h"}, {"id": "1", "type": "user", "content": "the beginning"},
        {"$set": {"messages": [{"id": "9", "type": "user", "content": "a recap"}]}}, {"id": "5", "type": "gemini",
        "content": "on"},
    ]  # fmt: skip
    assert contents(parsed(lines(rows), ".jsonl").turns) == ["the beginning", "a recap", "on"]


def test_a_call_that_a_resume_of_gemini_cli_also_puts_into_the_content_is_one_call() -> None:
    call = {"id": "c1", "name": "ls", "args": {"dir": "/"}}
    result = [{"functionResponse": {"id": "c1", "name": "ls", "response": {"output": "bin"}}}]
    message = {"id": "2", "type": "gemini", "content": "I look.", "toolCalls": [{**call, "result": result}]}
    resumed = {**message, "content": [{"text": "I look."}, {"functionCall": call}]}
    echo = {"id": "2_response", "type": "user", "content": result}
    user = {"id": "1", "type": "user", "content": "Look."}
    rows: list[Any] = [
        {"sessionId": "s", "projectHash": "h"},
        user,
        message,
        {"$set": {"messages": [user, resumed, echo]}},
    ]
    found = parsed(lines(rows), ".jsonl")
    assert contents(found.turns) == ["Look.", "I look.", '{"dir":"/"}', "bin"]
    assert found.abandoned_branches == ()


def test_what_a_hook_of_gemini_cli_put_before_a_prompt_is_the_hosts() -> None:
    content = [{"text": "<hook_context>The port is 7412.</hook_context>\n\nWhich port?"}]
    rows: list[dict[str, object]] = [
        {"sessionId": "s", "projectHash": "h"}, {"id": "1", "type": "user", "content": content}
    ]  # fmt: skip
    assert [(turn.name, turn.content) for turn in parsed(lines(rows), ".jsonl").turns] == [
        (INJECTED, "<hook_context>The port is 7412.</hook_context>"), (None, "Which port?")
    ]  # fmt: skip


def test_what_a_program_added_to_the_users_words_is_the_hosts() -> None:
    data = {"content": "Fix it", "transformedContent": "<now>\n\nFix it\n<reminder>"}
    rows: list[dict[str, object]] = [
        {"type": "system.message", "data": {"content": "You are an assistant."}, "id": "a", "parentId": None},
        {"type": "user.message", "data": data, "id": "b", "parentId": "a"},
    ]
    found = parsed(lines(rows), ".jsonl")
    assert [(turn.role, turn.name) for turn in found.turns] == [
        ("system", INJECTED),
        ("system", INJECTED),
        ("user", None),
        ("system", INJECTED),
    ]
    attached = [{"file_name": "a.txt", "extracted_content": "words of the file"}]
    row = {"uuid": "a", "sender": "human", "text": "Read it", "attachments": attached}
    found = parsed(json.dumps({"uuid": "s", "chat_messages": [row]}), ".json")
    assert contents(found.turns) == ["a.txt\nwords of the file", "Read it"]
    assert found.turns[0].name == INJECTED


def test_details_in_a_text_are_thoughts_and_calls() -> None:
    text = (
        '<details type="reasoning" done="true"><summary>Thought</summary>\n&gt; so &lt;it&gt;\n</details>\nThe answer.'
        '<details type="tool_calls" id="c" name="run" arguments="{&quot;a&quot;:1}" result="two">'
        "<summary>Ran</summary></details>"
    )
    message = {"id": "a", "parentId": None, "role": "assistant", "content": text}
    found = parsed(json.dumps({"title": "t", "history": {"currentId": "a", "messages": {"a": message}}}), ".json")
    assert [brief(turn) for turn in found.turns] == [
        ("assistant", THINKING, "so <it>"), ("assistant", "", "The answer."), ("assistant", "run", '{"a":1}'),
        ("tool", "run", "two"),
    ]  # fmt: skip


def test_several_conversations_in_a_file_are_threads() -> None:
    rows = [{"messages": [{"role": "user", "content": text}]} for text in ("a", "b")]
    found = registry.parse(lines(rows), "tune.jsonl")
    assert [contents(one.turns) for one in found.threads] == [["a"], ["b"]]


def test_a_message_that_is_its_own_ancestor_is_read() -> None:
    rows = [
        {"uuid": uuid, "sender": "human", "text": uuid, "parent_message_uuid": parent}
        for uuid, parent in (("a", "b"), ("b", "a"), ("c", "c"))
    ]
    found = parsed(json.dumps({"uuid": "s", "chat_messages": rows}), ".json")
    assert {*contents(found.turns), *(text for branch in found.abandoned_branches for text in contents(branch))} == {
        "a",
        "b",
        "c",
    }
