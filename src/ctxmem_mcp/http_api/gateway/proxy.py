"""The gateway: stores a request's messages, compacts it if necessary, forwards it, and relays and stores the answer.

Memory fails open. If it fails or is late, the request is forwarded unchanged; the work in progress is finished in the
background, so that the next request finds more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from starlette.responses import JSONResponse, Response

from ctxmem_mcp import progress, sent_requests, usage_ledger
from ctxmem_mcp.errors import Forgotten, InvalidArgument, LimitReached
from ctxmem_mcp.http_api.deps import RequestUsage
from ctxmem_mcp.http_api.errors import CLIENT_CLOSED
from ctxmem_mcp.http_api.gateway.agent_session import conversation_of_session
from ctxmem_mcp.http_api.gateway.compaction import Compacted, ConversationTracker
from ctxmem_mcp.http_api.gateway.content_encoding import decoded
from ctxmem_mcp.http_api.gateway.endpoints import STREAMED_ARRAY_METHOD, Endpoint
from ctxmem_mcp.http_api.gateway.incremental_json import BodyParser
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions, parse_options, strip_options
from ctxmem_mcp.http_api.gateway.provider import Provider, StreamRecorder, Usage
from ctxmem_mcp.http_api.gateway.relay import RelayedStream, unless_disconnected, with_headers
from ctxmem_mcp.http_api.gateway.side_request import is_side_request
from ctxmem_mcp.http_api.gateway.sse import ArrayParser, EventParser
from ctxmem_mcp.http_api.gateway.upstream import Upstream, request_headers, response_headers
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn, day_of
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2
    from starlette.requests import Request

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.memory import Memory

_log = logging.getLogger(__name__)

# Responses that are remembered, for requests that continue one without repeating it.
RESPONSES_MAX = 256
HEADER_PREFIX = "x-ctxmem-"

Outcome = Literal["off", "aside", "whole", "folded", "late", "failed", "forgotten", "full"]


@dataclass(slots=True)
class ProxiedRequest:
    """A request on its way through the gateway.

    Attributes:
        request: the client's request.
        provider: the API that it uses.
        endpoint: where it is forwarded.
        content: the body to forward.
        outcome: what memory did, as reported in `x-ctxmem-memory`.
        days: the requested retention.
        compacted: the result of the compaction.
        compaction: the task that stores and compacts the request; it may outlast the time limit.
        body: the client's body, if memory is on.
        share_done: how much of a long request's computation is done, 0..1.
        is_replaced: the content is not the client's own bytes.
        model: the model that the path names, with its options, or None.
    """

    request: Request
    provider: Provider
    endpoint: Endpoint
    content: bytes
    outcome: Outcome = "off"
    days: int | None = None
    compacted: Compacted | None = None
    compaction: asyncio.Task[Compacted] | None = None
    body: dict[str, Any] | None = None
    share_done: float = 0.0
    is_replaced: bool = False
    model: str | None = None

    def replace_content(self, body: Mapping[str, Any]) -> None:
        """Forwards this body, not compressed, instead of the client's."""
        self.content, self.is_replaced = _dump(body), True

    def headers(self) -> list[tuple[str, str]]:
        """Returns the response headers that report what memory did."""
        report: dict[str, str] = {"memory": self.outcome}
        if self.outcome == "late" and self.share_done:
            report["memory"] += f"; {self.share_done:.0%}"
        if self.compacted is not None:
            report |= {
                "conversation": self.compacted.conversation.conversation_id,
                "tokens-in": str(self.compacted.tokens_in),
                "tokens-sent": str(self.compacted.tokens_sent),
                "tokens-saved": str(self.saved),
            }
        if self.days is not None and self.outcome not in ("off", "aside", "forgotten", "full"):
            report["retention-days"] = str(self.days)
        return [(HEADER_PREFIX + name, value) for name, value in report.items()]

    @property
    def saved(self) -> int:
        """The tokens that compaction saved."""
        return self.compacted.tokens_in - self.compacted.tokens_sent if self.compacted else 0


class Gateway:
    """Forwards requests to the models' APIs, with memory."""

    def __init__(self, deps: Deps, upstream: Upstream | None = None) -> None:
        settings = deps.settings
        self._deps = deps
        self._tracker = ConversationTracker(settings.gateway_tokens, settings.encoding, settings.gateway_output_tokens)
        self._upstream = upstream or Upstream(settings.upstream_seconds)
        # By principal, memory and id: nobody continues another's response.
        self._responses: LRU[tuple[str, str, str], tuple[Any, ...]] = LRU(RESPONSES_MAX)
        self._bodies = BodyParser()
        self._memory_tasks: set[asyncio.Task[Any]] = set()
        self._ledger_tasks: set[asyncio.Task[None]] = set()

    async def handle(
        self,
        request: Request,
        provider: Provider,
        endpoint: Endpoint,
        *,
        counts_only: bool = False,
        model: str | None = None,
    ) -> Response:
        """Applies memory to a request, and forwards it.

        Args:
            request: the client's request.
            provider: the API that it uses.
            endpoint: where to forward it.
            counts_only: the request asks for a token count, not for an answer.
            model: the model that the path names, or None if the body does.
        """
        proxied = ProxiedRequest(request, provider, endpoint, await request.body(), model=model)
        await self._apply_memory(proxied, counts_only)
        return await self.forward(proxied, counts_only)

    async def forward(self, proxied: ProxiedRequest, counts_only: bool = False) -> Response:
        """Forwards a request, and returns the upstream's response unchanged."""
        import httpx2

        from ctxmem_mcp.http_api.deps import credential_headers

        request = proxied.request
        headers = request_headers(request.headers.items(), credential_headers(request), proxied.endpoint.key)
        if proxied.is_replaced:
            headers = [(name, value) for name, value in headers if name != "content-encoding"]
        content = None if request.method in ("GET", "HEAD") else proxied.content
        sending = self._upstream.send(request.method, proxied.endpoint.url, request.url.query, headers, content)
        try:
            response = await unless_disconnected(request, sending)
        except httpx2.TimeoutException:
            message = "The upstream did not respond within the time limit (CTXMEM_UPSTREAM_SECONDS)."
            return _error_response(proxied, 504, message)
        except httpx2.HTTPError as error:
            return _error_response(proxied, 502, f"The upstream is unreachable: {type(error).__name__}.")
        if response is None:
            return Response(status_code=CLIENT_CLOSED)
        relayed = response_headers(response.headers.multi_items()) + proxied.headers()
        if _is_stream(proxied, response):
            return with_headers(RelayedStream(self._stream(proxied, response), response), relayed)
        return await self._complete(proxied, response, relayed, counts_only)

    async def close(self) -> None:
        """Waits for the storing that is in progress, since there is no memory afterwards, and closes the upstream."""
        if self._memory_tasks:
            await asyncio.wait(self._memory_tasks, timeout=self._deps.settings.gateway_seconds)
        await self.flush_ledger()
        await self._upstream.close()

    async def flush_ledger(self) -> None:
        """Waits until the usage of all finished requests is in the ledger."""
        await asyncio.gather(*self._ledger_tasks)

    # ------------------------------------------------------------ memory

    async def _apply_memory(self, proxied: ProxiedRequest, counts_only: bool) -> None:
        """Sets the content to forward, and the outcome."""
        headers = {name.lower(): value for name, value in proxied.request.headers.items()}
        encoding = headers.get("content-encoding", "")
        body = self._bodies.parse(decoded(proxied.content, encoding, self._deps.settings.http_body_bytes))
        if body is None:
            return
        named = body if proxied.model is None else {**body, "model": proxied.model}
        requested = parse_options(named, headers)
        always = self._deps.settings.gateway_memory == "always"
        options = parse_options(named, headers, always=True) if always else requested
        proxied.days = options.days
        if options.enabled:
            self._deps.access_of(proxied.request).require(Right.CONTINUE)
            await self._store_and_compact(proxied, body, options, requested.enabled, counts_only)
        if options.must_strip and proxied.outcome != "folded":
            proxied.replace_content(strip_options(body, options))

    async def _store_and_compact(
        self, proxied: ProxiedRequest, body: dict[str, Any], options: MemoryOptions, requested: bool, counts_only: bool
    ) -> None:
        """Stores a request, and compacts it. requested: it asks for memory itself."""
        if not counts_only and is_side_request(body, proxied.provider, requested=requested):
            proxied.outcome = "aside"
            return
        try:
            body = proxied.body = self._with_messages_before(proxied, body)
            compacted = await self._compact_in_time(proxied, body, options)
        except TimeoutError:
            proxied.outcome = "late"
        except Forgotten as error:
            proxied.outcome = "forgotten"
            _log.info("A request was forwarded unchanged: %s", error.message)
        except LimitReached as error:
            proxied.outcome = "full"
            _log.info("A request was forwarded unchanged: %s", error.message)
        except Exception as error:
            proxied.outcome = "failed"
            _log.warning(
                "Memory failed (%s); the request was forwarded unchanged.", type(error).__name__, exc_info=True
            )
        else:
            proxied.compacted = compacted
            proxied.outcome = "whole" if compacted.body is None else "folded"
            if compacted.body is not None:
                proxied.replace_content(strip_options(compacted.body, options))

    async def _compact_in_time(
        self, proxied: ProxiedRequest, body: dict[str, Any], options: MemoryOptions
    ) -> Compacted:
        """Raises TimeoutError at the time limit; the task goes on in the background."""
        task = asyncio.create_task(self._compact(proxied, body, options), name="ctxmem gateway")
        proxied.compaction = task
        self._memory_tasks.add(task)
        task.add_done_callback(self._finished)
        return await asyncio.wait_for(asyncio.shield(task), self._deps.settings.gateway_seconds)

    async def _compact(self, proxied: ProxiedRequest, body: dict[str, Any], options: MemoryOptions) -> Compacted:
        memory = await self._deps.memory(proxied.request)
        tenant = self._deps.access_of(proxied.request).tenant

        def record(share: float) -> None:
            proxied.share_done = max(proxied.share_done, share)

        headers = {name.lower(): value for name, value in proxied.request.headers.items()}
        session = conversation_of_session(body, headers)
        with progress.listen(record):
            return await self._tracker.compact(memory, tenant, proxied.provider, body, options, session)

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._memory_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("A background task of the gateway failed.", exc_info=error)

    # ------------------------------------------------------------ responses

    async def _complete(
        self, proxied: ProxiedRequest, response: httpx2.Response, headers: list[tuple[str, str]], counts_only: bool
    ) -> Response:
        """Relays a response that is not a stream."""
        import httpx2

        try:
            content = await unless_disconnected(proxied.request, response.aread())
        except httpx2.HTTPError as error:
            return _error_response(proxied, 502, f"The upstream broke off its response: {type(error).__name__}.")
        finally:
            await response.aclose()
        if content is None:
            return Response(status_code=CLIENT_CLOSED)
        if response.status_code == 200 and proxied.compaction is not None and not counts_only:
            try:
                content = await self._store_response(proxied, content)
            except Exception as error:
                _log.warning("A malformed response was not stored: %s", type(error).__name__)
        return with_headers(Response(content, response.status_code), headers)

    async def _store_response(self, proxied: ProxiedRequest, content: bytes) -> bytes:
        """Stores a complete response. Returns it, with the uncompacted size in its usage if it was compacted."""
        response = _json_object(content)
        provider = proxied.provider
        self._remember(proxied, response)
        await self._store_in_time(proxied, provider.parse_response(response), provider.parse_usage(response))
        if proxied.outcome == "folded" and response is not None and provider.annotate_usage(response, proxied.saved):
            return _dump(response)
        return content

    async def _stream(self, proxied: ProxiedRequest, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """Relays the chunks of a stream. A complete answer is stored however the stream ends: clients disconnect once
        they have read the last event, before the upstream closes it."""
        records = proxied.compaction is not None and response.status_code == 200
        parser = EventParser() if _has_events(response) else ArrayParser()
        recorder = StreamRecorder(proxied.provider.assembler(), parser) if records else None
        try:
            async for chunk in response.aiter_bytes():
                if recorder is not None:
                    recorder.feed(chunk)
                yield chunk
        finally:
            if recorder is not None:
                answer = recorder.finish()
                if recorder.error is not None:
                    _log.warning("A malformed stream was not stored: %s", recorder.error)
                self._remember(proxied, recorder.assembler.complete())
                await self._store_in_time(proxied, answer, recorder.assembler.usage())

    def _with_messages_before(self, proxied: ProxiedRequest, body: dict[str, Any]) -> dict[str, Any]:
        """Returns a request with what is known of the response that it continues."""
        previous = proxied.provider.previous_response(body)
        known = self._responses.get(self._response_key(proxied, previous or ""))
        return body if known is None else proxied.provider.with_messages_before(body, known)

    def _response_key(self, proxied: ProxiedRequest, response_id: str) -> tuple[str, str, str]:
        access = self._deps.access_of(proxied.request)
        return access.principal, access.tenant, response_id

    def _remember(self, proxied: ProxiedRequest, response: Any) -> None:
        """Keeps a response's messages, for a request that continues it without repeating them."""
        with suppress(InvalidArgument):
            found = proxied.provider.messages_after(proxied.body or {}, response)
            if found is not None:
                id, messages = found
                self._responses[self._response_key(proxied, id)] = messages

    async def _store_in_time(self, proxied: ProxiedRequest, answer: Sequence[NewTurn], usage: Usage) -> None:
        """Stores an answer and its usage. Failures are only logged; at the time limit it goes on in the background."""
        task = asyncio.create_task(self._store(proxied, answer, usage), name="ctxmem gateway answer")
        self._memory_tasks.add(task)
        task.add_done_callback(self._finished)
        if proxied.outcome == "late":
            return
        try:
            await asyncio.wait_for(asyncio.shield(task), self._deps.settings.gateway_seconds)
        except TimeoutError:
            _log.warning("Storing an answer exceeds the time limit; it continues in the background.")
        except LimitReached as error:
            _log.info("An answer was not stored: %s", error.message)
        except Exception as error:
            _log.warning("An answer was not stored: %s", type(error).__name__, exc_info=True)

    async def _store(self, proxied: ProxiedRequest, answer: Sequence[NewTurn], usage: Usage) -> None:
        assert proxied.compaction is not None
        memory = await self._deps.memory(proxied.request)
        try:
            compacted = await proxied.compaction
        except Forgotten as error:
            if error.during_call:
                body = proxied.body or {}
                await self._tracker.forget_answer(memory, proxied.provider, body, error.conversation_id, answer)
            return
        try:
            if answer:
                await self._tracker.store_answer(memory, compacted.conversation, answer)
        except Forgotten as error:
            _log.info("An answer was not stored: %s", error.message)
            return
        entry = self._ledger_entry(compacted, proxied.outcome == "folded", answer, usage)
        self._ledger_tasks = {task for task in self._ledger_tasks if not task.done()}
        sent = _sent_request(compacted, proxied.outcome == "folded", usage)
        folder = self._deps.folder(proxied.request, Right.CONTINUE)
        writing = _add_to_ledger(memory, folder, entry, sent)
        self._ledger_tasks.add(asyncio.create_task(writing, name="ctxmem usage ledger"))
        if self._deps.on_usage is not None:
            cut = compacted.cut if proxied.outcome == "folded" else None
            sizes = compacted.tokens_in, compacted.tokens_sent
            self._deps.on_usage(RequestUsage(entry.conversation_id, *sizes, cut, usage.tokens_in, usage.cached))

    def _ledger_entry(
        self, compacted: Compacted, was_compacted: bool, answer: Sequence[NewTurn], usage: Usage
    ) -> usage_ledger.LedgerEntry:
        """Returns the usage of one request: as the upstream reported it, else as counted here."""
        sent = compacted.tokens_sent if was_compacted else compacted.tokens_in
        out = usage.tokens_out
        if out is None:
            out = sum(self._tracker.tokens.count(turn.content) for turn in answer)
        return usage_ledger.LedgerEntry(
            day_of(time.time()),
            compacted.conversation.conversation_id,
            requests=1,
            tokens_in=sent if usage.tokens_in is None else usage.tokens_in,
            tokens_out=out,
            tokens_cached=usage.cached or 0,
            tokens_saved=compacted.tokens_in - sent,
        )


def _sent_request(compacted: Compacted, was_compacted: bool, usage: Usage) -> SentRequest:
    """Returns the record of what the model was sent: all of it if the compaction was late."""
    conversation, system = compacted.conversation, compacted.system_tokens
    first, last = compacted.rest
    view, head, rest = compacted.view, 0, compacted.tokens_in - system
    if was_compacted:
        rest = compacted.rest_tokens
        head = max(0, compacted.tokens_sent - system - rest)
    elif view.digest:
        first, view = conversation.turn_ids[0], NO_VIEW
    sizes = compacted.tokens_in, system, head, rest
    return SentRequest(
        conversation.conversation_id, time.time(), first, last, view, *sizes, usage.tokens_in, usage.cached
    )


async def _add_to_ledger(memory: Memory, folder: Path, entry: usage_ledger.LedgerEntry, sent: SentRequest) -> None:
    """Adds an entry and the request's record in the background; no response waits for it."""
    try:
        await asyncio.to_thread(usage_ledger.add, folder, entry)
        await asyncio.to_thread(sent_requests.add, folder, sent)
        if await memory.is_forgotten(sent.conversation_id):  # since the answer was stored
            await asyncio.to_thread(sent_requests.forget, folder, [sent.conversation_id])
    except Exception as error:
        _log.warning("The usage of a request was not recorded: %s", error)


def _has_events(response: httpx2.Response) -> bool:
    return bool(response.headers.get("content-type", "").startswith("text/event-stream"))


def _is_stream(proxied: ProxiedRequest, response: httpx2.Response) -> bool:
    """Returns whether a response is relayed as it arrives: events, or an array that grows."""
    return _has_events(response) or (
        response.status_code == 200 and proxied.endpoint.url.endswith(STREAMED_ARRAY_METHOD)
    )


def _error_response(proxied: ProxiedRequest, status: int, message: str) -> Response:
    return with_headers(JSONResponse(proxied.provider.error_body(status, message), status), proxied.headers())


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _dump(body: Mapping[str, Any]) -> bytes:
    """Returns JSON in UTF-8. A lone surrogate, which UTF-8 can't encode, is left as an escape."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()
