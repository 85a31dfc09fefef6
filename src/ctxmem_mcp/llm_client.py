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

from ctxmem_mcp.errors import ModelCallFailed, ModelMisconfigured, ModelUnavailable

if TYPE_CHECKING:
    import ssl

    import httpx2

# How much of what an endpoint said about a failure is told on.
_ERROR_TEXT_CHARS = 200
# What endpoints are known to refuse, and what to send in its place (nothing, where it is None).
_PARAMETER_FALLBACKS: dict[str, str | None] = {
    "max_tokens": "max_completion_tokens",
    "temperature": None,
    "response_format": None,
}
# Statuses by which an endpoint says "not now" and that cost nothing.
_RETRY_STATUSES = frozenset((408, 409, 425, 429))


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """try_seconds: from sending to the whole answer. total_seconds: all tries and the pauses between them."""

    attempt_seconds: float = 120.0
    total_seconds: float = 180.0
    attempts: int = 4
    pause_seconds: float = 1.0
    response_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model said. tokens_in/out: as the endpoint counted them; None where it did not (believably)."""

    text: str
    finish_reason: str
    refusal: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(slots=True)
class LLMClient:
    """A model behind an endpoint. Close it when done."""

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    limits: RequestLimits = field(default_factory=RequestLimits)
    _http_client: httpx2.AsyncClient | None = field(default=None, repr=False)
    _refused_parameters: set[str] = field(default_factory=set, repr=False)

    async def complete(self, system: str, user: str, max_tokens: int) -> Completion:
        """Raises ModelUnavailable and ModelMisconfigured, where nothing was spent, and ModelSilent."""
        deadline = time.monotonic() + self.limits.total_seconds
        messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
        for attempt in range(1, self.limits.attempts + 1):
            try:
                return await self._attempt(messages, max_tokens, deadline)
            except ModelMisconfigured:
                raise
            except ModelUnavailable as error:
                pause = self._pause_before_retry(attempt, error.retry_after)
                if attempt == self.limits.attempts or time.monotonic() + pause >= deadline:
                    raise
                await asyncio.sleep(pause)
        raise AssertionError("tries is at least one")

    async def close(self) -> None:
        if self._http_client is not None:
            client, self._http_client = self._http_client, None
            await client.aclose()

    def _pause_before_retry(self, attempt: int, retry_after: float | None) -> float:
        backoff = self.limits.pause_seconds * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return backoff if retry_after is None else max(retry_after, backoff)

    async def _attempt(self, messages: list[dict[str, str]], max_tokens: int, deadline: float) -> Completion:
        """One try; a parameter that the endpoint refuses is left out from then on."""
        while True:
            status, headers, body = await self._send(self._build_body(messages, max_tokens), deadline)
            if status != 400 or not self._learn_refused_parameters(body):
                return _parse_completion(status, headers, body)

    def _build_body(self, messages: list[dict[str, str]], max_tokens: int) -> dict[str, Any]:
        parameters: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temperature": 0,
            "response_format": {"type": "json_object"},
        }
        for name, fallback in _PARAMETER_FALLBACKS.items():
            if name in self._refused_parameters:
                value = parameters.pop(name)
                if fallback is not None:
                    parameters[fallback] = value
        return {"model": self.model, "messages": messages, "stream": False, **parameters}

    def _learn_refused_parameters(self, body: bytes) -> bool:
        """Whether a refusal names a parameter that can be done without, for the first time."""
        error_text = _error_text(body)
        newly_refused = {name for name in _PARAMETER_FALLBACKS if name in error_text} - self._refused_parameters
        self._refused_parameters |= newly_refused
        return bool(newly_refused)

    async def _send(self, body: dict[str, Any], deadline: float) -> tuple[int, Mapping[str, str], bytes]:
        client = await self._get_http_client()
        import httpx2

        seconds = min(self.limits.attempt_seconds, deadline - time.monotonic())
        request_sent = False
        try:
            async with asyncio.timeout(seconds):
                message = client.build_request("POST", f"{self.base_url}/chat/completions", json=body)
                request_sent = True
                response = await client.send(message, stream=True)
                try:
                    return response.status_code, response.headers, await self._read_body(response)
                finally:
                    with contextlib.suppress(httpx2.HTTPError):
                        await response.aclose()
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise ModelUnavailable(f"No connection to {self._endpoint_label()}: {error}.") from error
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            raise ModelMisconfigured(f"{self._endpoint_label()} can't be called: {error}.") from error
        except TimeoutError:
            raise ModelCallFailed(f"{self._endpoint_label()} gave no whole answer in {seconds:.0f} s.") from None
        except httpx2.HTTPError as error:
            assert request_sent
            raise ModelCallFailed(
                f"{self._endpoint_label()} broke off: {type(error).__name__} {error}.".replace(" .", ".")
            ) from error

    async def _read_body(self, response: httpx2.Response) -> bytes:
        found = bytearray()
        async for chunk in response.aiter_bytes():
            found += chunk
            if len(found) > self.limits.response_bytes:
                raise ModelCallFailed(f"{self._endpoint_label()} sent over {self.limits.response_bytes} bytes.")
        return bytes(found)

    async def _get_http_client(self) -> httpx2.AsyncClient:
        if self._http_client is None:
            self._http_client = await asyncio.to_thread(self._build_http_client)
        return self._http_client

    def _build_http_client(self) -> httpx2.AsyncClient:
        import httpx2

        headers = {"Accept": "application/json"}
        if self.api_key:
            headers["Authorization"] = f"Bearer {self.api_key}"
        # A redirect is not followed: the key and the history are for the address that was configured. No connection is
        # kept: one that the endpoint closed meanwhile looks just like an answer that was paid for and lost.
        return httpx2.AsyncClient(
            headers=headers,
            timeout=self.limits.attempt_seconds,
            follow_redirects=False,
            verify=self.base_url.startswith("https:") or _empty_ssl_context(),
            limits=httpx2.Limits(max_keepalive_connections=0),
        )

    def _endpoint_label(self) -> str:
        return f"The model's endpoint {self.base_url}"


def _empty_ssl_context() -> ssl.SSLContext:
    """For an address without TLS: reading the system's certificates would take longer than the rest."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _parse_completion(status: int, headers: Mapping[str, str], body: bytes) -> Completion:
    """A response as an answer, or as the error that it is."""
    if status in _RETRY_STATUSES or status >= 500:
        raise ModelUnavailable(
            f"The model's endpoint answered {status}: {_error_text(body)}",
            retry_after=_parse_retry_after(headers.get("retry-after")),
        )
    if status != 200:
        raise ModelMisconfigured(
            f"The model's endpoint answered {status}: {_error_text(body)}",
            "Check CTXMEM_LLM_BASE_URL, CTXMEM_LLM_MODEL and CTXMEM_LLM_API_KEY.",
        )
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelCallFailed(f"The model's endpoint answered with no chat completion: {_error_text(body)}") from None
    usage = found.get("usage")
    return Completion(
        text if isinstance(text, str) else "",
        finish if isinstance(finish, str) else "",
        refusal if isinstance(refusal, str) else "",
        _token_count(usage, "prompt_tokens"),
        _token_count(usage, "completion_tokens"),
    )


def _token_count(usage: object, name: str) -> int | None:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _error_text(body: bytes) -> str:
    """The beginning of what an endpoint said, on one line."""
    text = " ".join(body[: 8 * _ERROR_TEXT_CHARS].decode("utf-8", "replace").split())
    return "".join(letter for letter in text if letter.isprintable())[:_ERROR_TEXT_CHARS]


def _parse_retry_after(retry_after: str | None) -> float | None:
    """Retry-After, a number of seconds or a date."""
    if retry_after is None:
        return None
    with contextlib.suppress(ValueError):
        seconds = float(retry_after)
        return max(0.0, seconds) if seconds == seconds else None
    with contextlib.suppress(ValueError):
        date = parsedate_to_datetime(retry_after)
        date = date if date.tzinfo else date.replace(tzinfo=UTC)
        return max(0.0, (date - datetime.now(UTC)).total_seconds())
    return None
