"""Finding and listing conversations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import iso
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import AGENT, Commit
from ctxmem_mcp.stores.testing.builders import NOW, extend, new_state
from ctxmem_mcp.stores.testing.fixtures import StoreTests, load

ODD_IDS = (
    "a",
    "A",
    "ab",
    "aB",
    "Ab",
    "AB",
    "ä",
    "日本",
    "a/b",
    "a\\b",
    "a:b",
    "a?b",
    "..",
    ".",
    "con",
    "x" * 300,
    "🙂",
    " ",
    "%",
)


class ListingTests(StoreTests):
    async def test_conversations_are_found_by_any_first_turn_most_recently_active_first(self, store: Store) -> None:
        now = NOW
        for name in ("one", "two", "three"):
            now += 0.25
            await store.commit(extend(new_state(name), ["hello", name], now=now), now)
        now += 0.25
        await store.commit(extend(await load(store, "two"), ["again"], parent=1, now=now), now)
        root = (await store.digests("one", 1, 1))[0]
        assert await store.find(root, now) == ["two", "three", "one"]
        edited = extend(await load(store, "one"), ["hello, edited", "x"], parent=0, now=now)
        await store.commit(edited, now)
        assert await store.find(edited.turns[0].digest, now) == ["one"]
        assert await store.find(root, now) == ["one", "two", "three"]
        assert await store.find((await store.digests("one", 2, 2))[0], now) == [], "a later turn is no root"

    @pytest.mark.parametrize("apart_seconds", [10, 0.125])
    async def test_a_listing_is_ordered_by_activity_then_id_in_pages(self, store: Store, apart_seconds: float) -> None:
        expected = []
        for i in range(23):
            at = NOW + (i % 5) * apart_seconds
            await store.commit(extend(new_state(f"c/{i:02d}"), ["x"], now=at), at)
            expected.append((-(i % 5), f"c/{i:02d}"))
        listed: list[str] = []
        cursor: str | None = None
        while True:
            page = await store.conversations(NOW, limit=7, cursor=cursor)
            assert len(page.conversations) <= 7
            listed += [info.conversation_id for info in page.conversations]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert listed == [name for _, name in sorted(expected)]
        whole = await store.conversations(NOW, limit=23)
        assert whole.next_cursor is None

    async def test_a_listing_describes_each_conversation(self, store: Store) -> None:
        state = replace(new_state(space="s", title="a title"), retention_days=7)
        first = extend(state, [f"turn {i}" for i in range(5)])
        await store.commit(first, NOW)
        fork = extend(first.state, ["another way"], parent=3)
        await store.commit(fork, NOW)
        (info,) = (await store.conversations(NOW)).conversations
        assert (info.turns, info.tokens, info.branches, info.space, info.title, info.retention_days) == (
            6, fork.state.tokens, 2, "s", "a title", 7,
        )  # fmt: skip
        assert info.head == fork.turns[0].id
        assert fork.turns[0].index == 3
        assert (info.created_at, info.last_activity, info.expires_at) == (
            "2025-06-15T15:06:40Z", "2025-06-15T15:06:40Z", "2025-06-22T15:06:40Z",
        )  # fmt: skip
        assert info.bytes > 0

    async def test_a_listing_of_one_space(self, store: Store) -> None:
        for name, space in (("a", "red"), ("b", "blue"), ("c", None), ("d", "red"), ("e", "")):
            await store.commit(extend(new_state(name, space=space), ["x"]), NOW)

        async def list_ids(space: str | None) -> list[str]:
            return [info.conversation_id for info in (await store.conversations(NOW, space)).conversations]

        assert await list_ids("red") == ["a", "d"]
        assert await list_ids("") == ["e"]
        assert await list_ids("nobody's") == []
        assert await list_ids(None) == ["a", "b", "c", "d", "e"]

    async def test_a_malformed_cursor_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidArgument, match="cursor"):
            await store.conversations(NOW, cursor="rubbish")

    async def test_any_two_different_ids_are_different_conversations(self, store: Store) -> None:
        for i, name in enumerate(ODD_IDS):
            await store.commit(extend(new_state(name), [f"of {i}"]), NOW)
        for i, name in enumerate(ODD_IDS):
            assert [turn.content for turn in await store.turns(name, [1])] == [f"of {i}"]
        listed = await store.conversations(NOW, limit=100)
        assert sorted(info.conversation_id for info in listed.conversations) == sorted(ODD_IDS)
        await store.forget("A")
        assert await store.load("a", NOW) is not None

    async def test_a_listing_is_ordered_by_when_the_last_turn_happened(self, store: Store) -> None:
        def timed(name: str, *times: tuple[str | None, float]) -> Commit:
            commit = extend(new_state(name), ["x"] * len(times), now=NOW)
            turns = [
                replace(turn, said_at=said_at, stored_at=stored_at)
                for turn, (said_at, stored_at) in zip(commit.turns, times, strict=True)
            ]
            return replace(commit, turns=turns)

        for commit in (
            timed("imported", ("2025-01-01T10:00:00Z", NOW)),
            timed("ends with a result without a time", ("2025-01-01T11:00:00Z", NOW), (None, NOW)),
            timed("goes on today", ("2025-01-01T12:00:00Z", NOW - 100), (None, NOW - 50)),
            timed("of a clock that is ahead", ("2031-01-01T10:00:00Z", NOW)),
            timed("unreadable time", ("noon", NOW - 60)),
        ):
            await store.commit(commit, NOW)
        listed = (await store.conversations(NOW)).conversations
        assert [(info.conversation_id, info.last_activity) for info in listed] == [
            ("of a clock that is ahead", iso(NOW)),
            ("goes on today", iso(NOW - 50)),
            ("unreadable time", iso(NOW - 60)),
            ("ends with a result without a time", "2025-01-01T11:00:00Z"),
            ("imported", "2025-01-01T10:00:00Z"),
        ]
        assert {info.expires_at for info in listed} == {iso(NOW + 30 * 86_400)}, "expiry counts from the arrival"

    async def test_a_listing_names_the_agent(self, store: Store) -> None:
        await store.commit(extend(new_state("c"), ["x"]), NOW)
        assert [info.agent for info in (await store.conversations(NOW)).conversations] == [None]
        await store.set_extra("c", AGENT, b"codex", NOW)
        assert [info.agent for info in (await store.conversations(NOW)).conversations] == ["codex"]
