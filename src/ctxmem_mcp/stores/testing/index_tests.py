"""Chunks, their vectors, and the index of their terms."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.testing.builders import NOW, extend, new_state
from ctxmem_mcp.stores.testing.fixtures import StoreTests

ODD_TERMS = (
    "plain", "=parse_config", "=a.b-c/d", "@user", "=setup.go", "42", "-", "日本", "語🙂", "नमस्ते", "கற்க", "สวัสดี",
    "ภาษา", "ﷺ", "صلى الله",
    "(1)", "two words", " lead", "a\x00b", "UPPER", "'", '"', "*", "^", ":", "é", "e\u0301", "👩‍👩‍👧",
    "", "__", "x" * 300, "\U0010ffff", "ß", "İ", "\u200d",
)  # fmt: skip


class PieceTests(StoreTests):
    async def test_pieces_by_id_and_by_turn(self, store: Store) -> None:
        long = "\n\n".join(f"paragraph {i} " + "some words to fill it " * 20 for i in range(20))
        short = extend(new_state(), ["short"])
        cut = extend(short.state, [long], pieces=5)
        empty = extend(cut.state, [""])
        for commit in (short, cut, empty):
            await store.commit(commit, NOW)
        found = await store.pieces_of("c", [2, 99, 1, 3])
        assert sorted(found) == [1, 2, 3]
        assert found[2] == [stored.piece for stored in cut.pieces]
        assert [len(found[1]), len(found[3])] == [1, 1]
        assert [(a.stop, a.id + 1) for a in found[2][:-1]] == [(b.start, b.id) for b in found[2][1:]]
        ids = [piece.id for piece in found[2]]
        assert await store.pieces("c", [*ids, 0, 999]) == {piece.id: piece for piece in found[2]}

    async def test_vectors_of_pieces_that_have_one(self, store: Store) -> None:
        commit = extend(new_state(), list("abcde"))
        vectors = [bytes(range(256)), b"", b"\x00", b"\xff" * 257, b""]
        pieces = [replace(stored, vector=vector) for stored, vector in zip(commit.pieces, vectors, strict=True)]
        await store.commit(replace(commit, pieces=pieces), NOW)
        expected = {1: vectors[0], 3: vectors[2], 4: vectors[3]}
        assert await store.vectors("c", [1, 2, 3, 4, 5]) == expected
        assert await store.vectors("c", [99, 4, 2, 1, 0]) == {4: vectors[3], 1: vectors[0]}
        assert await store.vectors("c", [2, 5]) == {}
        await store.commit(extend(commit.state, ["f"]), NOW)
        assert await store.vectors("c", range(1, 7)) == expected

    async def test_only_the_vectors_to_replace_are_replaced_and_only_of_that_conversation(self, store: Store) -> None:
        commit = extend(new_state(), list("abc"))
        vectors = [b"due", b"other", b""]
        pieces = [replace(stored, vector=vector) for stored, vector in zip(commit.pieces, vectors, strict=True)]
        await store.commit(replace(commit, pieces=pieces), NOW)
        new, created = dict.fromkeys((1, 2, 3, 99), b"new"), commit.state.created
        await store.replace_vectors("c", created + 1, b"due", new)
        assert await store.vectors("c", [1, 2, 3]) == {1: b"due", 2: b"other"}
        await store.replace_vectors("c", created, b"due", new)
        assert await store.vectors("c", [1, 2, 3, 99]) == {1: b"new", 2: b"other"}


class TermTests(StoreTests):
    async def test_terms_are_counted_exactly_while_the_index_grows(self, store: Store) -> None:
        state, counts = new_state(), Counter[str]()
        for number in range(24):
            terms = [[term for at, term in enumerate(ODD_TERMS) if (number + turn + at) % 3] for turn in range(3)]
            commit = extend(state, list("abc"), terms=terms)
            await store.commit(commit, NOW)
            state = commit.state
            counts.update(term for of_turn in terms for term in of_turn)
            if number % 4 < 2:
                hits = await store.term_hits("c", ODD_TERMS[number % 2 :], 0)
                assert {term: hit.df for term, hit in hits.items()} == {t: counts[t] for t in ODD_TERMS[number % 2 :]}

    async def test_odd_terms_are_found_exactly_where_they_occur(self, store: Store) -> None:
        terms = [list(ODD_TERMS), list(reversed(ODD_TERMS)), ["plain", "plain", "日本", "plain"]]
        await store.commit(extend(new_state(), ["a", "b", "c"], terms=terms), NOW)
        hits = await store.term_hits("c", ODD_TERMS, 100)
        last = len(ODD_TERMS) - 1
        for i, term in enumerate(ODD_TERMS):
            more = {"plain": ([3, 3, 3], [0, 1, 3]), "日本": ([3], [2])}.get(term, ([], []))
            hit = hits[term]
            assert (hit.df, list(hit.pieces), list(hit.positions), hit.capped) == (
                2 + bool(more[0]), [1, 2, *more[0]], [i, last - i, *more[1]], False,
            ), term  # fmt: skip

    @pytest.mark.parametrize("terms", [[], [""], ["", ""], [" "], ["a", ""], ["", "a"]])
    async def test_pieces_without_terms_or_with_empty_ones(self, store: Store, terms: list[str]) -> None:
        await store.commit(extend(new_state(), ["x", "y"], terms=[terms, ["z"]]), NOW)
        hits = await store.term_hits("c", ["", " ", "a", "z"], 100)
        found = {term: (list(hit.pieces), list(hit.positions)) for term, hit in hits.items()}
        expected = {t: ([1] * terms.count(t), [i for i, x in enumerate(terms) if x == t]) for t in dict.fromkeys(terms)}
        assert found == {**expected, "z": ([2], [0])}

    async def test_terms_are_found_whether_stored_one_by_one_or_many_at_once(self, store: Store) -> None:
        state, expected = new_state(), []
        for size in (1, 1, 40, 1, 30, 5, 1, 31, 1, 100, 2):
            first = state.next_piece
            commit = extend(
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

    async def test_terms_in_more_pieces_than_the_cap_come_with_their_document_frequency_only(
        self, store: Store
    ) -> None:
        terms = [["common", "common"]] * 5 + [["common", "rare"]]
        await store.commit(extend(new_state(), list("abcdef"), terms=terms), NOW)
        at_cap = await store.term_hits("c", ["common", "rare", "nowhere"], 6)
        assert (at_cap["common"].df, at_cap["common"].capped, len(at_cap["common"].pieces)) == (6, False, 11)
        over = await store.term_hits("c", ["common", "rare", "nowhere"], 5)
        assert (over["common"].df, over["common"].capped, list(over["common"].pieces)) == (6, True, [])
        assert list(over["rare"].pieces) == [6]
        assert "nowhere" not in over

    async def test_the_vocabulary_has_each_term_of_letters_once(self, store: Store) -> None:
        state, expected = new_state(), set[str]()
        for size in (1, 40, 2):
            words = [f"wort{'x' * i}" for i in range(state.next_piece, state.next_piece + size)]
            terms = [[word, "straße", "日本", "=haus.tür", "n1", "@user", ""] for word in words]
            commit = extend(state, ["x"] * size, terms=terms)
            await store.commit(commit, NOW)
            state = commit.state
            expected |= {*words, "straße", "日本"}
            found = await store.vocabulary("c")
            assert sorted(found) == sorted(expected)

    async def test_counts_of_terms_by_conversation(self, store: Store) -> None:
        for name, terms in (
            ("one", [["parser", "oslo", "parser"], ["parser"]]),
            ("two", [["garden"]]),
            ("three", [["oslo"]] * 50),
            ("four", [ODD_TERMS]),
        ):
            await store.commit(extend(new_state(name), ["x"] * len(terms), terms=terms), NOW)
        names = ["four", "three", "never stored", "two", "one"]
        found = await store.term_counts(names, ["parser", "oslo", "nowhere"])
        assert found == {"one": {"parser": 2, "oslo": 1}, "three": {"oslo": 50}}
        odd = await store.term_counts(["four", "one"], ODD_TERMS)
        assert odd == {"four": dict.fromkeys(ODD_TERMS, 1)}
        await store.forget("three")
        assert await store.term_counts(["three", "one"], ["oslo"]) == {"one": {"oslo": 1}}
