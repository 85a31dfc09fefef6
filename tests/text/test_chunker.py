"""Splitting turns into chunks."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import ROLES
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.chunker import OUTPUT_BYTES, PROSE_BYTES, split

LINES = st.lists(st.text(alphabet="ab {}é世\t", max_size=120), max_size=120).map("\n".join)


@given(LINES, st.sampled_from(ROLES))
def test_pieces_tile_the_content(content: str, role: str) -> None:
    spans = split(content, role)
    assert "".join(content[start:stop] for start, stop in spans) == content
    assert all(start < stop for start, stop in spans)
    assert spans == split(content, role)


def test_an_empty_turn_has_no_piece() -> None:
    assert split("", "user") == []


@pytest.mark.parametrize(
    "sentence",
    [
        "This is a sentence that somebody said about nothing at all. ",
        "Ann asked him: “Is it so?” ",
        "他说这句话没有什么意思。",
    ],
)
def test_prose_is_split_at_the_ends_of_sentences_into_about_150_tokens(sentence: str) -> None:
    text = sentence * 80
    for role in ("user", "assistant"):
        spans = split(text, role)
        assert all(text[start:stop] == sentence * ((stop - start) // len(sentence)) for start, stop in spans)
        assert max(len(text[start:stop].encode()) for start, stop in spans) <= PROSE_BYTES * 1.3
    assert len(split(text, "tool")) < len(spans)


@given(st.lists(st.text(alphabet="ab .", max_size=700), max_size=9).map("\n".join))
def test_prose_of_up_to_1000_characters_is_split_between_lines_only(content: str) -> None:
    for start, _ in split(content[:1_000], "user"):
        assert start == 0 or content[start - 1] == "\n"


def test_prose_is_split_between_paragraphs_rather_than_within() -> None:
    paragraph = "One sentence of it. " * 20
    assert split(f"{paragraph}\n\n" * 3, "user")[0] == (0, len(paragraph) + 2)


def test_output_is_split_at_line_ends_into_about_400_tokens() -> None:
    content = "".join(f"src/main_{n}.go:{n}: something happened here\n" for n in range(2_000))
    spans = split(content, "tool")
    assert all(content[stop - 1] == "\n" for _, stop in spans)
    sizes = [tokenizer.count(content[start:stop]) for start, stop in spans]
    assert 250 < sum(sizes) / len(sizes) < 600


def test_code_inside_json_is_split_at_escaped_line_ends() -> None:
    content = '{"content": "' + r"x := compute(1)\n" * 1_000 + '"}'
    spans = split(content, "assistant")
    assert len(spans) > 5
    assert all(content[:stop].endswith("\\n") for _, stop in spans[:-1])


def test_a_script_with_many_tokens_per_character_gives_shorter_pieces() -> None:
    content = "日本語の出力です。" * 2_000
    sizes = [tokenizer.count(content[start:stop]) for start, stop in split(content, "tool")]
    assert max(sizes) < 700


@pytest.mark.parametrize("content", ["x" * 2_000_000, "a line of output\n" * 120_000], ids=["one line", "lines"])
def test_two_megabytes_are_split_within_a_quarter_second(content: str) -> None:
    """Of processor time, at best: other processes slow down the caches, too."""
    took = []
    for _ in range(5):
        begun = time.process_time()
        spans = split(content, "tool")
        took.append(time.process_time() - begun)
    assert min(took) < 0.25
    assert max(stop - start for start, stop in spans) <= OUTPUT_BYTES * 1.3
