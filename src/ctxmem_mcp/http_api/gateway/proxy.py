"""The gateway: stores a request's messages, compacts it if necessary, forwards it, and relays and stores the answer.

Memory fails open. If it fails or is late, the request is forwarded unchanged; the work in progress is finished in the
background, so that the next request finds more.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response

from ctxmem_mcp import progress
from ctxmem_mcp.capture import run_sessions
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.errors import CtxmemError, Forgotten, InvalidArgument, LimitReached
from ctxmem_mcp.http_api.deps import DEFAULT_PRINCIPAL
from ctxmem_mcp.http_api.errors import CLIENT_CLOSED
from ctxmem_mcp.http_api.gateway.agent_session import conversation_of_session
from ctxmem_mcp.http_api.gateway.compaction import Compacted, ConversationTracker
from ctxmem_mcp.http_api.gateway.content_encoding import decoded
from ctxmem_mcp.http_api.gateway.early_requests import EarlyRequests
from ctxmem_mcp.http_api.gateway.endpoints import STREAMED_ARRAY_METHOD, Endpoint
from ctxmem_mcp.http_api.gateway.incremental_json import BodyParser
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions, parse_options, strip_options
from ctxmem_mcp.http_api.gateway.provider import Provider, StreamRecorder, Usage
from ctxmem_mcp.http_api.gateway.proxied_request import ProxiedRequest, dump
from ctxmem_mcp.http_api.gateway.relay import RelayedStream, unless_disconnected, with_headers
from ctxmem_mcp.http_api.gateway.side_request import is_side_request
from ctxmem_mcp.http_api.gateway.sse import ArrayParser, EventParser
from ctxmem_mcp.http_api.gateway.upstream import Upstream, request_headers, response_headers
from ctxmem_mcp.http_api.gateway.usage_recorder import UsageRecorder
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.team.records import Right

if TYPE_CHECKING:
    import httpx2
    from starlette.requests import Request

    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.memory import Memory

_log = logging.getLogger(__name__)

# Responses that are remembered, for requests that continue one without repeating it.
RESPONSES_MAX = 256
# How long the end of a run may wait for its hooks' events to be stored. `wrap` kills the gateway after 10 seconds.
DRAIN_SECONDS = 4.0


class Gateway:
    """Forwards requests to the models' APIs, with memory."""

    def __init__(self, deps: Deps, upstream: Upstream | None = None) -> None:
        settings = deps.settings
        self._deps = deps
        self._tracker = ConversationTracker(settings.gateway_tokens, settings.encoding, settings.output_tokens)
        self._upstream = upstream or Upstream(settings.upstream_seconds)
        # By principal, memory and id: nobody continues another's response.
        self._responses: LRU[tuple[str, str, str], tuple[Any, ...]] = LRU(RESPONSES_MAX)
        self._bodies = BodyParser()
        self._memory_tasks: set[asyncio.Task[Any]] = set()
        self._usage = UsageRecorder(deps, self._tracker.tokens)
        # A run has one principal.
        self._early = EarlyRequests(self._on_moved) if deps.run else None

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
        response = await self.forward(proxied, counts_only)
        if self._early is not None and (counts_only or response.status_code != 200):
            self._end_unanswered(self._early, proxied)
        return response

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
        unfinished: set[asyncio.Task[Any]] = set()
        if self._memory_tasks:
            _, unfinished = await asyncio.wait(self._memory_tasks, timeout=self._deps.settings.gateway_seconds)
        if self._early and not unfinished and (sessions := self._sessions_of_run()):
            await self._move_early(self._early, sessions)
        await self.flush_ledger()
        await self._upstream.close()

    async def flush_ledger(self) -> None:
        """Waits until the usage of all finished requests is in the ledger."""
        await self._usage.flush()

    async def _move_early(self, early: EarlyRequests, sessions: Sequence[str]) -> None:
        """Stores what the run's sessions lack of its requests that named none. A failure is only logged."""
        from ctxmem_mcp.capture.spool_worker import drain

        try:
            memory = await self._deps.memory_for(DEFAULT_PRINCIPAL)
            with suppress(TimeoutError):  # what the last hooks have left, or another process is storing
                async with asyncio.timeout(DRAIN_SECONDS):
                    for session in sessions:
                        await drain(memory, self._deps.settings.data_dir, wait=True, conversation_id=session)
            await self._tracker.move_early(memory, DEFAULT_PRINCIPAL, sessions, early)
        except Exception as error:
            _log.warning("Requests before the first hook stay in conversations of their own: %s", type(error).__name__)

    def _end_unanswered(self, early: EarlyRequests, proxied: ProxiedRequest) -> None:
        """Ends a request without an answer to store, once it is stored."""

        def end(task: asyncio.Task[Compacted]) -> None:
            if not task.cancelled() and task.exception() is None:
                early.end_request(task.result().conversation.conversation_id)

        if proxied.compaction is not None:
            proxied.compaction.add_done_callback(end)

    async def _on_moved(self, memory: Memory, conversation_id: str, session: str, tips: Sequence[str]) -> bool:
        """Moves the usage of a conversation whose words a session has now, and removes it. A failure is only logged.

        Returns:
            False if the conversation was added to since its branches with these last turns were read.
        """
        try:
            await self.flush_ledger()
            await self._deps.records_of(DEFAULT_PRINCIPAL).move_usage(conversation_id, session)
            return await memory.remove_moved(conversation_id, tips)
        except Exception as error:
            _log.warning("Conversation %s stays beside %s: %s", conversation_id, session, type(error).__name__)
            return True

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
        named = conversation_of_session(body, headers)
        sessions, early = ([named], None) if named else (self._sessions_of_run(), self._early)
        with progress.listen(record):
            return await self._tracker.compact(memory, tenant, proxied.provider, body, options, sessions, early)

    def _sessions_of_run(self) -> list[str]:
        """Returns the conversations of the sessions that the hooks of the agent's run have recorded."""
        if not self._deps.run:
            return []
        found = run_sessions.read(str(self._deps.settings.data_dir), self._deps.run)
        return [id for id in map(conversation_id_for, found) if id]

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
            return dump(response)
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
        if compacted.conversation.session:
            answer = list(map(proxied.provider.as_in_transcript, answer))
        try:
            if answer:
                await self._tracker.store_answer(memory, compacted.conversation, answer)
        except Forgotten as error:
            _log.info("An answer was not stored: %s", error.message)
            return
        except CtxmemError:
            self._usage.record(memory, proxied, compacted, answer, usage)
            raise
        finally:
            if self._early is not None:
                self._early.end_request(compacted.conversation.conversation_id)
        self._usage.record(memory, proxied, compacted, answer, usage)


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
