"""What calls of the summary model have cost."""

from __future__ import annotations

from ctxmem_mcp.models import day_of
from ctxmem_mcp.results import ModelUsage
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import KEPT, SpendLimits


async def usage(store: Store, conversation: str, limits: SpendLimits | None, now: float) -> ModelUsage:
    """Adds up a conversation's calls, beside the limits and what the whole store spent today."""
    calls = await store.model_calls(conversation)
    return ModelUsage(
        calls=len(calls),
        kept=sum(call.outcome == KEPT for call in calls),
        tokens_in=sum(call.tokens_in for call in calls),
        tokens_out=sum(call.tokens_out for call in calls),
        tokens_per_conversation=limits.tokens_per_conversation if limits else None,
        tokens_today=await store.spent(day_of(now)),
        tokens_per_day=limits.tokens_per_day if limits else None,
    )
