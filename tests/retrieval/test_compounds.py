"""Compounds of a question's words are found in the conversation's own vocabulary."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import NewTurn, Settings, open_memory
from ctxmem_mcp.retrieval.compounds import FORMS_MAX, Vocabulary, compound_forms

GERMAN = Vocabulary(["blatt", "beweis", "ersatzschlussel", "genomm", "knecht", "rathaus", "haus", "schlussel"])


@pytest.mark.parametrize(
    ("term", "forms"),
    [
        ("beweisblatt", {"beweis", "blatt"}),  # both parts
        ("ersatz", {"ersatzschlussel"}),  # a compound that begins with it
        ("weggenomm", {"genomm"}),  # a verb's prefix
        ("echt", set()),  # "kn" is no word
        ("haus", set()),  # it occurs itself
        ("bei", set()),  # too short
    ],
)
def test_a_term_that_does_not_occur_has_its_compounds_and_its_parts(term: str, forms: set[str]) -> None:
    assert set(compound_forms([term], GERMAN, "de").get(term, ())) == forms


WORDS = st.text(alphabet="abel", min_size=1, max_size=9)


@given(st.lists(WORDS, max_size=6), st.sets(WORDS, max_size=40))
def test_forms_are_other_words_of_the_vocabulary_that_share_a_beginning_or_an_end(
    terms: list[str], words: set[str]
) -> None:
    for term, forms in compound_forms(terms, Vocabulary(words), "de").items():
        assert term not in words
        assert 0 < len(forms) <= FORMS_MAX
        assert len(set(forms)) == len(forms)
        for form in forms:
            short, long = sorted((term, form), key=len)
            assert form in words
            assert short != long
            assert long.startswith(short) or long.endswith(short)


@pytest.mark.anyio
async def test_a_search_for_the_parts_of_a_compound_finds_it_and_prefers_the_word_itself(tmp_path: Path) -> None:
    texts = [
        "Das Beweisstück liegt in der Papiermühle.",
        "Die Kammer ist leer geblieben.",
        "Er hat die Mühle verkauft.",
    ]
    async with open_memory(Settings(data_dir=tmp_path, embeddings="off")) as memory:
        await memory.sync([NewTurn("user", text) for text in texts], conversation_id="c")
        for query, turn in (
            ("Wo ist denn das Papier?", 0),
            ("Was war mit der Dachkammer?", 1),
            ("Wo ist die Mühle?", 2),
        ):
            hits = await memory.search(query, conversation_id="c")
            assert hits[0].turn_id.startswith(f"t{turn}-"), query
