"""Law 16: a redacted turn's bytes are in no file, its id stays, and nothing of it comes back."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ctxmem_mcp.errors import Forgotten
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Summary, to_new_turns
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.stores.testing.builders import NOW
from tests.stores.samples import memory_over, raw_files, sample_turns

pytestmark = pytest.mark.anyio

SECRET, DAY = "quixoplex", "2026-11-30"
ID = "talk"


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[Memory]:
    opened = memory_over(SqliteStore(tmp_path), lambda: NOW)
    yield opened
    await opened.close()


def history(count: int = 60, at: int = 20) -> list[NewTurn]:
    turns = sample_turns(count)
    turns[at] = NewTurn("user", f"the password of staging is {SECRET}, then go on. " * 9)
    return turns


async def redact(memory: Memory, turn_id: str, conversation_id: str = ID) -> None:
    found = await memory.find_copies(conversation_id, turn_id)
    for one in {one.conversation_id for one in found}:
        await memory.redact(one, {found.turn.digest for found in found if found.conversation_id == one}, DAY)


async def test_a_redacted_turn_keeps_its_id_and_all_turns_after_it_theirs(memory: Memory) -> None:
    ids = (await memory.sync(history(), conversation_id=ID)).turn_ids
    await redact(memory, ids[20])
    turns = await memory.history(ID)
    assert [turn.id for turn in turns] == ids
    assert turns[20].content == f"[redacted {DAY}]"
    assert [turn.content for turn in turns[:20]] == [turn.content for turn in history()[:20]]
    assert await memory.verify(ID) == []
    view = await memory.view(ID, query=f"password {SECRET}", token_budget=4_000)
    assert SECRET not in view.render()
    assert f"[redacted {DAY}]" in (await memory.expand(ID, ids[20])).text


async def test_history_that_is_sent_again_counts_as_known_and_adds_nothing(tmp_path: Path, memory: Memory) -> None:
    ids = (await memory.sync(history(), conversation_id=ID)).turn_ids
    await redact(memory, ids[20])
    again = [*history(), NewTurn("user", "and now the tests")]
    done = await memory.sync(again, conversation_id=ID)
    assert (done.known, done.appended, done.forked) == (60, 1, False)
    found = await memory.sync([*again, NewTurn("assistant", "they pass")])
    assert (found.conversation_id, found.appended) == (ID, 1), "found by its messages"
    assert len(await memory.branches(ID)) == 1
    retried = await memory.append(history()[20], conversation_id=ID, parent_id=ids[19])
    assert retried.turn_id == ids[20]
    assert await memory.verify(ID) == []
    await memory.close()
    assert not any(SECRET.encode() in raw for raw in raw_files(tmp_path).values())


async def test_a_message_after_the_same_one_is_recognised_below_another_system_prompt(memory: Memory) -> None:
    turns = history(30)
    ids = (await memory.sync([NewTurn("system", "It is Monday."), *turns], conversation_id=ID)).turn_ids
    await redact(memory, ids[21])
    done = await memory.sync([NewTurn("system", "It is Tuesday."), *turns])
    stored = await memory.history(done.conversation_id)
    assert stored[21].is_redacted
    assert all(SECRET not in turn.content for turn in stored)
    assert await memory.verify(done.conversation_id) == []


async def test_other_turns_that_say_the_same_stay(memory: Memory) -> None:
    turns = [
        NewTurn("user", "go on?"),
        NewTurn("assistant", "yes"),
        NewTurn("user", "sure?"),
        NewTurn("assistant", "yes"),
    ]
    ids = (await memory.sync(turns, conversation_id=ID)).turn_ids
    await redact(memory, ids[1])
    await memory.append(NewTurn("user", "really?"), conversation_id=ID)
    await memory.append(NewTurn("assistant", "yes"), conversation_id=ID)
    contents = [turn.content for turn in await memory.history(ID)]
    assert contents == ["go on?", f"[redacted {DAY}]", "sure?", "yes", "really?", "yes"]


async def test_branches_and_conversations_that_share_the_turn_lose_it_too(memory: Memory) -> None:
    turns = history(40)
    ids = (await memory.sync(turns, conversation_id=ID)).turn_ids
    await memory.append(NewTurn("user", "another way"), conversation_id=ID, parent_id=ids[30])
    await memory.sync(turns[:30], conversation_id="copy")
    await redact(memory, ids[20])
    for conversation in (ID, "copy"):
        for tip in await memory.branches(conversation):
            stored = await memory.history(conversation, turn_id=tip.id)
            assert stored[20].is_redacted
            assert stored[20].id == ids[20]
        assert await memory.verify(conversation) == []


async def test_written_summaries_and_a_title_that_quote_it_are_removed_and_others_stay(memory: Memory) -> None:
    await memory.sync(history(), conversation_id=ID)
    leaves = [leaf for root in await memory.outline(ID) for leaf in (root.children or (root,)) if leaf.id]
    (covering,) = [leaf for leaf in leaves if leaf.first <= 20 <= leaf.last]
    first, last = leaves[0], leaves[-1]
    assert covering not in (first, last)
    assert covering.id
    assert first.id
    assert last.id
    await memory.add_summary(ID, covering.id, Summary("agent", "All about it"))
    await memory.add_summary(ID, first.id, Summary("agent", "Quite something else"))
    await memory.add_summary(ID, last.id, Summary("agent", f"After {SECRET} was used"))
    await memory.set_title(ID, "the password of staging")
    await redact(memory, "t20")
    after = [leaf for root in await memory.outline(ID) for leaf in (root.children or (root,))]
    assert [leaf.summary.title for leaf in after if leaf.summary.author == "agent"] == ["Quite something else"]
    assert "password" not in (await memory.info(ID)).title
    await memory.set_title(ID, "the password of staging")
    assert "password" not in (await memory.info(ID)).title, "as an agent's file names it again"
    assert SECRET not in str(after)


async def test_a_second_redaction_and_the_removal_of_a_branch_keep_the_first(memory: Memory) -> None:
    ids = (await memory.sync(history(), conversation_id=ID)).turn_ids
    fork = await memory.append(NewTurn("user", "an odd way"), conversation_id=ID, parent_id=ids[19])
    await memory.append(NewTurn("assistant", "so it is"), conversation_id=ID)
    await redact(memory, fork.turn_id)
    await redact(memory, ids[20])
    await redact(memory, ids[21])
    await memory.append(NewTurn("user", "third"), conversation_id=ID, parent_id=ids[40])
    assert len(await memory.branches(ID)) == 3
    await memory.forget(ID, ID, (await memory.head(ID)).id)
    assert await memory.verify(ID) == []
    tips = {tip.id: await memory.history(ID, turn_id=tip.id) for tip in await memory.branches(ID)}
    assert [turn.id for turn in tips[ids[-1]]] == ids
    assert [turn.index for turn in tips[ids[-1]] if turn.is_redacted] == [20, 21]
    (other,) = [turns for tip, turns in tips.items() if tip != ids[-1]]
    assert [turn.is_redacted for turn in other[19:]] == [False, True, False]
    await memory.repair(ID)
    assert await memory.verify(ID) == []
    assert [turn.index for turn in await memory.history(ID, turn_id=ids[-1]) if turn.is_redacted] == [20, 21]
    done = await memory.sync(history(), conversation_id=ID)
    assert (done.known, done.appended) == (60, 0)


async def test_a_forgotten_conversation_with_a_redacted_opening_stays_forgotten(memory: Memory) -> None:
    turns = history(30, at=0)
    await memory.sync(turns, conversation_id=ID)
    await redact(memory, "t0")
    await memory.forget(ID, ID)
    with pytest.raises(Forgotten):
        await memory.sync(turns)


async def test_a_forgotten_conversation_that_was_redacted_elsewhere_stays_forgotten(memory: Memory) -> None:
    turns = history(30, at=0)
    for conversation in (ID, "elsewhere"):
        await memory.sync(turns, conversation_id=conversation)
    await memory.forget(ID, ID)
    await redact(memory, "t0", "elsewhere")
    redacted = to_new_turns(await memory.history("elsewhere"))
    with pytest.raises(Forgotten):
        await memory.sync(redacted, conversation_id=ID)
    await memory.allow_again(ID, [redacted])
    assert (await memory.sync(redacted, conversation_id=ID)).appended == 30


async def test_another_conversation_with_a_redacted_opening_is_not_taken_for_a_forgotten_one(memory: Memory) -> None:
    for conversation, text in (("one", "first secret"), ("two", "second secret")):
        await memory.append(NewTurn("user", text), conversation_id=conversation)
        await redact(memory, "t0", conversation)
    await memory.forget("one", "one")
    kept = to_new_turns(await memory.history("two"))
    done = await memory.sync(kept, conversation_id="one")
    assert done.appended == 1
    assert await memory.verify("one") == []


async def test_all_turns_that_match_a_pattern_are_found(memory: Memory) -> None:
    await memory.sync(history(), conversation_id=ID)
    await memory.append(NewTurn("assistant", f"I used {SECRET}."), conversation_id=ID)
    await memory.append(NewTurn("user", f"{SECRET} again"), conversation_id="other")
    assert len(await memory.find_matches(re.compile(SECRET), ID)) == 2
    found = await memory.find_matches(re.compile(SECRET.upper(), re.IGNORECASE))
    assert sorted((one.conversation_id, one.turn.index) for one in found) == [("other", 0), (ID, 20), (ID, 60)]
