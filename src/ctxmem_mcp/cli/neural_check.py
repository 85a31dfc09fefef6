"""What `doctor` says about the neural model: whether it embeds a sentence, and how fast."""

from __future__ import annotations

import time
from dataclasses import dataclass

import anyio

from ctxmem_mcp.cli.runner import GlobalOptions
from ctxmem_mcp.composition import dense_embedder
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text.dense import TAG_BYTES

# Longer than any question may take.
CHECK_SECONDS = 5.0
_SENTENCE = "Where did we leave off?"


@dataclass(frozen=True, slots=True)
class NeuralModel:
    """The configured model, or none.

    Attributes:
        model: Its name; empty if none is configured.
        dimensions: Of its vectors; 0 if it does not work.
        seconds: For a sentence, once it is loaded.
        fault: Why it does not work. Then questions are ranked without it.
    """

    model: str = ""
    dimensions: int = 0
    seconds: float = 0.0
    fault: str = ""

    def __str__(self) -> str:
        if self.fault:
            return f"without the neural model {self.model}: {self.fault}"
        return (
            f"also by the neural model {self.model}: {self.dimensions} dimensions, {self.seconds:.2f} s for a question"
        )


def check(options: GlobalOptions) -> NeuralModel:
    """Embeds a sentence with the configured model; at the endpoint, if one is configured."""
    try:
        settings = options.settings()
    except CtxmemError:
        return NeuralModel()  # reported with the data folder
    try:
        return anyio.run(_check, settings)
    except CtxmemError as error:
        return NeuralModel(settings.embeddings_model or "MiniLM", fault=error.message)


async def _check(settings: Settings) -> NeuralModel:
    if (embedder := dense_embedder(settings)) is None:
        return NeuralModel()
    try:
        with anyio.fail_after(CHECK_SECONDS):
            await embedder.embed_question(_SENTENCE)
            began = time.monotonic()
            vector = await embedder.embed_question(_SENTENCE)
            return NeuralModel(embedder.model, len(vector) - TAG_BYTES, round(time.monotonic() - began, 3))
    except TimeoutError:
        return NeuralModel(embedder.model, fault=f"it took more than {CHECK_SECONDS:g} s for a sentence.")
    finally:
        await embedder.close()
