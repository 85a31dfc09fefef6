"""What calls of a model have cost, added up."""

from __future__ import annotations

from ctxmem_mcp.models import ModelUsage, day_of
from ctxmem_mcp.stores.base import KEPT, SpendLimits, Store


async def usage(store: Store, conversation: str, caps: SpendLimits | None, now: float) -> ModelUsage:
    """Of a conversation, beside the caps and what the whole store spent today."""
    calls = await store.model_calls(conversation)
    return ModelUsage(
        calls=len(calls),
        kept=sum(call.outcome == KEPT for call in calls),
        tokens_in=sum(call.tokens_in for call in calls),
        tokens_out=sum(call.tokens_out for call in calls),
        tokens_per_conversation=caps.tokens_per_conversation if caps else None,
        tokens_today=await store.spent(day_of(now)),
        tokens_per_day=caps.tokens_per_day if caps else None,
    )
