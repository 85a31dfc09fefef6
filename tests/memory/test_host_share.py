"""How much of a view the texts of an agent's program take."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.candidates import HOST_SHARE
from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer

pytestmark = pytest.mark.anyio

RULES = "".join(f"Rule {i}: a commit is signed, and the name of a branch has its number.\n\n" for i in range(400))
TALK = [
    NewTurn("system", RULES, INJECTED),
    NewTurn("user", "The relay on port 9041 drops every connection. Find the error."),
    NewTurn("assistant", "The relay's error is E0042: its timeout is 5 ms instead of 5 s."),
    NewTurn("user", "Fix it."),
    NewTurn("assistant", "The timeout is 5 s now, and the error is gone."),
]


@pytest.mark.parametrize("query", ["which error did the relay have", None])
async def test_host_texts_take_a_small_share_of_a_view(query: str | None) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.sync(TALK, conversation_id="c")
    await memory.index("c")
    view = await memory.view("c", query=query, token_budget=2_000)
    assert "E0042" in view.text
    rules = "".join(line for line in view.text.splitlines(keepends=True) if line.startswith("Rule "))
    assert tokenizer.count(rules) <= 2 * HOST_SHARE * 2_000


@pytest.mark.parametrize("query", ["which error did the relay have, and has a commit's branch a number", None])
async def test_host_texts_take_a_small_share_of_a_view_of_a_project(query: str | None) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    for number in range(3):
        await memory.sync(TALK, conversation_id=f"c{number}", space="/home/ann/relay")
        await memory.index(f"c{number}")
    project = Project("/home/ann/relay", None, ("/home/ann/relay",))
    view = await memory.project_view(project, query=query, token_budget=2_000)
    assert "E0042" in view.text
    rules = "".join(line for line in view.text.splitlines(keepends=True) if line.startswith("Rule "))
    assert tokenizer.count(rules) <= 2 * HOST_SHARE * 2_000


async def test_a_host_text_that_is_asked_for_is_shown() -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.sync(TALK, conversation_id="c")
    await memory.index("c")
    view = await memory.view("c", query="rule 77", token_budget=2_000)
    assert "Rule 77:" in view.text
