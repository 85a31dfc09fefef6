"""Edits of a file, newest first, each with the talk that decided it; and the `blame` command that prints them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.edits import edit_hits, is_same_file
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

SHOP = Project("/home/ann/shop", None, ("/home/ann/shop",))


@pytest.fixture
async def memory() -> AsyncIterator[Memory]:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: 1_800_000_000.0)
    yield memory
    await memory.close()


def edit(path: str, old: str, new: str, at: str, call: str) -> list[NewTurn]:
    arguments = json.dumps({"file_path": path, "old_string": old, "new_string": new})
    return [
        NewTurn("assistant", arguments, "Edit", at, call),
        NewTurn("tool", "The file has been updated.", None, at, call),
    ]


async def fill(memory: Memory) -> None:
    first = [
        NewTurn("user", "Tokens live far too long; make them live an hour.", None, "2026-01-05T10:00:00Z"),
        NewTurn("assistant", "I set the lifetime to an hour.", None, "2026-01-05T10:01:00Z"),
        *edit("/home/ann/shop/src/token.py", "TTL = 86400", "TTL = 3600", "2026-01-05T10:02:00Z", "a"),
        *edit("/home/ann/shop/src/other.py", "x = 1", "x = 2", "2026-01-05T10:03:00Z", "b"),
    ]
    second = [
        NewTurn("user", "The audit wants shorter tokens, what do you propose?", None, "2026-02-05T10:00:00Z"),
        NewTurn("assistant", "Fifteen minutes, with refresh tokens. Shall I?", None, "2026-02-05T10:01:00Z"),
        NewTurn("user", "yes", None, "2026-02-05T10:02:00Z"),
        *edit("/home/ann/feature/src/token.py", "TTL = 3600", "TTL = 900", "2026-02-05T10:03:00Z", "c"),
    ]
    await memory.sync(first, conversation_id="first", space="/home/ann/shop")
    await memory.sync(second, conversation_id="second", space="/home/ann/shop")
    await memory.sync(
        edit("/srv/src/token.py", "", "TTL = 1", "2026-03-01T10:00:00Z", "d"), conversation_id="elsewhere"
    )


async def test_the_edits_of_a_file_come_newest_first_with_the_talk_that_decided_them(memory: Memory) -> None:
    await fill(memory)
    edits = await memory.file_edits("src/token.py", project=SHOP)
    assert [(one.conversation_id, one.new) for one in edits] == [("second", "TTL = 900"), ("first", "TTL = 3600")]
    assert [turn.content for turn in edits[0].talk] == ["Fifteen minutes, with refresh tokens. Shall I?", "yes"]
    assert [turn.content[:10] for turn in edits[1].talk] == ["Tokens liv", "I set the "]
    assert len(await memory.file_edits("token.py")) == 3


async def test_a_line_names_the_edits_that_wrote_it(memory: Memory) -> None:
    await fill(memory)
    (one,) = await memory.file_edits("src/token.py", project=SHOP, line="    TTL = 3600  ")
    assert one.conversation_id == "first"
    assert not await memory.file_edits("src/token.py", project=SHOP, line="TTL = 86400")


async def test_the_edits_of_a_single_conversation(memory: Memory) -> None:
    await fill(memory)
    (one,) = await memory.file_edits("token.py", conversation_id="second")
    assert [(hit.role, hit.snippet) for hit in edit_hits(one)] == [
        ("assistant", "Fifteen minutes, with refresh tokens. Shall I?"),
        ("user", "yes"),
        ("assistant", "TTL = 900"),
    ]
    with pytest.raises(UnknownConversation):
        await memory.file_edits("token.py", conversation_id="nowhere")


async def test_a_longer_reply_comes_with_what_the_agent_had_proposed(memory: Memory) -> None:
    turns = [
        NewTurn("assistant", "We could keep the tokens in Redis."),
        NewTurn("user", "yeah, let's give that a try then"),
        *edit("src/token.py", "", "import redis", "2026-02-05T10:03:00Z", "c"),
        NewTurn("user", "Now name the file for what it holds, and tell me the name."),
        *edit("src/store.py", "", "import redis", "2026-02-05T10:04:00Z", "e"),
    ]
    await memory.sync(turns, conversation_id="one")
    (first,), (second,) = [await memory.file_edits(name) for name in ("token.py", "store.py")]
    assert [turn.index for turn in first.talk] == [0, 1]
    assert [turn.index for turn in second.talk] == [4]


async def test_a_patch_is_an_edit_too(memory: Memory) -> None:
    patch = "*** Begin Patch\n*** Update File: src/token.py\n@@\n-TTL = 900\n+TTL = 600\n*** End Patch"
    turns = [
        NewTurn("user", "Ten minutes are enough for everybody."),
        NewTurn("assistant", json.dumps({"input": patch}), "apply_patch", None, "p"),
    ]
    await memory.sync(turns, conversation_id="codex", space="/home/ann/shop")
    (one,) = await memory.file_edits("src/token.py", project=SHOP, line="TTL = 600")
    assert (one.old, one.new, len(one.talk)) == ("TTL = 900", "TTL = 600", 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("/home/ann/shop/src/a.py", "src/a.py", True),
        ("./src/a.py", "/wt/src/a.py", True),
        ("C:\\shop\\src\\a.py", "src/a.py", True),
        ("src/ba.py", "a.py", False),
        ("lib/a.py", "src/a.py", False),
        ("", "src/a.py", False),
    ],
)
async def test_paths_name_one_file_from_any_folder(one: str, other: str, same: bool) -> None:
    assert is_same_file(one, other) is same
