"""German and Chinese words have vectors in the space of the English ones."""

from __future__ import annotations

import pytest

from ctxmem_mcp.text.embeddings import FORMAT_PREFIX, TABLE_PREFIX, Embedder, load_embedder
from ctxmem_mcp.text.word_tables import FOLDER, LANGUAGES, WordTable, word_table

EMBEDDER = load_embedder("auto")
needs_vectors = pytest.mark.skipif(EMBEDDER is None, reason="there is no wheel of wordllama for this platform")
BYTES_MAX = 3_000_000


def table(language: str) -> WordTable:
    found = word_table(language)
    assert found is not None
    return found


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_a_table_is_small(language: str) -> None:
    assert (FOLDER / f"{language}.npz").stat().st_size < BYTES_MAX


def test_other_languages_have_no_table() -> None:
    assert word_table("en") is None
    assert word_table(None) is None


def test_words_that_the_table_does_not_have_are_returned_and_stop_words_are_not() -> None:
    rows, others = table("de").split("Der Hund und Xylwrt bellen 47")
    assert len(rows) == 2
    assert others == "Xylwrt 47"


def test_a_compound_has_the_rows_of_its_parts() -> None:
    rows, others = table("de").split("Regierungskatze")
    assert (set(rows), others) == ({*table("de").split("Regierung Katze")[0]}, "")


def test_a_run_of_characters_is_cut_into_the_longest_words() -> None:
    rows, others = table("zh").split("学习数据 with Python。")
    assert rows == [*table("zh").split("学习")[0], *table("zh").split("数据")[0]]
    assert others == "with Python"


def test_the_order_of_words_does_not_matter() -> None:
    rows, _ = table("de").split("Der Hund jagt die Katze über die Straße, bis sie müde wird.")
    assert (table("de").total(rows) == table("de").total(rows[::-1])).all()


@needs_vectors
@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("Der Hund ist heute sehr krank.", "the dog is ill today", "we have sold the house"),
        ("Wir haben das Haus verkauft.", "we have sold the house", "the dog is ill today"),
        ("那条狗今天病得很重。", "the dog is ill today", "we have sold the house"),
        ("我们把房子卖掉了。", "we have sold the house", "the dog is ill today"),
        ("我们把房子卖掉了。", "Wir haben das Haus verkauft.", "Der Hund ist heute sehr krank."),
    ],
)
def test_a_text_is_near_to_its_translation(text: str, near: str, far: str) -> None:
    assert EMBEDDER is not None
    one, *others = EMBEDDER.embed([text, near, far])
    assert one[:1] == TABLE_PREFIX
    assert EMBEDDER.comparable(one, others[0])
    to_near, to_far = EMBEDDER.cosines(one, others)
    assert to_near > 0.5 > 0.25 > to_far


@needs_vectors
def test_only_texts_in_a_language_with_a_table_have_its_prefix() -> None:
    assert EMBEDDER is not None
    english, german = EMBEDDER.embed(["The dog is ill.", "Der Hund ist heute krank."])
    assert (english[:1], german[:1]) == (FORMAT_PREFIX, TABLE_PREFIX)
    known = EMBEDDER.table([english]), EMBEDDER.table([english, german])
    assert [one is not None and one.from_tables for one in known] == [0, 1]
    assert [one.extended(one).from_tables for one in known if one is not None] == [0, 2]


@needs_vectors
def test_a_table_is_not_read_for_english() -> None:
    word_table.cache_clear()
    Embedder().embed(["The dog is ill, and we have sold the house."])
    assert word_table.cache_info().currsize <= 1  # None, for English
