"""Cline's tasks: the user's words in tags, the host's additions, calls in tags or blocks, and their results."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.cline.parser import looks_like, parse
from tests.transcripts.damage import assert_results_have_calls, brief, contents, mutated

NAME = "1769053680585/api_conversation_history.json"
DETAILS = (
    "<environment_details>\n# Current Working Directory (/home/me/relay) Files\nrelay.toml\n</environment_details>"
)
READ = "Let me look.\n\n<read_file>\n<path>relay.toml</path>\n</read_file>"
WRITE = "<write_to_file>\n<path>a.html</path>\n<content>\n<p>1</p>\n</content>\n</content>\n</write_to_file>"


def message(role: str, *texts: Any, **fields: Any) -> dict[str, Any]:
    parts = [{"type": "text", "text": text} if isinstance(text, str) else text for text in texts]
    return {"role": role, "content": parts, **fields}


def turns_in(*messages: dict[str, Any], name: str = NAME) -> list[tuple[str, str | None, str]]:
    return brief(parse(json.dumps(messages), name))


TASK = message(
    "user", "<task>\nName the port.\n</task>", "# task_progress RECOMMENDED\n\nKeep a list.", DETAILS, ts=1769053680585
)
MESSAGES: list[dict[str, Any]] = [
    TASK,
    message("assistant", READ),
    message("user", "[read_file for 'relay.toml'] Result:\nport = 7412\n", DETAILS),
    message("assistant", "<thinking>\nDone?\n</thinking>\n" + WRITE),
    message(
        "user",
        "[write_to_file for 'a.html'] Result:",
        "Saved.\n\nThe user provided the following feedback:\n<feedback>\nShorter.\n</feedback>",
    ),
    message(
        "assistant",
        "<attempt_completion>\n<result>\nIt is 7412.\n</result>\n<command>cat a.html</command>\n</attempt_completion>",
    ),
]
FILE = json.dumps(MESSAGES)


def test_a_task_is_parsed_turn_by_turn() -> None:
    transcript = parse(FILE, NAME)
    assert (transcript.agent, transcript.session_id, transcript.cwd) == ("cline", "1769053680585", "/home/me/relay")
    assert transcript.warnings == ()
    said_at = "2026-01-22T03:48:00.585Z"
    assert transcript.turns == (
        NewTurn("user", "Name the port.", None, said_at),
        NewTurn("system", "# task_progress RECOMMENDED\n\nKeep a list.", "injected", said_at),
        NewTurn("system", DETAILS, "injected", said_at),
        NewTurn("assistant", "Let me look."),
        NewTurn("assistant", '{"path":"relay.toml"}', "read_file", None, "call-2-0"),
        NewTurn("tool", "port = 7412\n", "read_file", None, "call-2-0"),
        NewTurn("system", DETAILS, "injected"),
        NewTurn("assistant", "Done?", "thinking"),
        NewTurn(
            "assistant", '{"path":"a.html","content":"\\n<p>1</p>\\n</content>\\n"}', "write_to_file", None, "call-4-0"
        ),
        NewTurn("tool", "Saved.\n\nThe user provided the following feedback:", "write_to_file", None, "call-4-0"),
        NewTurn("user", "Shorter."),
        NewTurn("assistant", "It is 7412."),
        NewTurn("assistant", '{"command":"cat a.html"}', "attempt_completion", None, "call-6-0"),
    )
    assert_results_have_calls(transcript)


def test_it_recognises_its_own_files_and_copies_under_another_name() -> None:
    for name in (NAME, "export.json"):
        found = registry.detect_format(name, FILE)
        assert found is not None
        assert found.parse(FILE, name).agent == "cline"
    assert not looks_like("chat.json", '[{"role": "user", "content": "hi"}]')
    assert not looks_like("ui_messages.json", '[{"ts": 1, "type": "say", "say": "task", "text": "hi"}]')
    task = PurePath("/x/tasks/17/api_conversation_history.json")
    assert registry.name_for_parser(task) == "17/api_conversation_history.json"
    assert registry.name_for_parser(PurePath("/x/chat.json")) == "chat.json"


def test_calls_in_blocks_pair_with_results_in_blocks_and_in_headed_texts() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a"}}
    other = {"type": "tool_use", "id": "toolu_2", "name": "list_files", "input": {"path": "."}}
    result = {"type": "tool_result", "tool_use_id": "toolu_2", "content": [{"type": "text", "text": "a"}]}
    transcript = parse(
        json.dumps(
            [TASK, message("assistant", call, other), message("user", "[read_file for 'a'] Result:\n1", result)]
        ),
        NAME,
    )
    assert transcript.turns[-2:] == (
        NewTurn("tool", "1", "read_file", None, "toolu_1"),
        NewTurn("tool", "a", "list_files", None, "toolu_2"),
    )


def test_a_result_without_its_call_keeps_its_header() -> None:
    headed = "[execute_command for 'ls\n-l'] Result:\na.py"
    assert turns_in(TASK, message("user", headed))[-1] == ("tool", "execute_command", headed)


def test_a_result_under_another_name_belongs_to_the_only_pending_call() -> None:
    call = {"type": "tool_use", "id": "toolu_1", "name": "use_subagents", "input": {"prompt_1": "look"}}
    headed = message("user", "[subagents] Result:\nTotal: 1")
    last = parse(json.dumps([TASK, message("assistant", call), headed]), NAME).turns[-1]
    assert last == NewTurn("tool", "[subagents] Result:\nTotal: 1", "use_subagents", None, "toolu_1")
    assert turns_in(TASK, message("assistant", call, {**call, "id": "2", "name": "x"}), headed)[-1][:2] == (
        "tool",
        "subagents",
    )


@pytest.mark.parametrize("words", ["7412", "<b>bold</b>\nand more"])
def test_an_answer_is_the_users(words: str) -> None:
    asked = message("assistant", "<ask_followup_question>\n<question>Which port?</question>\n</ask_followup_question>")
    answer = message("user", "[ask_followup_question for 'Which port?'] Result:", f"<answer>\n{words}\n</answer>")
    assert turns_in(TASK, asked, answer)[-4:] == [
        ("assistant", None, "Which port?"),
        ("assistant", "ask_followup_question", "{}"),
        ("tool", "ask_followup_question", ""),
        ("user", None, words),
    ]


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        ("The user denied this operation and provided the following feedback:", "feedback"),
        ("The user approved this operation and provided the following context:", "feedback"),
        ("You seem to be stuck. The user has provided the following feedback to help:", "feedback"),
        ("The user also provided the following message:", "user_message"),
    ],
)
def test_feedback_on_a_result_is_the_users(line: str, tag: str) -> None:
    result = f"[read_file for 'a'] Result:\nport\n{line}\n<{tag}>\nno\n</{tag}>"
    assert turns_in(TASK, message("assistant", READ), message("user", result))[-2:] == [
        ("tool", "read_file", f"port\n{line}"),
        ("user", None, "no"),
    ]


def test_tags_in_a_file_that_was_read_are_part_of_the_result() -> None:
    page = "<feedback>\nnice\n</feedback>\n<task>x</task>\n<environment_details>y</environment_details>"
    assert turns_in(TASK, message("assistant", READ), message("user", f"[read_file for 'a'] Result:\n{page}"))[-1] == (
        "tool", "read_file", page,
    )  # fmt: skip


@pytest.mark.parametrize(
    "said", ["<task>\nsee @a.md\n</task>", '<user_input mode="act">see @a.md</user_input>', "see @a.md"]
)
def test_a_mentioned_file_is_the_hosts_whatever_tags_it_holds(said: str) -> None:
    page = '<file_content path="a.md">\n<feedback>\nnice\n</feedback>\n</file_content>'
    assert [(role, content.strip()) for role, _, content in turns_in(message("user", f"{said}\n\n{page}"))] == [
        ("user", "see @a.md"),
        ("system", page),
    ]


def test_other_tags_and_unclosed_calls_are_text() -> None:
    for text in ("<div>\n<p>hi</p>\n</div>", "<read_file>\n<path>a</path>", "Use `<read_file>` for that"):
        assert turns_in(TASK, message("assistant", text))[-1] == ("assistant", None, text)
    odd = "<read_file>\njust a.py\n</read_file>"
    assert turns_in(TASK, message("assistant", odd))[-1] == ("assistant", "read_file", "\njust a.py\n")


def test_the_hosts_own_messages_are_injected_and_its_summary_is_a_recap() -> None:
    resumed = "[TASK RESUMPTION] It was interrupted."
    found = turns_in(
        TASK,
        message("user", "[ERROR] You did not use a tool!"),
        message("user", resumed, "New instructions:\n<user_message>\ngo on\n</user_message>"),
        message("user", "This session is being continued from a previous conversation. We fixed it."),
    )[3:]
    assert found == [
        ("system", "injected", "[ERROR] You did not use a tool!"),
        ("system", "injected", resumed),
        ("system", "injected", "New instructions:"),
        ("user", None, "go on"),
        ("system", "recap", "This session is being continued from a previous conversation. We fixed it."),
    ]


def test_without_tags_the_users_messages_are_the_users() -> None:
    assert turns_in({"role": "user", "content": "hi"}, message("user", "there"), message("user", DETAILS)) == [
        ("user", None, "hi"),
        ("user", None, "there"),
        ("system", "injected", DETAILS),
    ]


def test_images_are_json() -> None:
    image = {"type": "image", "source": {"type": "base64", "data": "AA=="}}
    assert turns_in(message("user", "<task>\nsee\n</task>", image))[-1] == (
        "user", None, json.dumps(image, separators=(",", ":")),
    )  # fmt: skip


SESSION: dict[str, Any] = {
    "version": 1,
    "agent": "lead",
    "sessionId": "s-1",
    "system_prompt": "You are Cline.",
    "messages": [
        message("user", '<user_input mode="act">Name the port.</user_input>'),
        message(
            "assistant",
            {"type": "thinking", "thinking": "Where?", "signature": "x"},
            {"type": "tool_use", "id": "t-1", "name": "read_files", "input": {"files": [{"path": "relay.toml"}]}},
        ),
        message(
            "user",
            {"type": "tool_result", "tool_use_id": "t-1", "content": [{"query": "relay.toml", "result": "port"}]},
        ),
        message("assistant", "It is 7412.", ts=1769053680585),
        message("user", "<mode_notice>plan</mode_notice>", '<user_input mode="plan">Why?</user_input>'),
    ],
}


def test_sessions_of_newer_versions_are_parsed() -> None:
    transcript = parse(json.dumps(SESSION), "s-1/s-1.messages.json")
    assert (transcript.session_id, transcript.warnings) == ("s-1", ())
    assert brief(transcript) == [
        ("user", None, "Name the port."),
        ("assistant", "thinking", "Where?"),
        ("assistant", "read_files", '{"files":[{"path":"relay.toml"}]}'),
        ("tool", "read_files", '{"query":"relay.toml","result":"port"}'),
        ("assistant", None, "It is 7412."),
        ("system", "injected", "<mode_notice>plan</mode_notice>"),
        ("user", None, "Why?"),
    ]
    assert parse(json.dumps(SESSION), "s-1/helper.messages.json").session_id == "s-1:helper"
    found = registry.detect_format("s-1/s-1.messages.json", json.dumps(SESSION))
    assert found is not None
    assert found.parse(json.dumps(SESSION), "s-1/s-1.messages.json").agent == "cline"


@given(st.integers(0, len(FILE)), st.sampled_from(("", "\0", "}]", "nul", '"')))
def test_everything_before_a_cut_is_kept(cut: int, garbage: str) -> None:
    whole = FILE[:cut].count('"role"') - 1
    lost = contents(parse(json.dumps(MESSAGES[: max(whole, 0)]), NAME)) - contents(parse(FILE[:cut] + garbage, NAME))
    assert not lost


@given(st.data())
def test_no_malformed_field_raises(data: st.DataObject) -> None:
    for body, name in ((MESSAGES, NAME), (SESSION, "s-1/s-1.messages.json")):
        text = json.dumps(data.draw(mutated(body)))
        looks_like(name, text)
        parse(text, name)


PIECES = st.sampled_from(
    ("<task>", "</task>", "<feedback>", "</feedback>", "<environment_details>", "</environment_details>", "<read_file>",
     "</read_file>", "<path>", "</path>", "<content>", "</content>", "[read_file for 'x'] Result:",
     "[read_file for 'x'] Result:\n", "\n", "words", " ", "<thinking>", "</thinking>", "The user gave feedback:")
)  # fmt: skip


@given(st.lists(PIECES, max_size=14), st.sampled_from(("user", "assistant")))
@example(["[read_file for 'x'] Result:", "words", "[read_file for 'x'] Result:", "\n"], "user")
def test_every_word_is_returned_whatever_the_tags(pieces: list[str], role: str) -> None:
    """Each word is in a turn; they are numbered, so that none is taken for another."""
    words = [f"word{i}" if piece == "words" else piece for i, piece in enumerate(pieces)]
    text = "".join(words)
    for first in (TASK, message("user", "no tags")):
        turns = parse(json.dumps([first, message("assistant", READ), message(role, text)]), NAME).turns
        all_content = "\0".join(turn.content for turn in turns)
        assert [word for word in words if word.startswith("word") and word not in all_content] == []
