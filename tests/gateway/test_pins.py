"""What goes along in every compacted request: the task, the project's instructions, pasted texts and found tools."""

from __future__ import annotations

import asyncio
import copy
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.compaction import Compacted, ConversationTracker
from ctxmem_mcp.http_api.gateway.excerpt import excerpt
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.http_api.gateway.openai import OpenAI
from ctxmem_mcp.http_api.gateway.provider import Provider
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.host_text import RECALL_END, RECALL_START

OPTIONS = MemoryOptions(True, "m")
SYSTEM = "You are a coding agent of the SYSTEM-4711 kind. " * 20
REMINDERS = [
    "<system-reminder>\n# Environment\nPlatform: linux\n</system-reminder>",
    "<system-reminder>\nAvailable agent types: Explore, Plan\n"
    + "- an agent that explores\n" * 150
    + "</system-reminder>",
]


def claude_md(rules: int) -> str:
    lines = "".join(f"- rule {i}: module mod{i} keeps its public api stable and documented\n" for i in range(rules))
    return (
        "<system-reminder>\nCodebase and user instructions are shown below.\n\nContents of /p/CLAUDE.md (project "
        "instructions, checked into the codebase):\n\nCLAUDEMD-7788: every test is in French.\n"
        f"{lines}</system-reminder>"
    )


def task(tables: int) -> str:
    lines = "".join(f"{i}. For table T{i}, column c{i} becomes NOT NULL DEFAULT {7 * i}.\n" for i in range(tables))
    return f"TASK-1234: write the migration exactly as specified:\n{lines}Do not commit."


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def session(steps: int, *, rules: int = 30, tables: int = 30) -> list[dict[str, Any]]:
    """A session as Claude Code sends it: the host's blocks and the prompt in one message, then calls and results."""
    first = [*map(text, REMINDERS), text(claude_md(rules)), text(task(tables))]
    messages: list[dict[str, Any]] = [{"role": "user", "content": first}]
    for i in range(steps):
        use = {"type": "tool_use", "id": f"toolu_{i}", "name": "Bash", "input": {"command": f"check mod{i} T{i}"}}
        result = {"type": "tool_result", "tool_use_id": f"toolu_{i}", "content": f"step {i}\n" + f"{i} fine\n" * 200}
        messages += [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
    return messages


def compacted_requests(
    messages: list[dict[str, Any]], budget: int, provider: Provider | None = None, **fields: Any
) -> list[Compacted]:
    """Sends the requests of a session that ends with each message of the user; returns those that were compacted."""

    async def send() -> list[Compacted]:
        memory, tracker = Memory(InMemoryStore(), ExtractiveSummarizer()), ConversationTracker(budget, "o200k_base")
        found = []
        for end in (i + 1 for i, message in enumerate(messages) if message["role"] in ("user", "tool")):
            body = {"model": "m", "messages": copy.deepcopy(messages[:end]), **fields}
            found.append(await tracker.compact(memory, "", provider or Anthropic(), body, OPTIONS))
        return [one for one in found if one.body is not None]

    return asyncio.run(send())


def view_of(body: dict[str, Any]) -> str:
    sent = json.dumps(body["messages"], ensure_ascii=False).replace("\\n", "\n")
    return sent[sent.index(RECALL_START) : sent.index(RECALL_END)]


def test_the_task_and_the_instructions_are_in_every_compacted_request() -> None:
    found = compacted_requests(session(60), 12_000, system=SYSTEM)
    assert len({len(one.body["messages"]) for one in found if one.body}) > 2
    for one in found:
        assert one.body is not None
        first = one.body["messages"][0]["content"]
        assert first[0] == text(claude_md(30))
        assert first[1] == text(task(30))
        assert one.tokens_sent <= 12_000 + 600  # the system prompt is on top of the budget


def test_a_moved_cut_leaves_what_was_sent_before_the_messages() -> None:
    found = compacted_requests(session(80), 12_000, system=SYSTEM)
    heads = [[block["text"] for block in one.body["messages"][0]["content"]] for one in found if one.body]
    moves = [(before, after) for before, after in pairwise(heads) if before != after]
    kept = [after[: len(before)] == before for before, after in moves]
    assert len(moves) >= 6
    assert sum(kept) >= 2 / 3 * len(moves)
    for one in found:
        assert one.body is not None
        assert one.tokens_sent <= 12_000 + 1_000  # with the system prompt


def test_the_view_repeats_neither_the_system_prompt_nor_what_the_host_wrote() -> None:
    for one in compacted_requests(session(40), 12_000, system=SYSTEM):
        assert one.body is not None
        assert one.body["system"] == SYSTEM
        view = view_of(one.body)
        assert "SYSTEM-4711" not in view
        assert "system-reminder" not in view
        assert "TASK-1234" not in view


def test_a_long_task_and_long_instructions_go_along_in_excerpts() -> None:
    found = compacted_requests(session(60, rules=400, tables=600), 16_000)
    assert found
    for one in found:
        assert one.body is not None
        instructions, request = (block["text"] for block in one.body["messages"][0]["content"][:2])
        assert "CLAUDEMD-7788" in instructions
        assert "TASK-1234" in request
        assert request.endswith("Do not commit.")
        assert "tokens left out]" in request
        assert tokenizer.count(request, "o200k_base") <= 3_000
        assert tokenizer.count(instructions, "o200k_base") <= 2_000


def test_a_text_pasted_later_goes_along() -> None:
    pasted = "SPEC-55\n" + "".join(f"field f{i} is required\n" for i in range(150))
    messages = [*session(3), {"role": "assistant", "content": "Done."}, {"role": "user", "content": pasted}]
    messages += [{"role": "assistant", "content": "I see."}, {"role": "user", "content": "Now do it."}]
    found = compacted_requests([*messages, *session(60)[1:]], 16_000)
    assert found
    for one in found:
        assert one.body is not None
        assert "field f149 is required" in json.dumps(one.body["messages"])
        assert "Now do it." in json.dumps(one.body["messages"])


def test_tools_that_were_found_before_the_cut_stay_usable() -> None:
    search = {"type": "tool_use", "id": "toolu_s", "name": "ToolSearch", "input": {"query": "select:WebFetch"}}
    found_tool = {"type": "tool_reference", "tool_name": "WebFetch"}
    result = {"type": "tool_result", "tool_use_id": "toolu_s", "content": [found_tool]}
    other = {"type": "tool_use", "id": "toolu_o", "name": "Bash", "input": {"command": "ls"}}
    other_result = {"type": "tool_result", "tool_use_id": "toolu_o", "content": "x " * 500}
    thought = {"type": "thinking", "thinking": "I need a tool.", "signature": "sig"}
    messages = [
        *session(2),
        {"role": "assistant", "content": [thought, search, other]},
        {"role": "user", "content": [result, other_result]},
        *session(50)[5:],
    ]
    found = compacted_requests(messages, 12_000)
    assert found
    for one in found:
        assert one.body is not None
        blocks = [b for m in one.body["messages"] if isinstance(m["content"], list) for b in m["content"]]
        assert blocks.count(search) == blocks.count(result) == 1
        assert blocks.index(search) < blocks.index(result)
        called = {block["id"] for block in blocks if block["type"] == "tool_use"}
        assert {b["tool_use_id"] for b in blocks if b["type"] == "tool_result"} == called


def test_pictures_are_no_text_upstream() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" * 9_000}}
    messages = session(40)
    messages[2]["content"].append(picture)
    messages[4]["content"][0]["content"] = [picture]
    for one in compacted_requests(messages, 12_000):
        assert one.body is not None
        assert "iVBORw0KGgo" not in view_of(one.body)


def test_a_picture_in_the_task_goes_along_as_a_picture() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo" * 9_000}}
    messages = session(40)
    messages[0]["content"].append(picture)
    for one in compacted_requests(messages, 12_000):
        assert one.body is not None
        assert one.body["messages"][0]["content"][0] == picture


@pytest.mark.parametrize("budget", [4_000, 8_000, 20_000])
def test_an_alternating_chat_stays_alternating(budget: int) -> None:
    messages = []
    for i in range(80):
        messages += [
            {"role": "user", "content": f"question {i} " * 60},
            {"role": "assistant", "content": f"a{i} " * 60},
        ]
    found = compacted_requests(messages, budget, OpenAI())
    assert found
    for one in found:
        assert one.body is not None
        roles = [message["role"] for message in one.body["messages"]]
        assert roles[0] == "user"
        assert all(a != b for a, b in pairwise(roles))


def test_a_recorded_session_of_claude_code_keeps_its_task_and_instructions(eval_dir: Path) -> None:
    path = eval_dir / "inputs/agents/gateway-before-fold.messages.json"
    if not path.exists():
        pytest.skip("CTXMEM_EVAL_DIR has no recorded gateway requests")
    body = json.loads(path.read_text())["body"]
    messages = body.pop("messages")
    found = compacted_requests([*messages, *session(60)[1:]], 16_000, system=body["system"], tools=body["tools"])
    assert len({len(one.body["messages"]) for one in found if one.body}) > 2
    prompt = messages[0]["content"][-1]["text"]
    for one in found:
        assert one.body is not None
        first = [block["text"] for block in one.body["messages"][0]["content"]]
        assert prompt in first
        assert "CLAUDEMD-7788" in first[0]
        view = view_of(one.body)
        assert "You are a Claude agent" not in view
        assert "Available agent types" not in view


# ---------------------------------------------------------------- excerpts


def test_an_excerpt_has_the_lines_that_the_work_touches() -> None:
    lines = "".join(f"rule {i}: module mod{i} keeps its interface\n" for i in range(800))
    found = excerpt(lines, 1_000, "I edit mod400.py and call mod517", lambda part: tokenizer.count(part, "o200k_base"))
    assert found.startswith("rule 0:")
    assert found.endswith("rule 799: module mod799 keeps its interface\n")
    assert "module mod517 " in found


@settings(max_examples=50)
@given(st.text(max_size=60), st.integers(1, 60), st.integers(40, 400), st.text(max_size=40))
def test_an_excerpt_fits_and_quotes_the_text(part: str, repeats: int, budget: int, work: str) -> None:
    whole = "".join(f"{i} {part}\n" for i in range(repeats))
    found = excerpt(whole, budget, work, lambda text: tokenizer.count(text, "o200k_base"))
    assert tokenizer.count(found, "o200k_base") <= budget
    if found != whole:
        assert "tokens left out]" in found
