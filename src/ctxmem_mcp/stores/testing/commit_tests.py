"""Commits, and the turns that they store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

import pytest

from ctxmem_mcp.errors import HeadMoved, UnknownConversation
from ctxmem_mcp.models import Turn
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Commit
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, new_state
from ctxmem_mcp.stores.testing.fixtures import StoreTests

ODD_TEXTS = (
    "", " ", "x", "\x00", "a\x00b", "\r", "lone\rcarriage", "\r\n", "\n\n", "🙂", "👩‍👩‍👧", "日本語", "\ufeffbom",
    "\u2028\u2029\x85", "e\u0301 and é", "'; DROP TABLE turns; --", "\\", '"', "\U0010ffff", "a" * 70_000,
)  # fmt: skip


class FailingTurns(Sequence[Turn]):
    """Turns that can't be read to the end: iterating over them fails half-way."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._turns = turns

    @overload
    def __getitem__(self, i: int) -> Turn: ...
    @overload
    def __getitem__(self, i: slice) -> Sequence[Turn]: ...
    def __getitem__(self, i: int | slice) -> Turn | Sequence[Turn]:
        return self._turns[i]

    def __len__(self) -> int:
        return len(self._turns) + 1

    def __iter__(self) -> Iterator[Turn]:
        yield from self._turns
        raise RuntimeError("broken off")


class CommitTests(StoreTests):
    async def test_a_committed_state_is_loaded(self, store: Store) -> None:
        commit = extend(new_state(space="s", title="Titel 🙂"), ["one", "two"])
        await store.commit(commit, NOW)
        assert await store.load("c", NOW) == commit.state
        again = extend(replace(commit.state, frontier=b"\x00\xff"), ["three"], now=NOW + 0.25)
        await store.commit(again, NOW + 0.25)
        assert await store.load("c", NOW) == again.state

    async def test_an_unknown_conversation_has_no_state(self, store: Store) -> None:
        assert await store.load("nobody", NOW) is None

    @pytest.mark.parametrize("version", [0, 1, 3])
    async def test_a_commit_computed_from_another_version_is_refused_and_leaves_nothing(
        self, store: Store, version: int
    ) -> None:
        first = extend(new_state(), ["one"])
        await store.commit(first, NOW)
        other = extend(first.state, ["two"])
        other = replace(other, state=replace(other.state, version=version))
        with pytest.raises(HeadMoved):
            await store.commit(other, NOW)
        assert await store.load("c", NOW) == first.state
        assert [turn.content for turn in await store.turns("c", [1, 2])] == ["one"]

    async def test_a_later_commit_to_a_missing_conversation_is_refused(self, store: Store) -> None:
        with pytest.raises(HeadMoved):
            await store.commit(extend(replace(new_state(), version=4), ["one"]), NOW)
        assert await store.load("c", NOW) is None
        assert (await store.conversations(NOW)).conversations == []

    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_commit_that_fails_half_way_leaves_nothing(self, store: Store, exists: bool) -> None:
        state = new_state()
        if exists:
            first = extend(state, ["kept"], terms=[["kept"]])
            await store.commit(first, NOW)
            state = first.state
        broken = extend(state, ["lost", "lost too"], terms=[["lost"], ["lost"]])
        with pytest.raises(RuntimeError, match="broken off"):
            await store.commit(replace(broken, turns=FailingTurns(broken.turns[:1])), NOW)
        assert await store.load("c", NOW) == (state if exists else None)
        if exists:
            assert [turn.content for turn in await store.turns("c", [1, 2, 3])] == ["kept"]
            assert dict(await store.term_hits("c", ["lost"], 10)) == {}
        whole = extend(state, ["after all"], terms=[["all"]])
        await store.commit(whole, NOW)
        assert await store.load("c", NOW) == whole.state
        assert [turn.content for turn in await store.turns("c", [whole.state.head])] == ["after all"]

    async def test_a_commit_without_turns_moves_the_head_only(self, store: Store) -> None:
        first = extend(new_state(), ["one", "two"])
        await store.commit(first, NOW)
        moved = replace(first.state, version=2, head=1)
        await store.commit(Commit(moved), NOW)
        assert await store.load("c", NOW) == moved
        assert [turn.content for turn in await store.turns("c", [1, 2])] == ["one", "two"]

    async def test_extra_facts_are_stored_replaced_and_removed(self, store: Store) -> None:
        await store.commit(extend(new_state(), ["one"]), NOW)
        assert await store.extra("c", "a") is None
        await store.set_extra("c", "a", b"\x00\xff", NOW)
        await store.set_extra("c", "b", b"", NOW)
        assert (await store.extra("c", "a"), await store.extra("c", "b")) == (b"\x00\xff", b"")
        await store.set_extra("c", "a", b"new", NOW)
        await store.set_extra("c", "b", None, NOW)
        assert (await store.extra("c", "a"), await store.extra("c", "b")) == (b"new", None)
        with pytest.raises(UnknownConversation):
            await store.set_extra("none", "a", b"", NOW)
        with pytest.raises(UnknownConversation):
            await store.set_extra("c", "a", b"", NOW + 365 * DAY)


class TurnTests(StoreTests):
    async def test_turns_keep_the_time_at_which_they_were_stored(self, store: Store) -> None:
        commit = extend(new_state(), ["one", "two"])
        turns = [replace(turn, stored_at=NOW + i / 8) for i, turn in enumerate(commit.turns)]
        await store.commit(replace(commit, turns=turns), NOW)
        for metadata_only in (False, True):
            found = await store.turns("c", [1, 2], metadata_only=metadata_only)
            assert [turn.stored_at for turn in found] == [NOW, NOW + 0.125]

    async def test_odd_texts_are_returned_byte_for_byte(self, store: Store) -> None:
        await store.commit(extend(new_state(), ODD_TEXTS), NOW)
        assert [turn.content for turn in await store.turns("c", range(1, len(ODD_TEXTS) + 1))] == list(ODD_TEXTS)

    async def test_odd_texts_after_much_text_are_returned_byte_for_byte(self, store: Store) -> None:
        """A store may compress texts with a dictionary once there are enough of them."""
        state, contents = new_state(), [f"Turn {i}: " + f"word{i} is here. " * 40 for i in range(150)]
        for added in (contents, ODD_TEXTS):
            commit = extend(state, added)
            await store.commit(commit, NOW)
            state = commit.state
        expected = [*contents, *ODD_TEXTS]
        assert [turn.content for turn in await store.turns("c", range(1, len(expected) + 1))] == expected

    async def test_long_conversations_are_returned_byte_for_byte(self, store: Store) -> None:
        """Whatever dictionary the store compressed each text with."""
        state, texts = new_state(), list[str]()
        for n, size in enumerate((3, 200, 700, 700, 3, 3)):
            added = [f"turn {n}.{i}: " + f"the parser failed on line {i * n} of limits.py\n" * 18 for i in range(size)]
            commit = extend(state, added)
            await store.commit(commit, NOW)
            state, texts = commit.state, texts + added
        assert sum(map(len, texts)) > 1.2e6
        assert [turn.content for turn in await store.turns("c", range(1, len(texts) + 1))] == texts

    async def test_a_turn_of_three_megabytes_is_returned(self, store: Store) -> None:
        huge = "".join(f"line {i} of a very long output\n" for i in range(100_000))
        await store.commit(extend(new_state(), ["small", huge, "small again"]), NOW)
        assert [turn.content for turn in await store.turns("c", [2])] == [huge]

    async def test_all_fields_of_a_turn_are_returned(self, store: Store) -> None:
        commit = extend(new_state(), ["", "x"])
        turns = [
            replace(
                commit.turns[0], role="tool", name="na\x00me 🙂", said_at="2026-01-01T00:00:00+05:30", call_id="c'1"
            ),
            replace(commit.turns[1], role="system", name="", said_at="", call_id="", tokens=2**40),
        ]
        await store.commit(replace(commit, turns=turns), NOW)
        assert await store.turns("c", [1, 2]) == turns
        assert await store.turns("c", [1, 2], metadata_only=True) == [replace(turn, content="") for turn in turns]

    async def test_turns_are_returned_in_the_order_of_the_seqs_without_unknown_ones(self, store: Store) -> None:
        await store.commit(extend(new_state(), [f"text {i}" for i in range(1, 1_301)]), NOW)
        seqs = [1_300, 7, 0, 7, -1, 9_999, *range(1_200, 0, -1)]
        found = await store.turns("c", seqs)
        assert [turn.seq for turn in found] == [seq for seq in seqs if 1 <= seq <= 1_300]
        assert all(turn.content == f"text {turn.seq}" for turn in found)

    async def test_digests_of_a_range(self, store: Store) -> None:
        commit = extend(new_state(), ["a", "b", "c"])
        await store.commit(commit, NOW)
        digests = [turn.digest for turn in commit.turns]
        assert await store.digests("c", 1, 3) == digests
        assert await store.digests("c", 2, 99) == digests[1:]
        assert await store.digests("c", 3, 2) == []
        assert await store.digests("c", 0, 0) == []
