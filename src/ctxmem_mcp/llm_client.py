"""A client for an OpenAI-compatible chat completions endpoint; the only module that calls a language model.

One request, one response, within hard limits: seconds per attempt, seconds in total, attempts, bytes. Only failures
that cost nothing (429, 5xx, no connection) are retried, after the pause that the endpoint requests. Failures that may
have been billed are not: the caller counts tokens and decides. The HTTP library is imported with the first request, on
a thread, because the import takes a fifth of a second that no append should wait for.
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

# How much of an endpoint's error response becomes part of our error message.
_ERROR_TEXT_CHARS = 200
# Parameters that some endpoints refuse, and the one to send instead (None: nothing).
_PARAMETER_FALLBACKS: dict[str, str | None] = {
    "max_tokens": "max_completion_tokens",
    "temperature": None,
    "response_format": None,
}
# Statuses that mean "not now" and cost nothing.
_RETRY_STATUSES = frozenset((408, 409, 425, 429))


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """Limits of one call of `LLMClient.complete`.

    Attributes:
        attempt_seconds: From sending a request to the end of its response.
        total_seconds: All attempts and the pauses between them.
        attempts: Requests at most.
        pause_seconds: Before the second attempt; doubled before each further one.
        response_bytes: Size of a response body at most.
    """

    attempt_seconds: float = 120.0
    total_seconds: float = 180.0
    attempts: int = 4
    pause_seconds: float = 1.0
    response_bytes: int = 1 << 20


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion.

    Attributes:
        text: The message's content.
        finish_reason: Why the model stopped, as the endpoint states it.
        refusal: The model's refusal, if it returned one instead of content.
        tokens_in: Prompt tokens as counted by the endpoint; None if it stated none or an impossible number.
        tokens_out: Completion tokens, likewise.
    """

    text: str
    finish_reason: str
    refusal: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None


@dataclass(slots=True)
class LLMClient:
    """Calls one model at one endpoint. Must be closed.

    Attributes:
        base_url: The API's address without `/chat/completions`.
        model: The model's name.
        api_key: Sent as a bearer token, if set.
    """

    base_url: str
    model: str
    api_key: str | None = field(default=None, repr=False)
    limits: RequestLimits = field(default_factory=RequestLimits)
    _http_client: httpx2.AsyncClient | None = field(default=None, repr=False)
    _refused_parameters: set[str] = field(default_factory=set, repr=False)

    async def complete(self, system: str, user: str, max_tokens: int) -> Completion:
        """Requests a chat completion.

        Args:
            system: The system message.
            user: The user message.
            max_tokens: Tokens of the completion at most.

        Raises:
            ModelUnavailable: The endpoint could not be reached or is overloaded; nothing was billed.
            ModelMisconfigured: The endpoint rejects the address, the key or the model; nothing was billed.
            ModelCallFailed: The request was sent but no chat completion came back; it may have been billed.
        """
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
        raise AssertionError("attempts is at least one")

    async def close(self) -> None:
        """Closes the connections."""
        if self._http_client is not None:
            client, self._http_client = self._http_client, None
            await client.aclose()

    def _pause_before_retry(self, attempt: int, retry_after: float | None) -> float:
        backoff = self.limits.pause_seconds * 2.0 ** (attempt - 1) * random.uniform(0.75, 1.25)
        return backoff if retry_after is None else max(retry_after, backoff)

    async def _attempt(self, messages: list[dict[str, str]], max_tokens: int, deadline: float) -> Completion:
        """One attempt; a parameter that the endpoint refuses is omitted from then on."""
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
        """Remembers the optional parameters that an error response names; whether one of them is new."""
        error = error_text(body)
        newly_refused = {name for name in _PARAMETER_FALLBACKS if name in error} - self._refused_parameters
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
            raise ModelUnavailable(f"{self._endpoint_label()} can't be reached: {error}.") from error
        except (httpx2.UnsupportedProtocol, httpx2.InvalidURL, httpx2.LocalProtocolError) as error:
            raise ModelMisconfigured(f"{self._endpoint_label()} can't be called: {error}.") from error
        except TimeoutError:
            raise ModelCallFailed(
                f"{self._endpoint_label()} did not respond completely within {seconds:.0f} s."
            ) from None
        except httpx2.HTTPError as error:
            assert request_sent
            raise ModelCallFailed(
                f"{self._endpoint_label()} broke off the response: {type(error).__name__} {error}.".replace(" .", ".")
            ) from error

    async def _read_body(self, response: httpx2.Response) -> bytes:
        body = bytearray()
        async for chunk in response.aiter_bytes():
            body += chunk
            if len(body) > self.limits.response_bytes:
                raise ModelCallFailed(f"{self._endpoint_label()} sent more than {self.limits.response_bytes} bytes.")
        return bytes(body)

    async def _get_http_client(self) -> httpx2.AsyncClient:
        if self._http_client is None:
            self._http_client = await asyncio.to_thread(
                build_http_client, self.base_url, self.api_key, self.limits.attempt_seconds
            )
        return self._http_client

    def _endpoint_label(self) -> str:
        return f"The model's endpoint {self.base_url}"


def build_http_client(base_url: str, api_key: str | None, seconds: float) -> httpx2.AsyncClient:
    """Returns a client for an endpoint. It blocks: run it in a thread.

    Args:
        base_url: The endpoint's address.
        api_key: Sent as a bearer token, if set.
        seconds: After these without progress, a request fails.
    """
    import httpx2

    headers = {"Accept": "application/json"}
    if api_key:
        headers["Authorization"] = f"Bearer {api_key}"
    # Redirects are not followed: the key and the history are for the configured address only. Connections are not
    # kept: one that the endpoint has closed looks the same as a response that was billed and lost.
    return httpx2.AsyncClient(
        headers=headers,
        timeout=seconds,
        follow_redirects=False,
        verify=base_url.startswith("https:") or _empty_ssl_context(),
        limits=httpx2.Limits(max_keepalive_connections=0),
    )


def _empty_ssl_context() -> ssl.SSLContext:
    """For an address without TLS: reading the system's certificates would take longer than everything else."""
    import ssl

    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _parse_completion(status: int, headers: Mapping[str, str], body: bytes) -> Completion:
    """Turns a response into a completion, or raises the matching error."""
    if status in _RETRY_STATUSES or status >= 500:
        raise ModelUnavailable(
            f"The model's endpoint responded with {status}: {error_text(body)}",
            retry_after=_parse_retry_after(headers.get("retry-after")),
        )
    if status != 200:
        raise ModelMisconfigured(
            f"The model's endpoint responded with {status}: {error_text(body)}",
            "Check CTXMEM_LLM_BASE_URL, CTXMEM_LLM_MODEL and CTXMEM_LLM_API_KEY.",
        )
    try:
        found = json.loads(body)
        choice = found["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
        finish = choice.get("finish_reason")
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        raise ModelCallFailed(
            f"The model's endpoint did not respond with a chat completion: {error_text(body)}"
        ) from None
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


def error_text(body: bytes) -> str:
    """Returns the beginning of a response body, on one line."""
    text = " ".join(body[: 8 * _ERROR_TEXT_CHARS].decode("utf-8", "replace").split())
    return "".join(letter for letter in text if letter.isprintable())[:_ERROR_TEXT_CHARS]


def _parse_retry_after(retry_after: str | None) -> float | None:
    """The seconds of a Retry-After header, which holds a number of seconds or a date."""
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
