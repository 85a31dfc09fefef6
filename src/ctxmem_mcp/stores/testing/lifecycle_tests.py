"""Unknown conversations, expiry, forgetting."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ctxmem_mcp.errors import ForgottenBranch, HeadMoved, StoreUnavailable, UnknownConversation
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import KEPT, ModelCall, Salvage, SpendLimits
from ctxmem_mcp.stores.testing.builders import DAY, NOW, extend, make_closing, make_digest, new_state
from ctxmem_mcp.stores.testing.fixtures import StoreTests
from ctxmem_mcp.stores.tombstones import ForgetGuard, RemovedBranch

LIMITS = SpendLimits(tokens_per_day=1_000, tokens_per_conversation=500, lost_after_seconds=60)


class UnknownTests(StoreTests):
    async def test_reading_nothing_returns_nothing(self, store: Store) -> None:
        await store.commit(extend(new_state(), ["a"]), NOW)
        assert await store.turns("c", []) == []
        assert await store.nodes("c", []) == {}
        assert await store.summaries("c", []) == {}
        assert await store.pieces("c", []) == {}
        assert await store.pieces_of("c", []) == {}
        assert await store.vectors("c", []) == {}
        assert dict(await store.term_hits("c", [], 10)) == {}

    async def test_reading_an_unknown_conversation_is_an_error(self, store: Store) -> None:
        nobody, digests = "nobody", [make_digest("x")]
        for read in (
            store.turns(nobody, [1]),
            store.turns(nobody, []),
            store.digests(nobody, 1, 2),
            store.nodes(nobody, digests),
            store.nodes(nobody, []),
            store.closings(nobody, 1, 2),
            store.nodes_over(nobody, 0, 1),
            store.branch_roots(nobody, [(1, 2)]),
            store.summaries(nobody, digests),
            store.summaries(nobody, []),
            store.pieces(nobody, [1]),
            store.pieces_of(nobody, [1]),
            store.vectors(nobody, [1]),
            store.term_hits(nobody, ["x"], 10),
            store.vocabulary(nobody),
            store.forget(nobody),
        ):
            with pytest.raises(UnknownConversation):
                await read
        assert await store.load(nobody, NOW) is None, "reading created one"


class ForgettingTests(StoreTests):
    async def test_an_expired_conversation_is_invisible_at_once(self, store: Store) -> None:
        commit = extend(new_state(), ["one"])
        await store.commit(commit, NOW)
        root = commit.turns[0].digest
        just_before, at = NOW + 30 * DAY - 0.001, NOW + 30 * DAY
        assert await store.load("c", just_before) is not None
        assert await store.find(root, just_before) == ["c"]
        assert len((await store.conversations(just_before)).conversations) == 1
        assert await store.load("c", at) is None
        assert await store.find(root, at) == []
        assert (await store.conversations(at)).conversations == []

    async def test_an_expired_conversation_stays_until_it_is_swept(self, store: Store) -> None:
        """The reading of the clock that calls it expired may be wrong."""
        old = extend(new_state(), ["old"])
        await store.commit(old, NOW)
        later = NOW + 31 * DAY
        with pytest.raises(HeadMoved):
            await store.commit(extend(new_state(), ["new"], now=later), later)
        more = extend(old.state, ["more"], now=later)
        await store.commit(more, later)
        assert await store.load("c", later) == more.state
        assert [turn.content for turn in await store.turns("c", [1, 2])] == ["old", "more"]

    async def test_after_expiry_and_a_sweep_the_same_id_is_a_new_conversation(self, store: Store) -> None:
        old = extend(new_state(), ["old", "old too"], terms=[["old"], ["old"]])
        await store.commit(old, NOW)
        later = NOW + 31 * DAY
        assert await store.sweep(await store.expired(later)) == ["c"]
        with pytest.raises(HeadMoved):
            await store.commit(extend(old.state, ["more"], now=later), later)
        new = extend(new_state(), ["new"], now=later)
        await store.commit(new, later)
        assert await store.load("c", later) == new.state
        assert [turn.content for turn in await store.turns("c", [1, 2])] == ["new"]
        assert dict(await store.term_hits("c", ["old"], 10)) == {}

    async def test_sweeping_forgets_what_has_expired_and_nothing_else(self, store: Store) -> None:
        for name, days in (("b", 1), ("a", 1), ("keep", 2)):
            await store.commit(extend(replace(new_state(name), retention_days=days), ["x"]), NOW)
        assert await store.expired(NOW + DAY - 1) == {}
        expired = await store.expired(NOW + DAY)
        assert expired == {"a": NOW + DAY, "b": NOW + DAY}
        assert await store.sweep(expired) == ["a", "b"]
        assert await store.sweep(expired) == []
        assert await store.expired(NOW + DAY) == {}
        with pytest.raises(UnknownConversation):
            await store.turns("a", [1])
        assert await store.load("keep", NOW) is not None

    async def test_sweeping_leaves_what_has_another_expiry_by_now(self, store: Store) -> None:
        first = extend(new_state(), ["one"])
        await store.commit(first, NOW)
        expired = await store.expired(NOW + 31 * DAY)
        await store.commit(extend(first.state, ["two"], now=NOW + 1), NOW + 1)
        assert await store.sweep({**expired, "nobody": NOW}) == []
        assert await store.load("c", NOW) is not None

    async def test_forgetting_returns_a_receipt_once(self, store: Store) -> None:
        commit = extend(new_state(), [f"turn {i}" for i in range(60)])
        closings = [make_closing(0, 19, 21), make_closing(20, 39, 41), make_closing(0, 39, 41, level=1)]
        await store.commit(replace(commit, closings=closings, state=replace(commit.state, nodes=3)), NOW)
        await store.commit(extend(new_state("other"), ["stays"]), NOW)
        receipt = await store.forget("c")
        assert (receipt.conversation_id, receipt.turns, receipt.nodes) == ("c", 60, 3)
        assert receipt.bytes > 0
        assert receipt.checked
        with pytest.raises(UnknownConversation):
            await store.forget("c")
        assert await store.load("c", NOW) is None
        assert [info.conversation_id for info in (await store.conversations(NOW)).conversations] == ["other"]
        new = extend(new_state(), ["a new start"])
        await store.commit(new, NOW)
        assert await store.load("c", NOW) == new.state
        assert [turn.content for turn in await store.turns("c", [1, 2])] == ["a new start"]
        assert await store.closings("c", 1, 60) == []

    async def test_a_branch_is_removed_and_the_rest_stays(self, store: Store) -> None:
        first = extend(new_state(), ["shared", "own words"])
        await store.commit(replace(first, closings=[make_closing(0, 0, 2), make_closing(0, 1, 2, level=1)]), NOW)
        await store.commit(extend(first.state, ["another"], parent=1), NOW)
        await store.set_extra("c", "agent", b"codex", NOW)
        of_rest, of_branch = make_closing(0, 0, 2).node.digest, make_closing(0, 1, 2, level=1).node.digest
        for digest in (of_rest, of_branch):
            begun = await store.begin_call("c", ModelCall(digest, "model:m", NOW, 50, 10), LIMITS, NOW)
            assert isinstance(begun, ModelCall)
            await store.end_call("c", replace(begun, outcome=KEPT), None, NOW)
        removed = await store.turns("c", [1, 2])

        async def build(empty: Store, salvage: Salvage) -> int:
            assert sorted(salvage.turns) == [1, 2, 3]
            assert salvage.state is not None
            assert salvage.state["version"] == 2
            rest = extend(replace(new_state(), created=NOW + 1), ["shared", "another"])
            await empty.commit(replace(rest, closings=[make_closing(0, 0, 2)]), NOW)
            return len(salvage.lost)

        branch = RemovedBranch(removed, removed[-1].digest, had_head=False)
        assert await store.remove_branch("c", branch, build) == (0, [])
        state = await store.load("c", NOW)
        assert state is not None
        assert [turn.content for turn in await store.turns("c", [1, 2, 3])] == ["shared", "another"]
        calls = await store.model_calls("c")
        assert [(call.digest, call.tokens) for call in calls] == [(of_rest, 60), (b"", 60)]
        assert await store.extra("c", "agent") == b"codex"
        with pytest.raises(ForgottenBranch):
            await store.check_forgotten("c", ForgetGuard(new_digests=[removed[-1].digest]))

    async def test_a_branch_is_not_removed_if_the_conversation_changes_or_building_fails(self, store: Store) -> None:
        first = extend(new_state(), ["one", "two"])
        await store.commit(first, NOW)
        removed = await store.turns("c", [1, 2])
        branch = RemovedBranch(removed, removed[-1].digest, had_head=True)

        async def append(empty: Store, salvage: Salvage) -> None:
            await empty.commit(extend(new_state(), ["one"]), NOW)
            await store.commit(extend(first.state, ["three"]), NOW)

        async def fail(empty: Store, salvage: Salvage) -> None:
            raise RuntimeError("fails")

        with pytest.raises(StoreUnavailable):
            await store.remove_branch("c", branch, append)
        with pytest.raises(RuntimeError):
            await store.remove_branch("c", branch, fail)
        assert [turn.content for turn in await store.turns("c", [1, 2, 3])] == ["one", "two", "three"]
        await store.check_forgotten("c", ForgetGuard(new_digests=[removed[-1].digest]))
        with pytest.raises(UnknownConversation):
            await store.remove_branch("nobody", branch, fail)

    async def test_a_stale_commit_does_not_reach_a_conversation_created_again(self, store: Store) -> None:
        old = extend(new_state(), ["old"])
        await store.commit(old, NOW)
        await store.forget("c")
        new = extend(replace(new_state(), created=NOW + 1), ["new"])
        await store.commit(new, NOW)
        with pytest.raises(HeadMoved):
            await store.commit(extend(old.state, ["after old"]), NOW)
        assert await store.load("c", NOW) == new.state
