"""The contract, verb by verb and error by error: every store keeps it alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import overload

import pytest

from ctxmem_mcp.errors import HeadMoved, InvalidArgument, UnknownConversation, UnknownNode
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import EXTRACTIVE, Highlight, NewTurn, Summary, Turn
from ctxmem_mcp.stores.base import Commit, State, Store
from tests.stores.commits import DAY, NOW, closing, digest, extended, fresh, remembering, talk

pytestmark = pytest.mark.anyio


class Breaking(Sequence[Turn]):
    """Turns that can't be read to the end: whatever reads them fails half-way."""

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


async def loaded(store: Store, conversation_id: str = "c", now: float = NOW) -> State:
    state = await store.load(conversation_id, now)
    assert state is not None
    return state


# ------------------------------------------------------------ commits


async def test_what_was_committed_is_loaded(store: Store) -> None:
    commit = extended(fresh(space="s", title="Titel 🙂"), ["one", "two"])
    await store.commit(commit, NOW)
    assert await store.load("c", NOW) == commit.state
    again = extended(replace(commit.state, frontier=b"\x00\xff"), ["three"], now=NOW + 0.25)
    await store.commit(again, NOW + 0.25)
    assert await store.load("c", NOW) == again.state


async def test_an_unknown_conversation_has_no_state(store: Store) -> None:
    assert await store.load("nobody", NOW) is None


@pytest.mark.parametrize("version", [0, 1, 3])
async def test_a_commit_computed_from_another_version_is_refused_and_leaves_nothing(store: Store, version: int) -> None:
    first = extended(fresh(), ["one"])
    await store.commit(first, NOW)
    other = extended(first.state, ["two"])
    other = replace(other, state=replace(other.state, version=version))
    with pytest.raises(HeadMoved):
        await store.commit(other, NOW)
    assert await store.load("c", NOW) == first.state
    assert [turn.content for turn in await store.turns("c", [1, 2])] == ["one"]


async def test_a_later_commit_to_a_conversation_that_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(HeadMoved):
        await store.commit(extended(replace(fresh(), version=4), ["one"]), NOW)
    assert await store.load("c", NOW) is None
    assert (await store.conversations(NOW)).conversations == []


@pytest.mark.parametrize("begun", [False, True])
async def test_a_commit_that_fails_half_way_leaves_nothing(store: Store, begun: bool) -> None:
    state = fresh()
    if begun:
        first = extended(state, ["kept"], terms=[["kept"]])
        await store.commit(first, NOW)
        state = first.state
    broken = extended(state, ["lost", "lost too"], terms=[["lost"], ["lost"]])
    with pytest.raises(RuntimeError, match="broken off"):
        await store.commit(replace(broken, turns=Breaking(broken.turns[:1])), NOW)
    assert await store.load("c", NOW) == (state if begun else None)
    if begun:
        assert [turn.content for turn in await store.turns("c", [1, 2, 3])] == ["kept"]
        assert dict(await store.term_hits("c", ["lost"], 10)) == {}
    whole = extended(state, ["after all"], terms=[["all"]])
    await store.commit(whole, NOW)
    assert await store.load("c", NOW) == whole.state
    assert [turn.content for turn in await store.turns("c", [whole.state.head])] == ["after all"]


async def test_a_commit_without_turns_moves_the_head_only(store: Store) -> None:
    first = extended(fresh(), ["one", "two"])
    await store.commit(first, NOW)
    moved = replace(first.state, version=2, head=1)
    await store.commit(Commit(moved), NOW)
    assert await store.load("c", NOW) == moved
    assert [turn.content for turn in await store.turns("c", [1, 2])] == ["one", "two"]


# ------------------------------------------------------------ turns

ODD_TEXTS = (
    "", " ", "x", "\x00", "a\x00b", "\r", "lone\rcarriage", "\r\n", "\n\n", "🙂", "👩‍👩‍👧", "日本語", "\ufeffbom",
    "\u2028\u2029\x85", "e\u0301 and é", "'; DROP TABLE turns; --", "\\", '"', "\U0010ffff", "a" * 70_000,
)  # fmt: skip


async def test_odd_texts_come_back_byte_for_byte(store: Store) -> None:
    await store.commit(extended(fresh(), ODD_TEXTS), NOW)
    assert [turn.content for turn in await store.turns("c", range(1, len(ODD_TEXTS) + 1))] == list(ODD_TEXTS)


async def test_odd_texts_come_back_also_once_there_is_a_dictionary(memory: Memory, store: Store) -> None:
    await memory.sync(talk(150), conversation_id="c")
    said = [NewTurn("tool", text) for text in ODD_TEXTS]
    done = await memory.sync(said, conversation_id="c", after=(await memory.sync(talk(150), conversation_id="c")).head)
    for turn_id, text in zip(done.turn_ids, ODD_TEXTS, strict=True):
        assert (await memory.turn("c", turn_id)).content == text
    assert await memory.verify("c") == []


async def test_a_turn_of_three_megabytes_comes_back(store: Store) -> None:
    huge = "".join(f"line {i} of a very long output\n" for i in range(100_000))
    await store.commit(extended(fresh(), ["small", huge, "small again"]), NOW)
    assert [turn.content for turn in await store.turns("c", [2])] == [huge]


async def test_all_fields_of_a_turn_come_back(store: Store) -> None:
    commit = extended(fresh(), ["", "x"])
    turns = [
        replace(commit.turns[0], role="tool", name="na\x00me 🙂", said_at="2026-01-01T00:00:00+05:30", call_id="c'1"),
        replace(commit.turns[1], role="system", name="", said_at="", call_id="", tokens=2**40),
    ]
    await store.commit(replace(commit, turns=turns), NOW)
    assert await store.turns("c", [1, 2]) == turns
    assert await store.turns("c", [1, 2], metadata_only=True) == [replace(turn, content="") for turn in turns]


async def test_turns_come_in_the_order_asked_for_and_unknown_ones_are_left_out(store: Store) -> None:
    await store.commit(extended(fresh(), [f"text {i}" for i in range(1, 1_301)]), NOW)
    asked = [1_300, 7, 0, 7, -1, 9_999, *range(1_200, 0, -1)]
    found = await store.turns("c", asked)
    assert [turn.seq for turn in found] == [seq for seq in asked if 1 <= seq <= 1_300]
    assert all(turn.content == f"text {turn.seq}" for turn in found)


async def test_digests_of_a_stretch(store: Store) -> None:
    commit = extended(fresh(), ["a", "b", "c"])
    await store.commit(commit, NOW)
    digests = [turn.digest for turn in commit.turns]
    assert await store.digests("c", 1, 3) == digests
    assert await store.digests("c", 2, 99) == digests[1:]
    assert await store.digests("c", 3, 2) == []
    assert await store.digests("c", 0, 0) == []


# ------------------------------------------------------------ nodes and summaries


async def test_closings_come_in_order_of_their_closers_and_levels(store: Store) -> None:
    commit = extended(fresh(), list("abcdefgh"))
    closings = [closing(0, 1, 3), closing(2, 3, 5), closing(0, 3, 5, level=1), closing(4, 5, 7)]
    await store.commit(replace(commit, closings=closings), NOW)
    pairs = [(c.closer, c.node) for c in closings]
    assert await store.closings("c", 1, 8) == pairs
    assert await store.closings("c", 4, 6) == pairs[1:3]
    assert await store.closings("c", 6, 6) == []
    assert await store.nodes_over("c", 0, 3) == [pairs[2]]
    assert await store.nodes_over("c", 0, 2) == []


async def test_a_node_closed_on_two_branches_is_one_node_with_two_closers(store: Store) -> None:
    commit = extended(fresh(), list("abcdefgh"))
    closings = [closing(0, 1, 3, title="first"), closing(0, 1, 6, title="second")]
    await store.commit(replace(commit, closings=closings), NOW)
    assert [closer for closer, _ in await store.nodes_over("c", 0, 1)] == [3, 6]
    node = closings[0].node
    assert await store.nodes("c", [node.digest]) == {node.digest: node}
    (summary,) = (await store.summaries("c", [node.digest]))[node.digest]
    assert summary.title == "first"


async def test_nodes_keep_their_children_and_unknown_ones_are_left_out(store: Store) -> None:
    commit = extended(fresh(), list("abcd"))
    leaf = closing(0, 1, 3)
    parent = closing(0, 3, 4, level=1)
    parent = replace(parent, node=replace(parent.node, children=(leaf.node.digest, digest("x"))))
    await store.commit(replace(commit, closings=[leaf, parent]), NOW)
    asked = [digest("nobody"), parent.node.digest, leaf.node.digest]
    assert await store.nodes("c", asked) == {n.digest: n for n in (parent.node, leaf.node)}


async def test_one_summary_per_author_oldest_first(store: Store) -> None:
    born = closing(0, 1, 3)
    await store.commit(replace(extended(fresh(), list("abcd")), closings=[born]), NOW)
    of = born.node.digest
    agent = Summary("agent", "better", (Highlight("error", 1, "tool", "it\x00 failed\r"),), ("a/b.py", "🙂"), "more")
    await store.add_summary("c", of, agent, NOW)
    await store.add_summary("c", of, Summary("some model", "other"), NOW)
    assert (await store.summaries("c", [of]))[of] == [born.summary, agent, Summary("some model", "other")]
    await store.add_summary("c", of, Summary("agent", "best"), NOW)
    kept = (await store.summaries("c", [of, digest("nobody")]))[of]
    assert [(s.author, s.title) for s in kept] == [
        (EXTRACTIVE, "a title"), ("some model", "other"), ("agent", "best"),
    ]  # fmt: skip


async def test_a_summary_of_an_unknown_node_or_conversation_is_refused(store: Store) -> None:
    await store.commit(replace(extended(fresh(), list("abcd")), closings=[closing(0, 1, 3)]), NOW)
    with pytest.raises(UnknownNode):
        await store.add_summary("c", digest("nobody"), Summary("agent", "t"), NOW)
    with pytest.raises(UnknownConversation):
        await store.add_summary("nobody", closing(0, 1, 3).node.digest, Summary("agent", "t"), NOW)
    with pytest.raises(UnknownConversation):
        await store.add_summary("c", closing(0, 1, 3).node.digest, Summary("agent", "t"), NOW + 31 * DAY)


# ------------------------------------------------------------ pieces and terms


async def test_pieces_by_id_and_by_turn(store: Store, memory: Memory) -> None:
    long = "\n\n".join(f"paragraph {i} " + "some words to fill it " * 20 for i in range(20))
    await memory.sync([NewTurn("user", "short"), NewTurn("tool", long), NewTurn("user", "")], conversation_id="c")
    of = await store.pieces_of("c", [2, 99, 1, 3])
    assert sorted(of) == [1, 2, 3]
    assert len(of[2]) > 3
    assert [len(of[1]), len(of[3])] == [1, 1]
    assert [(a.stop, a.id + 1) for a in of[2][:-1]] == [(b.start, b.id) for b in of[2][1:]]
    ids = [piece.id for piece in of[2]]
    assert await store.pieces("c", [*ids, 0, 999]) == {piece.id: piece for piece in of[2]}


async def test_vectors_of_pieces_that_have_one(store: Store) -> None:
    commit = extended(fresh(), list("abcde"))
    vectors = [bytes(range(256)), b"", b"\x00", b"\xff" * 257, b""]
    kept = [replace(stored, vector=vector) for stored, vector in zip(commit.pieces, vectors, strict=True)]
    await store.commit(replace(commit, pieces=kept), NOW)
    there = {1: vectors[0], 3: vectors[2], 4: vectors[3]}
    assert await store.vectors("c", [1, 2, 3, 4, 5]) == there
    assert await store.vectors("c", [99, 4, 2, 1, 0]) == {4: vectors[3], 1: vectors[0]}
    assert await store.vectors("c", [2, 5]) == {}
    await store.commit(extended(commit.state, ["f"]), NOW)
    assert await store.vectors("c", range(1, 7)) == there


ODD_TERMS = (
    "plain", "=parse_config", "=a.b-c/d", "@user", "=setup.go", "42", "-", "日本", "語🙂", "नमस्ते", "கற்க", "สวัสดี",
    "ภาษา", "ﷺ", "صلى الله",
    "(1)", "two words", " lead", "a\x00b", "UPPER", "'", '"', "*", "^", ":", "é", "e\u0301", "👩‍👩‍👧",
    "", "__", "x" * 300, "\U0010ffff", "ß", "İ", "\u200d",
)  # fmt: skip


async def test_odd_terms_are_found_again_exactly_where_they_stand(store: Store) -> None:
    terms = [list(ODD_TERMS), list(reversed(ODD_TERMS)), ["plain", "plain", "日本", "plain"]]
    await store.commit(extended(fresh(), ["a", "b", "c"], terms=terms), NOW)
    hits = await store.term_hits("c", ODD_TERMS, 100)
    last = len(ODD_TERMS) - 1
    for i, term in enumerate(ODD_TERMS):
        more = {"plain": ([3, 3, 3], [0, 1, 3]), "日本": ([3], [2])}.get(term, ([], []))
        hit = hits[term]
        assert (hit.df, list(hit.pieces), list(hit.positions), hit.capped) == (
            2 + bool(more[0]), [1, 2, *more[0]], [i, last - i, *more[1]], False,
        ), term  # fmt: skip


@pytest.mark.parametrize("terms", [[], [""], ["", ""], [" "], ["a", ""], ["", "a"]])
async def test_pieces_with_no_terms_or_empty_ones(store: Store, terms: list[str]) -> None:
    await store.commit(extended(fresh(), ["x", "y"], terms=[terms, ["z"]]), NOW)
    hits = await store.term_hits("c", ["", " ", "a", "z"], 100)
    found = {term: (list(hit.pieces), list(hit.positions)) for term, hit in hits.items()}
    expected = {t: ([1] * terms.count(t), [i for i, x in enumerate(terms) if x == t]) for t in dict.fromkeys(terms)}
    assert found == {**expected, "z": ([2], [0])}


async def test_terms_are_found_whether_they_came_one_by_one_or_many_at_once(store: Store) -> None:
    state, expected = fresh(), []
    for size in (1, 1, 40, 1, 30, 5, 1, 31, 1, 100, 2):
        first = state.next_piece
        commit = extended(
            state, ["x"] * size, terms=[["first", f"n{first + i}", "twice", "twice"] for i in range(size)]
        )
        await store.commit(commit, NOW)
        state = commit.state
        expected = list(range(1, state.next_piece))
        hits = await store.term_hits("c", ["first", "twice", f"n{first}", "n1"], 1_000)
        assert (hits["first"].df, list(hits["first"].pieces)) == (len(expected), expected)
        assert list(hits["twice"].pieces) == [piece for piece in expected for _ in range(2)]
        assert list(hits["twice"].positions) == [2, 3] * len(expected)
        assert (list(hits[f"n{first}"].pieces), list(hits["n1"].pieces)) == ([first], [1])
        capped = (await store.term_hits("c", ["twice"], len(expected) - 1))["twice"]
        assert (capped.capped, capped.df) == (True, len(expected))


async def test_long_conversations_read_back_whatever_dictionary_they_were_written_with(store: Store) -> None:
    state, texts = fresh(), list[str]()
    for n, size in enumerate((3, 200, 700, 700, 3, 3)):
        said = [f"turn {n}.{i}: " + f"the parser failed on line {i * n} of limits.py\n" * 18 for i in range(size)]
        commit = extended(state, said)
        await store.commit(commit, NOW)
        state, texts = commit.state, texts + said
    assert sum(map(len, texts)) > 1.2e6
    assert [turn.content for turn in await store.turns("c", range(1, len(texts) + 1))] == texts


async def test_terms_in_more_pieces_than_the_cap_come_with_their_number_only(store: Store) -> None:
    terms = [["common", "common"]] * 5 + [["common", "rare"]]
    await store.commit(extended(fresh(), list("abcdef"), terms=terms), NOW)
    at_cap = await store.term_hits("c", ["common", "rare", "nowhere"], 6)
    assert (at_cap["common"].df, at_cap["common"].capped, len(at_cap["common"].pieces)) == (6, False, 11)
    over = await store.term_hits("c", ["common", "rare", "nowhere"], 5)
    assert (over["common"].df, over["common"].capped, list(over["common"].pieces)) == (6, True, [])
    assert list(over["rare"].pieces) == [6]
    assert "nowhere" not in over


# ------------------------------------------------------------ empty questions, unknown conversations


async def test_empty_questions_have_empty_answers(store: Store) -> None:
    await store.commit(extended(fresh(), ["a"]), NOW)
    assert await store.turns("c", []) == []
    assert await store.nodes("c", []) == {}
    assert await store.summaries("c", []) == {}
    assert await store.pieces("c", []) == {}
    assert await store.pieces_of("c", []) == {}
    assert await store.vectors("c", []) == {}
    assert dict(await store.term_hits("c", [], 10)) == {}


async def test_asking_an_unknown_conversation_is_an_error(store: Store) -> None:
    nobody, of = "nobody", [digest("x")]
    for ask in (
        store.turns(nobody, [1]),
        store.turns(nobody, []),
        store.digests(nobody, 1, 2),
        store.nodes(nobody, of),
        store.nodes(nobody, []),
        store.closings(nobody, 1, 2),
        store.nodes_over(nobody, 0, 1),
        store.summaries(nobody, of),
        store.summaries(nobody, []),
        store.pieces(nobody, [1]),
        store.pieces_of(nobody, [1]),
        store.vectors(nobody, [1]),
        store.term_hits(nobody, ["x"], 10),
        store.forget(nobody),
    ):
        with pytest.raises(UnknownConversation):
            await ask
    assert await store.load(nobody, NOW) is None, "asking made none"


# ------------------------------------------------------------ expiry and forgetting


async def test_an_expired_conversation_is_invisible_at_once(store: Store, memory: Memory) -> None:
    commit = extended(fresh(), ["one"])
    await store.commit(commit, NOW)
    root = commit.turns[0].digest
    just_before, at = NOW + 30 * DAY - 0.001, NOW + 30 * DAY
    assert await store.load("c", just_before) is not None
    assert await store.find(root, just_before) == ["c"]
    assert len((await store.conversations(just_before)).conversations) == 1
    assert await store.load("c", at) is None
    assert await store.find(root, at) == []
    assert (await store.conversations(at)).conversations == []


async def test_after_expiry_the_same_id_begins_anew(store: Store) -> None:
    old = extended(fresh(), ["old", "old too"], terms=[["old"], ["old"]])
    await store.commit(old, NOW)
    later = NOW + 31 * DAY
    with pytest.raises(HeadMoved):
        await store.commit(extended(old.state, ["more"], now=later), later)
    anew = extended(fresh(), ["new"], now=later)
    await store.commit(anew, later)
    assert await store.load("c", later) == anew.state
    assert [turn.content for turn in await store.turns("c", [1, 2])] == ["new"]
    assert dict(await store.term_hits("c", ["old"], 10)) == {}


async def test_sweeping_forgets_what_has_expired_and_nothing_else(store: Store) -> None:
    for name, days in (("b", 1), ("a", 1), ("keep", 2)):
        await store.commit(extended(replace(fresh(name), retention_days=days), ["x"]), NOW)
    assert await store.sweep(NOW + DAY - 1) == []
    assert await store.sweep(NOW + DAY) == ["a", "b"]
    assert await store.sweep(NOW + DAY) == []
    with pytest.raises(UnknownConversation):
        await store.turns("a", [1])
    assert await store.load("keep", NOW) is not None


async def test_forgetting_gives_a_receipt_once(store: Store, memory: Memory) -> None:
    await memory.sync(talk(60), conversation_id="c")
    await memory.append(NewTurn("user", "stays"), conversation_id="other")
    nodes = len(await store.closings("c", 1, 60))
    receipt = await store.forget("c")
    assert (receipt.conversation_id, receipt.turns, receipt.nodes) == ("c", 60, nodes)
    assert nodes > 0
    assert receipt.bytes > 0
    assert receipt.checked
    with pytest.raises(UnknownConversation):
        await store.forget("c")
    assert await store.load("c", NOW) is None
    assert [info.conversation_id for info in (await store.conversations(NOW)).conversations] == ["other"]
    anew = await memory.append(NewTurn("user", "begins anew"), conversation_id="c")
    assert (anew.index, anew.parent_id) == (0, None)


# ------------------------------------------------------------ finding and listing


async def test_conversations_are_found_by_any_first_turn_last_active_first(store: Store) -> None:
    clock = [NOW]
    memory = remembering(store, lambda: clock[0])
    for name in ("one", "two", "three"):
        clock[0] += 0.25
        await memory.sync([NewTurn("user", "hello"), NewTurn("assistant", name)], conversation_id=name)
    clock[0] += 0.25
    await memory.sync([NewTurn("user", "hello"), NewTurn("assistant", "again")], conversation_id="two")
    root = (await store.digests("one", 1, 1))[0]
    assert await store.find(root, clock[0]) == ["two", "three", "one"]
    edited = await memory.sync([NewTurn("user", "hello, edited"), NewTurn("assistant", "x")], conversation_id="one")
    assert edited.forked
    second_root = (await memory.turn("one", edited.turn_ids[0])).digest
    assert await store.find(second_root, clock[0]) == ["one"]
    assert await store.find(root, clock[0]) == ["one", "two", "three"]
    assert await store.find((await store.digests("one", 2, 2))[0], clock[0]) == [], "a later turn is no root"


@pytest.mark.parametrize("apart_seconds", [10, 0.125])
async def test_listing_is_by_activity_then_id_in_pages(store: Store, apart_seconds: float) -> None:
    expected = []
    for i in range(23):
        at = NOW + (i % 5) * apart_seconds
        await store.commit(extended(fresh(f"c/{i:02d}"), ["x"], now=at), at)
        expected.append((-(i % 5), f"c/{i:02d}"))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        page = await store.conversations(NOW, limit=7, cursor=cursor)
        assert len(page.conversations) <= 7
        seen += [info.conversation_id for info in page.conversations]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [name for _, name in sorted(expected)]
    whole = await store.conversations(NOW, limit=23)
    assert whole.next_cursor is None


async def test_a_listing_says_what_a_conversation_is(store: Store, memory: Memory) -> None:
    first = (await memory.sync(talk(5), conversation_id="c", space="s", retention_days=7)).turn_ids
    await memory.append(NewTurn("user", "another way"), conversation_id="c", parent_id=first[2])
    (info,) = (await store.conversations(NOW)).conversations
    state = await loaded(store)
    assert (info.turns, info.tokens, info.branches, info.space, info.title, info.retention_days) == (
        6, state.tokens, 2, "s", state.title, 7,
    )  # fmt: skip
    assert info.head == (await memory.turn("c", "t3")).id
    assert (info.created_at, info.last_activity, info.expires_at) == (
        "2025-06-15T15:06:40Z", "2025-06-15T15:06:40Z", "2025-06-22T15:06:40Z",
    )  # fmt: skip
    assert info.bytes > 0


async def test_a_listing_of_one_space(store: Store) -> None:
    for name, space in (("a", "red"), ("b", "blue"), ("c", None), ("d", "red"), ("e", "")):
        await store.commit(extended(fresh(name, space=space), ["x"]), NOW)

    async def listed(space: str | None) -> list[str]:
        return [info.conversation_id for info in (await store.conversations(NOW, space)).conversations]

    assert await listed("red") == ["a", "d"]
    assert await listed("") == ["e"]
    assert await listed("nobody's") == []
    assert await listed(None) == ["a", "b", "c", "d", "e"]


async def test_a_cursor_that_is_none_is_refused(store: Store) -> None:
    with pytest.raises(InvalidArgument, match="cursor"):
        await store.conversations(NOW, cursor="rubbish")


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


async def test_conversation_ids_are_told_apart_whatever_they_are(store: Store) -> None:
    for i, name in enumerate(ODD_IDS):
        await store.commit(extended(fresh(name), [f"of {i}"]), NOW)
    for i, name in enumerate(ODD_IDS):
        assert [turn.content for turn in await store.turns(name, [1])] == [f"of {i}"]
    listed = await store.conversations(NOW, limit=100)
    assert sorted(info.conversation_id for info in listed.conversations) == sorted(ODD_IDS)
    await store.forget("A")
    assert await store.load("a", NOW) is not None
