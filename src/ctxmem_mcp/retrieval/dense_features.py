"""The feature of dense vectors: how near a question a chunk is, compared with all else that was said. Pure.

The cosine similarities of one model are spread around 0.1, those of another around 0.6. So each is taken relative to
the mean and the best of the question's: 0 for an average chunk and for one without a vector, 1 for the nearest. The
weights were trained by `python -m bench.train.dense`; without vectors nothing here is used.
"""

from __future__ import annotations

import functools
import json
from importlib import resources
from typing import Any

# With fewer vectors their mean means nothing.
VECTORS_MIN = 8


def dense_columns(cosines: Any) -> dict[str, Any]:
    """Returns a column per feature.

    Args:
        cosines: The cosine similarity of each chunk to the question; NaN for those without a vector.
    """
    import numpy as np

    known = ~np.isnan(cosines)
    if int(known.sum()) < VECTORS_MIN:
        return {}
    mean, best = float(cosines[known].mean()), float(cosines[known].max())
    nearness = np.zeros(len(cosines))
    nearness[known] = np.clip((cosines[known] - mean) / ((best - mean) or 1.0), 0.0, 1.0)
    return {"dense": nearness}


@functools.cache
def load_dense_weights() -> dict[str, dict[str, float]]:
    """Loads the weight of each feature, per kind of conversation."""
    text = resources.files("ctxmem_mcp.retrieval").joinpath("dense_weights.json").read_text("utf-8")
    weights: dict[str, dict[str, float]] = json.loads(text)["weights"]
    return weights
