"""MiniLM in numpy computes what its authors publish, and what onnxruntime computes from the same weights."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from ctxmem_mcp.text import minilm, onnx_weights
from ctxmem_mcp.text.dense import TAG_BYTES, embed_in_steps, load_local, pack, tag_of, unpack
from ctxmem_mcp.text.minilm import DIMENSIONS, MiniLM, load_minilm
from ctxmem_mcp.worker_pool import finish

pytestmark = pytest.mark.skipif(minilm.missing_package() is not None, reason="the extra `neural` is not installed")
WEATHER = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]


def test_the_reference_sentences_are_as_similar_as_published() -> None:
    """The documentation of Sentence Transformers (Quickstart) has 0.6660, 0.1046 and 0.1411 with single floats; weights
    of a byte change the third digit."""
    vectors = load_minilm().embed(WEATHER)
    similarities = vectors @ vectors.T
    assert np.allclose(np.diag(similarities), 1.0, atol=1e-5)
    published = [0.6660, 0.1046, 0.1411]
    assert np.allclose([similarities[0, 1], similarities[0, 2], similarities[1, 2]], published, atol=0.004)


def test_a_vector_is_the_one_that_onnxruntime_computes() -> None:
    """Computed by onnxruntime 1.32 from the same file, with the mean over the tokens, scaled to length 1."""
    (vector,) = load_minilm().embed(WEATHER[:1])
    expected = [0.01694421, 0.11792608, 0.16167864, 0.06635338, 0.05009505, -0.0261971, 0.05961306, -0.09092604]
    assert np.allclose(vector[:8], expected, atol=1e-5)


def test_only_the_first_tokens_of_a_long_text_are_read() -> None:
    long = "word " * 400
    one, other = load_minilm().embed([long, long + "and something else at its end"])
    assert np.array_equal(one, other)
    (empty,) = load_minilm().embed([""])
    assert np.isfinite(empty).all()


def test_texts_that_are_no_unicode_have_a_vector() -> None:
    assert np.isfinite(load_minilm().embed(["\ud800 broken", "日本語", "\x00"])).all()


def test_packed_vectors_have_nearly_the_same_similarities() -> None:
    vectors = load_minilm().embed(WEATHER)
    tag = tag_of("a model")
    rounded = unpack(tag, [pack(tag, vector) for vector in vectors])
    assert np.allclose(rounded @ rounded.T, vectors @ vectors.T, atol=0.01)
    assert len(pack(tag, vectors[0])) == TAG_BYTES + DIMENSIONS


def test_a_worker_process_computes_the_same_vectors() -> None:
    local = load_local(None)
    assert finish(embed_in_steps(local.tag, WEATHER)) == [pack(local.tag, v) for v in load_minilm().embed(WEATHER)]
    assert pickle.loads(pickle.dumps(load_minilm())) is load_minilm()


def test_a_file_of_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minilm, "MODEL_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="is not the model that this version of ctxmem-mcp knows"):
        MiniLM().embed(["a text"])


@pytest.mark.parametrize("content", [b"\x3f", b"\x3a\xff", b"\xff" * 20])
def test_a_file_that_is_not_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a Protocol Buffers message"):
        onnx_weights.read_weights(path)
