"""What a text means, as a short vector, for those who have the `semantic` extra. No model runs, nothing is fetched.

    load_embedder(setting) -> Embedder | None   None where the extra is not there, or not wanted
    embed(texts) -> [bytes, ...]                a vector each, what a store keeps with a piece
    cosines(query, vectors) -> [float, ...]     how near each is to the query's, -1..1

The vectors of words are those that wordllama carries in its wheel; a text's is their sum. Of that package only the two
data files are used: importing it would set up logging for the whole process, and its loader goes to the network for a
file it does not find.

All of it is exact, so that machines agree: words' vectors are half floats, whose sums double floats hold without
rounding; a text's vector is scaled by its largest value and rounded once to whole numbers of -127..127; and sums of
DIMENSIONS products of those stay below 2**24, up to where single floats count exactly, in whatever order.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import InvalidArgument

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# All that wordllama's wheel has; half of them find markedly less of what was said in other words.
DIMENSIONS = 256
# Stands before each vector: vectors of other words, or of other numbers of them, can't be compared with these.
FORMAT_PREFIX = b"\x01"
_REQUIRED_PACKAGES = ("numpy", "tokenizers", "wordllama")
_WORD_VECTORS_FILE = "weights/l2_supercat_256.safetensors"
_TOKENIZER_FILE = "tokenizers/l2_supercat_tokenizer_config.json"
_VALUE_MAX = 127
# Rows gathered at a time, so that a text of two megabytes takes no more memory than this many words.
_ROWS_AT_ONCE = 4_096


def load_embedder(setting: str = "auto") -> Embedder | None:
    """What embeds, if it is wanted (auto, on, off) and there. Nothing is loaded before the first text."""
    if setting == "off":
        return None
    missing = [name for name in _REQUIRED_PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        missing = [name for name in (_WORD_VECTORS_FILE, _TOKENIZER_FILE) if not (_data_folder() / name).is_file()]
    if not missing:
        return Embedder()
    if setting == "on":
        raise InvalidArgument(
            "semantic",
            f"is on, and {missing[0]} is not installed",
            "pip install 'ctxmem-mcp[semantic]', or set it to auto.",
        )
    return None


class Embedder:
    """Embeds texts. Loads at the first one: some tenths of a second, once."""

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector of each text; of one without any word, all zeros."""
        return [FORMAT_PREFIX + self._vector(ids) for ids in self._token_ids(texts)]

    def comparable(self, one: bytes, other: bytes) -> bool:
        """Whether both are vectors of the same words."""
        return len(one) == len(other) and one[:1] == other[:1]

    def cosines(self, query: bytes, vectors: Sequence[bytes]) -> list[float]:
        """How near each vector is to the query's: 1 the same, 0 has nothing to do with it (as all zeros have)."""
        import numpy as np

        table = np.frombuffer(b"".join(vectors), dtype=np.int8).reshape(len(vectors), len(query))
        many = table[:, len(FORMAT_PREFIX) :].astype(np.float32)
        one = np.frombuffer(query, dtype=np.int8)[len(FORMAT_PREFIX) :].astype(np.float32)
        dots, squares = (many @ one).astype(np.float64), np.einsum("ij,ij->i", many, many).astype(np.float64)
        lengths = np.sqrt(squares * float(one @ one))
        found: list[float] = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0).tolist()
        return found

    def _token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        clean = [text.encode("utf-8", "replace").decode("utf-8") for text in texts]
        return [one.ids for one in self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)]

    def _vector(self, ids: Sequence[int]) -> bytes:
        import numpy as np

        total = np.zeros(DIMENSIONS, dtype=np.float64)
        for at in range(0, len(ids), _ROWS_AT_ONCE):
            total += self._word_vectors[ids[at : at + _ROWS_AT_ONCE]].sum(axis=0, dtype=np.float64)
        largest = float(np.abs(total).max())
        if not largest:
            return bytes(DIMENSIONS)
        vector: bytes = np.rint(total / largest * _VALUE_MAX).astype(np.int8).tobytes()
        return vector

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        found = Tokenizer.from_file(str(_data_folder() / _TOKENIZER_FILE))
        found.no_truncation()
        found.no_padding()
        return found

    @cached_property
    def _word_vectors(self) -> NDArray[np.float16]:
        """A row a word, read as far as rows are used."""
        import numpy as np

        path = _data_folder() / _WORD_VECTORS_FILE
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))["embedding.weight"]
        if header["dtype"] != "F16" or header["shape"][1] != DIMENSIONS:
            raise ValueError(f"{path} holds {header}, not half floats")
        begin = 8 + size + header["data_offsets"][0]
        return np.memmap(path, dtype="<f2", mode="r", offset=begin, shape=tuple(header["shape"]))


def _data_folder() -> Path:
    spec = importlib.util.find_spec("wordllama")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0])
