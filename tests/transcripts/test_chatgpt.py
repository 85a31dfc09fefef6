"""ChatGPT's export: trees of messages, parsed from the root to the tip, with abandoned branches."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.chatgpt import looks_like, parse
from tests.transcripts.damage import assert_results_have_calls, brief, contents, mutated

NAME = "conversations.json"
SECONDS, AT = 1765672231.944857, "2025-12-14T00:30:31Z"


def node(key: str, parent: str | None, role: str | None = None, content: Any = None, **fields: Any) -> dict[str, Any]:
    message = None
    if role is not None:
        name = fields.pop("name", None)
        content = {"content_type": "text", "parts": [content]} if isinstance(content, str) else content
        message = {"id": key, "author": {"role": role, "name": name}, "create_time": SECONDS, "content": content}
        message |= {"recipient": "all", "metadata": {}, **fields}
    return {"id": key, "message": message, "parent": parent, "children": []}


def conversation(*nodes: dict[str, Any], current: str | None = None, **fields: Any) -> dict[str, Any]:
    return {
        "title": "Clocks",
        "create_time": SECONDS,
        "mapping": {one["id"]: one for one in nodes},
        "current_node": current or nodes[-1]["id"],
        "conversation_id": "67-a",
        **fields,
    }


def turns_in(*nodes: dict[str, Any]) -> list[tuple[str, str | None, str]]:
    return brief(parse(json.dumps([conversation(*nodes)]), NAME))


CHAT = conversation(
    node("root", None),
    node("sys", "root", "system", "", metadata={"is_visually_hidden_from_conversation": True}),
    node("u1", "sys", "user", "  What time is it?\n"),
    node("t1", "u1", "assistant", {"content_type": "thoughts", "thoughts": [{"summary": "Hm", "content": "A clock?"}]}),
    node("c1", "t1", "assistant", {"content_type": "code", "language": "python", "text": "now()"}, recipient="python"),
    node("r1", "c1", "tool", {"content_type": "execution_output", "text": "12:00\n"}, name="python"),
    node("recap", "r1", "assistant", {"content_type": "reasoning_recap", "content": "Thought for 8s"}),
    node("a1", "recap", "assistant", "Noon."),
)
TURNS = (
    NewTurn("user", "  What time is it?\n", said_at=AT),
    NewTurn("assistant", "A clock?", "thinking", AT),
    NewTurn("assistant", "now()", "python", AT, "c1"),
    NewTurn("tool", "12:00\n", "python", AT, "c1"),
    NewTurn("assistant", "Noon.", None, AT),
)


def test_the_turns_are_those_from_the_root_to_the_tip() -> None:
    for text in (json.dumps([CHAT]), json.dumps(CHAT, indent=2)):
        transcript = parse(text, NAME)
        assert (transcript.agent, transcript.session_id, transcript.title) == ("chatgpt", "67-a", "Clocks")
        assert (transcript.turns, transcript.abandoned_branches, transcript.threads, transcript.warnings) == (
            TURNS,
            (),
            (),
            (),
        )
        assert_results_have_calls(transcript)


def test_it_recognises_its_own_files_and_no_list_of_messages() -> None:
    found = registry.detect_format(NAME, json.dumps([CHAT])[:2_000])
    assert found is not None
    assert found.parse(json.dumps([CHAT]), NAME).agent == "chatgpt"
    assert not looks_like(NAME, '[{"role": "user", "content": "what is \\"mapping\\": {?"}]')


def test_regenerated_responses_and_edited_requests_are_abandoned_branches() -> None:
    text = json.dumps(
        conversation(
            node("root", None),
            node("u", "root", "user", "a"),
            node("first", "u", "assistant", "b"),
            node("more", "first", "user", "c"),
            node("again", "u", "assistant", "d"),
            node("edited", "root", "user", "A"),
            current="again",
        )
    )
    transcript = parse(text, NAME)
    assert "".join(turn.content for turn in transcript.turns) == "ad"
    assert ["".join(turn.content for turn in branch) for branch in transcript.abandoned_branches] == ["abc", "A"]


def test_several_conversations_are_threads() -> None:
    other = conversation(node("x", None, "user", "hi"), conversation_id=None, id="67-b", title=None)
    transcript = parse(json.dumps([CHAT, other, conversation(node("y", None, "user", "yo"))]), NAME)
    assert transcript.turns == ()
    assert [(thread.session_id, thread.title, len(thread.turns)) for thread in transcript.threads] == [
        ("67-a", "Clocks", 5),
        ("67-b", None, 1),
        ("67-a", "Clocks", 1),
    ]


def test_contexts_and_hidden_messages_are_injected_and_each_part_is_a_turn() -> None:
    image = {"content_type": "image_asset_pointer", "asset_pointer": "file-service://1"}
    audio = {"content_type": "audio_transcription", "text": "aloud", "direction": "in"}
    context = {"content_type": "user_editable_context", "user_profile": "A baker", "user_instructions": "Be brief"}
    assert turns_in(
        node("1", None, "user", context),
        node("2", "1", "user", "hidden", metadata={"is_visually_hidden_from_conversation": True}),
        node("3", "2", "user", {"content_type": "multimodal_text", "parts": [image, "see", audio, ""]}),
        node("4", "3", "assistant", {"content_type": "model_editable_context", "model_set_context": "Bakes"}),
        node("5", "4", "assistant", '{"q": 1}', recipient="browser"),
        node("6", "5", "tool", {"content_type": "tether_browsing_display", "result": "page", "summary": ""}),
        node("7", "6", "tool", {"content_type": "tether_quote", "url": "u", "text": "quote"}, name="browser"),
        node("8", "7", "tool", {"content_type": "text", "parts": [""]}, name="browser"),
    ) == [
        ("system", "injected", "A baker"),
        ("system", "injected", "Be brief"),
        ("system", "injected", "hidden"),
        ("user", None, json.dumps(image, separators=(",", ":"))),
        ("user", None, "see"),
        ("user", None, "aloud"),
        ("system", "injected", "Bakes"),
        ("assistant", "browser", '{"q": 1}'),
        ("tool", "browser", "page"),
        ("tool", "browser", "quote"),
        ("tool", "browser", ""),
    ]


def test_an_unpaired_surrogate_is_replaced_with_one_warning() -> None:
    nodes = (node("1", None, "user", "\udc00!"), node("2", "1", "assistant", "a"), node("3", "1", "assistant", "b"))
    transcript = parse(json.dumps(conversation(*nodes)), NAME)
    assert transcript.turns[0].content == "�!"
    assert transcript.abandoned_branches[0][0].content == "�!"
    assert len(transcript.warnings) == 1


FILE = json.dumps([CHAT])


@given(st.integers(0, len(FILE)), st.sampled_from(("", "\0", "}]", "nul", '"')))
def test_everything_before_a_cut_is_kept(cut: int, garbage: str) -> None:
    found = contents(parse(FILE[:cut] + garbage, NAME))
    for turn in TURNS:
        if FILE.index('}, "recipient"', FILE.index(json.dumps(turn.content))) < cut:
            assert found[turn.content]


@given(st.data())
def test_no_malformed_field_raises(data: st.DataObject) -> None:
    text = json.dumps(data.draw(mutated([CHAT])))
    looks_like(NAME, text)
    parse(text, NAME)
