"""Notifies clients of both protocol eras that a conversation changed."""

from __future__ import annotations

from typing import Any

from mcp.server import ServerRequestContext
from mcp.server.subscriptions import InMemorySubscriptionBus, ResourcesListChanged, ResourceUpdated
from mcp.types import EmptyResult, SubscribeRequestParams, UnsubscribeRequestParams

ROOT_URI = "ctxmem://conversations"
# Subscriptions of one client; the oldest is dropped beyond this.
SUBSCRIPTIONS_MAX = 1_000


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
