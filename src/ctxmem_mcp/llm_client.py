"""The one place that calls somebody else's model: an OpenAI-compatible chat completions endpoint.

One question, one answer, within hard limits: seconds for a try, seconds in all, tries, bytes. Tried again is only what
cost nothing (429, 5xx, no connection), as late as the endpoint asks. What may have been paid for is not: whoever counts
tokens decides about that. The HTTP client is loaded with the first question, on a thread, for it takes a fifth of a
second that no append should wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.errors import ModelMisconfigured, ModelSilent, ModelUnavailable

if TYPE_CHECKING:
    import ssl

    import httpx2

# How much of what an endpoint said about a failure is told on.
_TOLD_CHARS = 200
# What endpoints are known to refuse, and what to send in its place (nothing, where it is None).
_OPTIONAL: dict[str, str | None] = {"max_tokens": "max_completion_tokens", "temperature": None, "response_format": None}
# Statuses by which an endpoint says "not now" and that cost nothing.
_LATER = frozenset((408, 409, 425, 429))


@dataclass(frozen=True, slots=True)
class Limits:
    """try_seconds: from sending to the whole answer. total_seconds: all tries and the pauses between them."""

    try_seconds: float = 120.0
    total_seconds: float = 180.0
    tries: int = 4
    pause_seconds: float = 1.0
    answer_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said. tokens_in/out: as the endpoint counted them; None where it did not (believably)."""

    text: str
    finish_reason: str
    refusal: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(slots=True)
class Model:
    """A model behind an endpoint. Close it when done."""

    base_url: str
    name: str
    api_key: str | None = field(default=None, repr=False)
    limits: Limits = field(default_factory=Limits)
    _client: httpx2.AsyncClient | None = field(default=None, repr=False)
    _refused: set[str] = field(default_factory=set, repr=False)

    async def ask(self, system: str, user: str, max_tokens: int) -> Answer:
        """Raises ModelUnavailable and ModelMisconfigured, where nothing was spent, and ModelSilent."""
        end = time.monotonic() + self.limits.total_seconds
        said = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        for attempt in range(1, self.limits.tries + 1):
            try:
                return await self._try(said, max_tokens, end)
            except ModelMisconfigured:
                raise
            except ModelUnavailable as error:
                pause = self._pause(attempt, error.retry_after)
                if attempt == self.limits.tries or time.monotonic() + pause >= end:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("tries is at least one")

    async def close(self) -> None:
        if self._client is not None:
            client, self._client = self._client, None
            await client.aclose()

    def _pause(self, attempt: int, retry_after: float | None) -> float:
        backoff = self.limits.pause_seconds * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return backoff if retry_after is None else max(retry_after, backoff)

    async def _try(self, said: list[dict[str, str]], max_tokens: int, end: float) -> Answer:
        """One try; a parameter that the endpoint refuses is left out from then on."""
        while True:
            status, headers, body = await self._sent(self._request(said, max_tokens), end)
            if status != 400 or not self._learned(body):
                return _answer(status, headers, body)

    def _request(self, said: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        wanted: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": 0,
            "response_format": {"type": "json_object"},
        }
        for name, instead in _OPTIONAL.items():
            if name in self._refused:
                value = wanted.pop(name)
                if instead is not None:
                    wanted[instead] = value
        return {"model": self.name, "messages": said, "stream": False, **wanted}

    def _learned(self, body: bytes) -> bool:
        """Whether a refusal names a parameter that can be done without, for the first time."""
        told = _told(body)
        new = {name for name in _OPTIONAL if name in told} - self._refused
        self._refused |= new
        return bool(new)

    async def _sent(self, request: dict[str, Any], end: float) -> tuple[int, Mapping[str, str], bytes]:
        client = await self._connected()
        import httpx2

        seconds = min(self.limits.try_seconds, end - time.monotonic())
        sent = False
        try:
            async with asyncio.timeout(seconds):
                message = client.build_request("POST", f"{self.base_url}/chat/completions", json=request)
                sent = True
                response = await client.send(message, stream=True)
                try:
                    return response.status_code, response.headers, await self._read(response)
                finally:
                    with contextlib.suppress(httpx2.HTTPError):
                        await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise ModelUnavailable(f"No connection to {self._place()}: {error}.") from error
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            raise ModelMisconfigured(f"{self._place()} can't be called: {error}.") from error
        except TimeoutError:
            raise ModelSilent(f"{self._place()} gave no whole answer in {seconds:.0f} s.") from None
        except httpx2.HTTPError as error:
            assert sent
            raise ModelSilent(
                f"{self._place()} broke off: {type(error).__name__} {error}.".replace(" .", ".")
            ) from error

    async def _read(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        async for chunk in response.aiter_bytes():
            found += chunk
            if len(found) > self.limits.answer_bytes:
                raise ModelSilent(f"{self._place()} sent over {self.limits.answer_bytes} bytes.")
        return bytes(found)

    async def _connected(self) -> httpx2.AsyncClient:
        if self._client is None:
            self._client = await asyncio.to_thread(self._client_made)
        return self._client

    def _client_made(self) -> httpx2.AsyncClient:
        import httpx2

        headers = {"Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        # A redirect is not followed: the key and the history are for the address that was configured. No connection is
        # kept: one that the endpoint closed meanwhile looks just like an answer that was paid for and lost.
        return httpx2.AsyncClient(
            headers=headers,
            timeout=self.limits.try_seconds,
            follow_redirects=False,
            verify=self.base_url.startswith("https:") or _no_trust(),
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    def _place(self) -> str:
        return f"The model's endpoint {self.base_url}"


def _no_trust() -> ssl.SSLContext:
    """For an address without TLS: reading the system's certificates would take longer than the rest."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """A response as an answer, or as the error that it is."""
    if status in _LATER or status >= 500:
        raise ModelUnavailable(
            f"The model's endpoint answered {status}: {_told(body)}", retry_after=_seconds(headers.get("retry-after"))
        )
    if status != 200:
        raise ModelMisconfigured(
            f"The model's endpoint answered {status}: {_told(body)}",
            "Check CTXMEM_LLM_BASE_URL, CTXMEM_LLM_MODEL and CTXMEM_LLM_API_KEY.",
        )
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelSilent(f"The model's endpoint answered with no chat completion: {_told(body)}") from None
    usage = found.get("usage")
    return Answer(
        text if isinstance(text, str) else "",
        finish if isinstance(finish, str) else "",
        refusal if isinstance(refusal, str) else "",
        _counted(usage, "prompt_tokens"),
        _counted(usage, "completion_tokens"),
    )


def _counted(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _told(body: bytes) -> str:
    """The beginning of what an endpoint said, on one line."""
    text = " ".join(body[: 8 * _TOLD_CHARS].decode("utf-8", "replace").split())
    return "".join(letter for letter in text if letter.isprintable())[:_TOLD_CHARS]


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After, a number of seconds or a date."""
    if retry_after is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(retry_after)
        return max(0.0, seconds) if seconds == seconds else None
    with contextlib.suppress(ValueError):
        when = parsedate_to_datetime(retry_after)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    return None
