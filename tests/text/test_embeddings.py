"""Embeddings are exact, equal on all machines and similar for similar meanings; nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.text import embeddings
from ctxmem_mcp.text.embeddings import DIMENSIONS, FORMAT_PREFIX, TABLE_PREFIX, Embedder, load_embedder

EMBEDDER = load_embedder("auto")
needs_vectors = pytest.mark.skipif(EMBEDDER is None, reason="there is no wheel of wordllama for this platform")
WITHOUT_A_NETWORK = """
import socket, sys
def refused(*_, **__): raise SystemExit("a socket was opened")
socket.socket = socket.create_connection = socket.getaddrinfo = refused
sys.addaudithook(lambda event, _: refused() if event.startswith("socket.") else None)
from ctxmem_mcp.text.embeddings import load_embedder
print(load_embedder("on").embed(["It rains."])[0].hex())
print(*(name for name in ("wordllama", "requests", "huggingface_hub", "urllib3") if name in sys.modules))
"""


@pytest.fixture
def embedder() -> Embedder:
    assert EMBEDDER is not None
    return EMBEDDER


def test_a_missing_package_is_an_error_only_if_the_setting_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_embedder("off") is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert load_embedder("auto") is None
    with pytest.raises(InvalidArgument, match="CTXMEM_EMBEDDINGS"):
        load_embedder("on")


def test_nothing_is_loaded_before_the_first_text() -> None:
    script = (
        "import sys; from ctxmem_mcp.text.embeddings import load_embedder; "
        "load_embedder('auto'); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@needs_vectors
def test_nothing_is_downloaded_and_wordllama_is_not_imported(embedder: Embedder) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_A_NETWORK], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n") == [embedder.embed(["It rains."])[0].hex(), "", ""]


@needs_vectors
def test_vectors_are_equal_on_all_machines(embedder: Embedder) -> None:
    texts = ["How do I fix the login test?", "def parse(x):\n    return x", "日本語 🙂", " ", "word " * 9_000]
    texts.append("Der Lehrbub lügt nicht, Rieck!")
    digest = hashlib.sha256(b"".join(embedder.embed(texts))).hexdigest()
    assert digest == "638142abec8f7abc34d7ad592a09a904ab6114bf6fac1747d5a5600772187b91"


@needs_vectors
def test_texts_of_the_same_meaning_are_similar_without_sharing_a_word(embedder: Embedder) -> None:
    query, *texts = embedder.embed(["repair the broken car", "fixing a damaged vehicle", "bananas taste sweet", ""])
    near, far, nothing = embedder.cosines(query, texts)
    assert near > 0.4 > 0.2 > far
    assert nothing == 0.0
    assert embedder.cosines(query, [query]) == [pytest.approx(1.0)]
    assert embedder.cosines(query, []) == []


@needs_vectors
@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=6))
def test_a_vector_does_not_depend_on_the_rest_of_the_batch(texts: list[str]) -> None:
    assert EMBEDDER is not None
    found = EMBEDDER.embed(texts)
    assert found == [EMBEDDER.embed([text])[0] for text in texts]
    assert all(vector[:1] in (FORMAT_PREFIX, TABLE_PREFIX) and len(vector) == 1 + DIMENSIONS for vector in found)
    for one in found:
        for nearness in EMBEDDER.cosines(one, found):
            assert -1.000001 <= nearness <= 1.000001


@needs_vectors
def test_a_lone_surrogate_and_a_long_text_are_embedded(embedder: Embedder) -> None:
    assert len(embedder.embed(["\ud83d alone"])[0]) == 1 + DIMENSIONS
    whole = embedder.embed(["some words to sum " * embeddings._ROWS_AT_ONCE])[0]
    assert embedder.cosines(whole, embedder.embed(["some words to sum"]))[0] > 0.95


@needs_vectors
def test_vectors_of_another_format_are_not_comparable(embedder: Embedder) -> None:
    one = embedder.embed(["x"])[0]
    assert embedder.comparable(one, embedder.embed(["y"])[0])
    assert not embedder.comparable(one, b"\x02" + one[1:])
    assert not embedder.comparable(one, one[:-1])


@needs_vectors
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(
        st.sampled_from(" \u2581aBcé中😀\u0301.,(_[\\`]\"'1٣\n\t\r\x00\x0b\x7f\u00a0\u200a»")
        | st.characters(codec="utf-8"),
        max_size=60,
    )
    | st.lists(st.sampled_from(["the ", "parser", "_ing", "</s>", "<s>", "  ", "\n\n", "();\r\n", "x1"])).map("".join)
)
def test_words_are_tokenized_one_by_one_as_they_are_together(embedder: Embedder, text: str) -> None:
    whole = embedder._tokenizer.encode(text, add_special_tokens=False).ids
    assert embedder._token_ids(text) == whole
