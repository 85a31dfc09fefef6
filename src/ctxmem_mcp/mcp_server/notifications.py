"""Notifies clients that a conversation changed, and how far a long call is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

from mcp.server import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated
from mcp.types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

from ctxmem_mcp import progress

ROOT_URI = "ctxmem://conversations"
# Subscriptions of one client; the oldest is dropped beyond this.
SUBSCRIPTIONS_MAX = 1_000
# A client gets at most one notification of progress in this time.
PROGRESS_SECONDS = 0.2

_T = TypeVar("_T")


def tree_uri(conversation_id: str) -> str:
    return f"{ROOT_URI}/{conversation_id}/tree"


def usage_uri(conversation_id: str) -> str:
    return f"{ROOT_URI}/{conversation_id}/usage"


class Notifier:
    """Since 2026-07-28, clients listen on a stream that the bus feeds. Before, they subscribed to single resources on
    their connection; those subscriptions are kept here, for the one client that a stdio server has."""

    def __init__(self) -> None:
        self.bus = InMemorySubscriptionBus()
        self._subscribed: dict[str, None] = {}

    async def subscribe(self, ctx: ServerRequestContext[Any, Any], params: SubscribeRequestParams) -> EmptyResult:
        self._subscribed[str(params.uri)] = None
        while len(self._subscribed) > SUBSCRIPTIONS_MAX:
            del self._subscribed[next(iter(self._subscribed))]
        return EmptyResult()

    async def unsubscribe(self, ctx: ServerRequestContext[Any, Any], params: UnsubscribeRequestParams) -> EmptyResult:
        self._subscribed.pop(str(params.uri), None)
        return EmptyResult()

    async def notify(self, ctx: ServerRequestContext[Any, Any], conversation_id: str, *, list_changed: bool) -> None:
        """Notifies of a change of the conversation; list_changed: also of one of the list of conversations."""
        for uri in (tree_uri(conversation_id), usage_uri(conversation_id), ROOT_URI):
            await self.bus.publish(ResourceUpdated(uri=uri))
            if uri in self._subscribed:
                await ctx.session.send_resource_updated(uri)
        if list_changed:
            await self.bus.publish(ResourcesListChanged())


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
