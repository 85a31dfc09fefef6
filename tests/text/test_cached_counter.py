"""CachedCounter counts like the tokenizer itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.text import tokenizer

_PARTS = st.sampled_from(
    ["\n", "\n\n", "\r\n", " ", "  ", "\t", "[", "[t1 ", "]", "…", "a", "Foo", "12", "/", ".", "{", "'s", "中", "é",
     "\u00a0", "\u3000", "\n [", "\n  [n1-2", "<|endoftext|>"]
)  # fmt: skip


@pytest.mark.parametrize("encoding", tokenizer.ENCODINGS)
@given(texts=st.lists(st.lists(_PARTS, max_size=30).map("".join), min_size=1, max_size=4))
def test_the_cached_counts_of_parts_add_up_to_the_count_of_the_whole(encoding: str, texts: list[str]) -> None:
    counter = tokenizer.CachedCounter(encoding)
    for text in [*texts, "".join(texts)]:
        assert counter(text) == tokenizer.count(text, encoding)
