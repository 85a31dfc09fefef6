"""Notifies clients that a conversation changed, and how far a long call is."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar

from mcp.server import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ResourcesListChanged, ResourceUpdated
from mcp.types import (
    EmptyResult,
    SubscribeRequestParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)

from ctxmem_mcp import progress
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.results import Change

ROOT_URI = "ctxmem://conversations"
# Subscriptions of one client; the oldest is dropped beyond this.
SUBSCRIPTIONS_MAX = 1_000
# A client gets at most one notification of progress in this time.
PROGRESS_SECONDS = 0.2

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


def tree_uri(conversation_id: str) -> str:
    return f"{ROOT_URI}/{conversation_id}/tree"


def usage_uri(conversation_id: str) -> str:
    return f"{ROOT_URI}/{conversation_id}/usage"


class Notifier:
    """Since 2026-07-28, clients listen on a stream that the bus feeds. Before, they subscribed to single resources on
    their connection; those subscriptions are kept here, for the one client that a stdio server has.

    If the store notices the commits of all processes, clients are notified of these. Otherwise, of this server's tools.
    """

    def __init__(self) -> None:
        self._bus = InMemorySubscriptionBus()
        self._handler = ListenHandler(self._bus)
        self._listened: Counter[str] = Counter()
        self._subscribed: dict[str, None] = {}
        self._session: Any = None
        self._lock = asyncio.Lock()
        self._is_watching = False

    async def listen(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serves one stream."""
        await self._watch(ctx)
        uris = Counter(str(uri) for uri in params.notifications.resource_subscriptions or ())
        self._listened += uris
        try:
            return await self._handler(ctx, params)
        finally:
            self._listened -= uris

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        await self._watch(ctx)
        self._session = ctx.session
        self._subscribed[str(params.uri)] = None
        while len(self._subscribed) > SUBSCRIPTIONS_MAX:
            del self._subscribed[next(iter(self._subscribed))]
        return EmptyResult()

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._subscribed.pop(str(params.uri), None)
        return EmptyResult()

    async def notify(self, change: Change) -> None:
        """Notifies of a change by a tool, if the store does not report it."""
        if not self._is_watching:
            await self._publish(change)

    async def _watch(self, ctx: ServerRequestContext[Any, Any]) -> None:
        """Watches the store until the memory closes, if the store offers that. Called by each subscription."""
        async with self._lock:
            if self._is_watching:
                return
            try:
                memory = await ctx.lifespan_context.of(ctx.request)
                self._is_watching = await memory.watch(self._publish) is not None
            except CtxmemError as error:  # the next subscription tries again
                _log.warning("Changes by other servers are not noticed: %s", error)

    async def _publish(self, change: Change) -> None:
        uris: Iterable[str]
        if change.conversation_id is None:
            uris = dict.fromkeys([*self._listened, *self._subscribed])
        else:
            uris = (tree_uri(change.conversation_id), usage_uri(change.conversation_id), ROOT_URI)
        for uri in uris:
            await self._bus.publish(ResourceUpdated(uri=uri))
            if uri in self._subscribed:
                await self._session.send_resource_updated(uri)
        if change.list_changed:
            await self._bus.publish(ResourcesListChanged())


async def with_progress(ctx: ServerRequestContext[Any, Any], work: Awaitable[_T]) -> _T:
    """Awaits the work of a request; notifies a client that asked for it of the progress."""
    notifier = _ProgressNotifier(ctx)
    try:
        with progress.listen(notifier.report):
            return await work
    finally:
        await notifier.close()


class _ProgressNotifier:
    """Sends the newest share that was reported, never one below the last. The SDK drops what no client asked for."""

    def __init__(self, ctx: ServerRequestContext[Any, Any]) -> None:
        self._session, self._share, self._reported = ctx.session, 0.0, asyncio.Event()
        self._sending: asyncio.Task[None] | None = None

    def report(self, share: float) -> None:
        if share > self._share:
            self._share = share
            self._reported.set()
        if self._sending is None:
            self._sending = asyncio.create_task(self._send(), name="ctxmem progress")

    async def close(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

    async def _send(self) -> None:
        while True:
            await self._reported.wait()
            self._reported.clear()
            await self._session.report_progress(round(self._share, 2), 1.0, f"{self._share:.0%} is computed")
            await asyncio.sleep(PROGRESS_SECONDS)
