"""A client for an OpenAI-compatible endpoint `/v1/embeddings`, as Ollama, vLLM and llama.cpp have it.

One request for a batch of texts, without retries: the caller tries again later. The client checks a whole response
before it returns any of it: vectors of other dimensions or with values that are no numbers would spoil every ranking.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import ModelCallFailed, ModelMisconfigured, ModelUnavailable
from ctxmem_mcp.llm_client import build_http_client, error_text
from ctxmem_mcp.text.dense import DIMENSIONS_MAX, pack, tag_of

if TYPE_CHECKING:
    import httpx2

BATCH_SECONDS = 60.0
# A response of 64 vectors of 8,192 dimensions, in decimal.
_RESPONSE_BYTES_MAX = 16 << 20
_SETTINGS = "Check CTXMEM_EMBEDDINGS_URL, CTXMEM_EMBEDDINGS_MODEL and CTXMEM_EMBEDDINGS_API_KEY."


class EndpointEmbedder:
    """Embeds texts with a model behind an endpoint. Must be closed."""

    batch = 64
    question_seconds = 0.3
    # Which languages the model knows is the user's choice.
    languages: Collection[str | None] | None = None

    def __init__(self, base_url: str, model: str, api_key: str | None = None) -> None:
        """base_url: The API's address without `/embeddings`."""
        self.model, self.tag = model, tag_of(model)
        self._base_url, self._api_key = base_url, api_key
        self._client: httpx2.AsyncClient | None = None
        self._dimensions: int | None = None
        self._lock = asyncio.Lock()

    async def embed_question(self, text: str) -> bytes:
        (vector,) = await self._embed([text], BATCH_SECONDS)
        return vector

    async def embed_chunks(self, texts: Sequence[str]) -> list[bytes]:
        return await self._embed(texts, BATCH_SECONDS)

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    async def _embed(self, texts: Sequence[str], seconds: float) -> list[bytes]:
        status, body = await self._send({"model": self.model, "input": list(texts)}, seconds)
        if status in (408, 429) or status >= 500:
            raise ModelUnavailable(f"{self._label} responded with {status}: {error_text(body)}")
        if status != 200:
            raise ModelMisconfigured(f"{self._label} responded with {status}: {error_text(body)}", _SETTINGS)
        return await asyncio.to_thread(self._parse, body, len(texts))

    async def _send(self, body: dict[str, Any], seconds: float) -> tuple[int, bytes]:
        async with self._lock:
            if self._client is None:
                self._client = await asyncio.to_thread(build_http_client, self._base_url, self._api_key, seconds)
            client = self._client
        import httpx2

        content = bytearray()
        try:
            async with (
                asyncio.timeout(seconds),
                client.stream("POST", f"{self._base_url}/embeddings", json=body) as response,
            ):
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _RESPONSE_BYTES_MAX:
                        raise ModelCallFailed(f"{self._label} sent more than {_RESPONSE_BYTES_MAX} bytes.")
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            raise ModelMisconfigured(f"{self._label} can't be called: {error}.", _SETTINGS) from error
        except TimeoutError:
            raise ModelUnavailable(f"{self._label} did not respond within {seconds:.0f} s.") from None
        except httpx2.HTTPError as error:
            raise ModelUnavailable(f"{self._label} can't be reached: {error or type(error).__name__}.") from error
        return response.status_code, bytes(content)

    def _parse(self, body: bytes, count: int) -> list[bytes]:
        """Returns the vectors in a response, or raises ModelCallFailed."""
        import numpy as np

        try:
            data = sorted(json.loads(body)["data"], key=lambda item: item["index"])
            table = np.array([item["embedding"] for item in data], dtype=np.float32)
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError, OverflowError):
            raise ModelCallFailed(f"{self._label} did not respond with embeddings: {error_text(body)}") from None
        if [item["index"] for item in data] != list(range(count)):
            raise ModelCallFailed(f"{self._label} responded with {len(data)} embeddings to {count} texts.")
        if table.ndim != 2 or not 1 <= table.shape[1] <= DIMENSIONS_MAX:
            raise ModelCallFailed(f"{self._label} responded with embeddings of {table.shape[1:]} numbers.")
        if not np.isfinite(table).all() or not table.any(axis=1).all():
            raise ModelCallFailed(f"{self._label} responded with an embedding that is no direction.")
        if self._dimensions not in (None, table.shape[1]):
            raise ModelCallFailed(
                f"{self._label} responded with {table.shape[1]} dimensions, before with {self._dimensions}."
            )
        self._dimensions = table.shape[1]
        return [pack(self.tag, vector) for vector in table]

    @property
    def _label(self) -> str:
        return f"The embeddings endpoint {self._base_url}"
