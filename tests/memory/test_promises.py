"""Law 12, promises are kept to whom they were made: chats that begin alike, retention and forgetting of branches."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.capture.importer import import_transcript
from ctxmem_mcp.errors import ForgottenBranch, InvalidArgument, NotConfirmed, UnknownTurn
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, Source
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.transcripts.base import Transcript
from tests.stores.samples import raw_files

pytestmark = pytest.mark.anyio
DAY = 86_400
NOW = 1_750_000_000.0


def in_memory(clock: Callable[[], float] = lambda: NOW) -> Memory:
    return Memory(InMemoryStore(), ExtractiveSummarizer(), clock=clock)


def chat(name: str, turns: int, words: int = 4) -> list[NewTurn]:
    return [NewTurn(("user", "assistant")[i % 2], f"{name}{i} " * words) for i in range(turns)]


GREETING = [NewTurn("system", "Be brief."), NewTurn("user", "Hi"), NewTurn("assistant", "Hello! How can I help?")]


@settings(max_examples=30)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 365), st.integers(1, 4)), min_size=1, max_size=10),
)
def test_chats_that_begin_alike_keep_their_own_days(shared: int, requests: list[tuple[int, int, int]]) -> None:
    """Each request of a chat promises days; every chat is kept at least as long as it was promised last."""

    async def run() -> None:
        clock = [NOW]
        memory = in_memory(lambda: clock[0])
        known: dict[int, list[NewTurn]] = {}
        promised: dict[int, float] = {}
        conversation_of: dict[int, str] = {}
        for name, days, more in requests:
            turns = known.get(name, GREETING[:shared])
            known[name] = [*turns, *(NewTurn("user", f"chat {name}, turn {len(turns) + i}") for i in range(more))]
            synced = await memory.sync(known[name], retention_days=days)
            assert conversation_of.setdefault(name, synced.conversation_id) == synced.conversation_id
            promised[name] = clock[0] + days * DAY
            for one, until in promised.items():
                info = await memory.info(conversation_of[one])
                assert info.expires >= until - 1
            clock[0] += 60
        # They part before the first closed leaf, so each is a conversation of its own.
        assert len(set(conversation_of.values())) == len(conversation_of)
        gone, *left = conversation_of
        await memory.forget(conversation_of[gone], conversation_of[gone])
        for name in left:
            stored = await memory.turns(conversation_of[name])
            assert [turn.content for turn in stored] == [turn.content for turn in known[name]]

    asyncio.run(run())


@settings(max_examples=30)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 365)), min_size=1, max_size=10))
def test_a_branch_never_shortens_the_days_of_another(requests: list[tuple[bool, int]]) -> None:
    """Two branches of one conversation, which part after its first closed leaf."""

    async def run() -> None:
        memory = in_memory()
        common = chat("common", 30, 60)
        branches = [[*common, *chat("one", 2)], [*common, *chat("other", 2)]]
        first = await memory.sync(branches[0], retention_days=100)
        second = await memory.sync(branches[1], retention_days=50)
        assert second.conversation_id == first.conversation_id
        assert second.forked
        longest = 100
        for is_other, days in requests:
            branches[is_other].append(NewTurn("user", f"more {len(branches[is_other])}"))
            synced = await memory.sync(branches[is_other], retention_days=days)
            assert synced.conversation_id == first.conversation_id
            longest = max(longest, days)
            assert (await memory.info(first.conversation_id)).retention_days == longest
        # An explicit change of the whole conversation's retention still counts.
        assert (await memory.set_retention(first.conversation_id, 7)).retention_days == 7

    asyncio.run(run())


async def test_the_only_branch_may_be_promised_fewer_days() -> None:
    memory = in_memory()
    turns = chat("a", 4)
    synced = await memory.sync(turns, retention_days=90)
    await memory.sync(turns[:2], retention_days=1)
    assert (await memory.info(synced.conversation_id)).retention_days == 90, "its beginning is not all of it"
    await memory.sync([*turns, NewTurn("user", "b")], retention_days=1)
    assert (await memory.info(synced.conversation_id)).retention_days == 1


@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(1, 12))
def test_a_beginning_and_a_continuation_are_the_same_conversation(first: int, second: int) -> None:
    async def run() -> None:
        memory, turns = in_memory(), chat("a", 12)
        one = await memory.sync(turns[:first])
        other = await memory.sync(turns[:second])
        assert one.conversation_id == other.conversation_id
        assert not other.forked

    asyncio.run(run())


async def test_a_long_system_prompt_does_not_make_two_chats_one() -> None:
    memory = in_memory()
    system = NewTurn("system", "rule " * 4_000)
    one = await memory.sync([system, NewTurn("user", "Hi"), NewTurn("assistant", "a"), NewTurn("user", "Fix a.")])
    other = await memory.sync([system, NewTurn("user", "Hello"), NewTurn("assistant", "b")])
    assert one.conversation_id != other.conversation_id


# ---------------------------------------------------------------- forgetting a branch


def holds(folder: Path, words: bytes) -> bool:
    return any(words in file.read_bytes() for file in folder.rglob("*") if file.is_file())


def sqlite(folder: Path) -> Memory:
    return Memory(SqliteStore(folder, durability="normal"), ExtractiveSummarizer(), clock=lambda: NOW)


async def test_the_receipt_says_how_many_other_branches_went(tmp_path: Path) -> None:
    memory = sqlite(tmp_path)
    for name in ("one", "two", "three"):
        await memory.sync([*chat("common", 3), *chat(name, 2)], conversation_id="c")
    with pytest.raises(NotConfirmed, match=r"to forget 'c', with 2 other branches; nothing was removed"):
        await memory.forget("c", "no")
    receipt = await memory.forget("c", "c")
    assert receipt.other_branches == 2
    await memory.close()


@pytest.mark.parametrize("is_in_memory", [False, True])
async def test_a_turn_names_the_branch_that_it_is_on(tmp_path: Path, is_in_memory: bool) -> None:
    memory = in_memory() if is_in_memory else sqlite(tmp_path)
    common = chat("common", 3)
    one = await memory.sync([*common, *chat("one", 4)], conversation_id="c")
    await memory.sync([*common, *chat("two", 2)], conversation_id="c")
    with pytest.raises(InvalidArgument, match="must be on one branch only"):
        await memory.forget("c", "c", one.turn_ids[2])
    with pytest.raises(UnknownTurn):
        await memory.forget("c", "c", "t7-123")
    with pytest.raises(NotConfirmed):
        await memory.forget("c", "no", one.turn_ids[-1])
    assert (await memory.info("c")).turns == 9
    receipt = await memory.forget("c", "c", one.turn_ids[4])
    assert (receipt.turns, receipt.other_branches) == (4, 0)
    assert len(await memory.history("c")) == 5
    receipt = await memory.forget("c", "c", one.turn_ids[0])
    assert receipt.turns == 5, "the only branch is the whole conversation"
    assert (await memory.conversations()).conversations == []
    await memory.close()


FORGOTTEN = [NewTurn("assistant", "the quixoplex"), NewTurn("user", "it fails"), NewTurn("assistant", "vandrubel")]


@pytest.fixture
async def without_branch(tmp_path: Path) -> AsyncIterator[Memory]:
    """A conversation of which the branch FORGOTTEN after `GREETING[:2]` was forgotten, and another branch is left."""
    memory = sqlite(tmp_path)
    gone = await memory.sync([*GREETING[:2], *FORGOTTEN], conversation_id="c")
    await memory.sync(GREETING, conversation_id="c")
    await memory.forget("c", "c", gone.turn_ids[-1])
    yield memory
    await memory.close()
    assert not any(word in raw for raw in raw_files(tmp_path).values() for word in (b"quixoplex", b"vandrubel"))


@pytest.mark.parametrize("conversation_id", ["c", "another", None])
@pytest.mark.parametrize("source", Source)
@pytest.mark.parametrize("length", [1, 3])
async def test_a_forgotten_branch_does_not_come_back(
    without_branch: Memory, conversation_id: str | None, source: Source, length: int
) -> None:
    if source is Source.EVENTS and conversation_id != "c":
        return  # what hooks recorded has the session's id
    sent = [*GREETING[:2], *FORGOTTEN[:length]]
    with pytest.raises(ForgottenBranch):
        await without_branch.sync(sent, conversation_id=conversation_id, source=source)
    tip = (await without_branch.history("c"))[1]
    with pytest.raises(ForgottenBranch):
        await without_branch.sync(FORGOTTEN, conversation_id="c", after=tip.id, source=source)


async def test_a_forgotten_branch_does_not_come_back_under_another_system_prompt(without_branch: Memory) -> None:
    with pytest.raises(ForgottenBranch):
        await without_branch.sync([NewTurn("system", "Be long."), GREETING[1], *FORGOTTEN])


async def test_the_other_branches_go_on(without_branch: Memory) -> None:
    more = [*GREETING, NewTurn("user", "something else")]
    for source in Source:
        more.append(NewTurn("assistant", source.value))
        assert (await without_branch.sync(more, conversation_id="c", source=source)).appended > 0
    edited = [*GREETING[:2], NewTurn("assistant", "Good morning!")]
    assert (await without_branch.sync(edited, conversation_id="c")).forked
    said = await without_branch.append(FORGOTTEN[1], conversation_id="c")
    assert said.index == 3


async def test_what_was_said_after_a_forgotten_head_is_not_stored_elsewhere(tmp_path: Path) -> None:
    """Hook events, and appends in progress, follow the head; after the receipt that is another branch's."""
    memory = sqlite(tmp_path)
    await memory.sync(GREETING, conversation_id="c")
    gone = await memory.sync([*GREETING[:2], *FORGOTTEN], conversation_id="c")
    before = await memory.count_tombstones()
    await memory.forget("c", "c", gone.head)
    head = await memory.stored_head("c")
    turns = [NewTurn("user", "about the quixoplex")]
    with pytest.raises(ForgottenBranch):
        await memory.sync(turns, conversation_id="c", after=head, source=Source.EVENTS, since=before)
    assert (await memory.sync(turns, conversation_id="c", after=head, source=Source.EVENTS)).appended == 1
    await memory.close()


async def test_only_the_user_brings_a_branch_back(without_branch: Memory) -> None:
    branch = [*GREETING[:2], *FORGOTTEN]
    await without_branch.allow_again("c", [branch])
    done = await without_branch.sync(branch, conversation_id="c", source=Source.TRANSCRIPT)
    assert (done.known, done.appended) == (2, 3)
    await without_branch.forget("c", "c", done.head)


async def test_an_import_leaves_out_a_forgotten_branch(without_branch: Memory) -> None:
    transcript = Transcript(
        "x", "c", (*GREETING, NewTurn("user", "new")), abandoned_branches=((*GREETING[:2], *FORGOTTEN),)
    )
    done = await import_transcript(without_branch, Path("x"), transcript)
    assert done is not None
    assert (done.new, done.warnings) == (1, ["a branch that was forgotten was left out"])
    assert len(await without_branch.branches("c")) == 1


@settings(max_examples=12, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=2, max_size=5),
    st.integers(0, 4),
    st.integers(0, 4),
)
def test_a_forgotten_branch_is_gone_and_the_others_stay(
    branches: list[tuple[int, int]], forgotten: int, head: int
) -> None:
    """After forgetting one of several branches, each turn of the others has its id, and no file has its words."""

    async def run(folder: Path) -> None:
        memory = sqlite(folder)
        common = chat("common", 40, 40)
        ends, sent = [], {}
        for i, (shared, own) in enumerate(branches):
            turns = [*common[:shared], *(NewTurn("user", f"SECRET{i}x {n} " * 9) for n in range(own))]
            ends.append((await memory.sync(turns, conversation_id="c", retention_days=77)).turn_ids[-1])
            sent[ends[-1]] = turns
        await memory.revert("c", ends[head % len(ends)])
        before = {end: await memory.turns("c", turn_id=end) for end in ends}
        gone = ends[forgotten % len(ends)]
        words = f"SECRET{forgotten % len(ends)}x".encode()
        assert holds(folder, words)
        receipt = await memory.forget("c", "c", gone)
        assert receipt.turns >= 1
        with pytest.raises(ForgottenBranch):
            await memory.sync(sent[gone], conversation_id="c")
        left = [end for end in ends if end != gone]
        assert await memory.verify("c") == []
        for end in left:
            after = await memory.turns("c", turn_id=end)
            assert [(t.id, t.content, t.stored_at) for t in after] == [
                (t.id, t.content, t.stored_at) for t in before[end]
            ]
        with pytest.raises(UnknownTurn):
            await memory.turn("c", gone)
        info = await memory.info("c")
        assert info.retention_days == 77
        last = await memory.head("c")
        assert last is not None
        assert last.id == (ends[head % len(ends)] if head % len(ends) != forgotten % len(ends) else last.id)
        await memory.append(NewTurn("user", "and on"), conversation_id="c")
        await memory.close()
        assert not holds(folder, words)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
