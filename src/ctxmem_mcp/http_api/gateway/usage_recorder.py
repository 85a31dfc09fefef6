"""Records the usage of each request, and which turns and view it had, once the answer is stored."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.deps import RequestUsage
from ctxmem_mcp.models import NewTurn, day_of
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest
from ctxmem_mcp.team.records import Right
from ctxmem_mcp.usage_ledger import LedgerEntry

if TYPE_CHECKING:
    from ctxmem_mcp.http_api.deps import Deps
    from ctxmem_mcp.http_api.gateway.compaction import Compacted
    from ctxmem_mcp.http_api.gateway.conversation import TokenCounter
    from ctxmem_mcp.http_api.gateway.provider import Usage
    from ctxmem_mcp.http_api.gateway.proxied_request import ProxiedRequest
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.record_stores import RecordStore

_log = logging.getLogger(__name__)


class UsageRecorder:
    """Writes to the ledger and the record of sent requests in the background; no response waits for it."""

    def __init__(self, deps: Deps, tokens: TokenCounter) -> None:
        self._deps, self._tokens = deps, tokens
        self._tasks: set[asyncio.Task[None]] = set()

    def record(
        self, memory: Memory, proxied: ProxiedRequest, compacted: Compacted, answer: Sequence[NewTurn], usage: Usage
    ) -> None:
        """Records a finished request."""
        entry = self._ledger_entry(compacted, proxied.outcome == "folded", answer, usage)
        self._tasks = {task for task in self._tasks if not task.done()}
        sent = _sent_request(compacted, proxied.outcome == "folded", usage)
        records = self._deps.records(proxied.request, Right.CONTINUE)
        writing = _add_to_records(memory, records, entry, sent)
        self._tasks.add(asyncio.create_task(writing, name="ctxmem usage ledger"))
        if self._deps.on_usage is not None:
            cut = compacted.cut if proxied.outcome == "folded" else None
            sizes = compacted.tokens_in, compacted.tokens_sent
            self._deps.on_usage(RequestUsage(entry.conversation_id, *sizes, cut, usage.tokens_in, usage.cached))

    async def flush(self) -> None:
        """Waits until the usage of all finished requests is in the ledger."""
        await asyncio.gather(*self._tasks)

    def _ledger_entry(
        self, compacted: Compacted, was_compacted: bool, answer: Sequence[NewTurn], usage: Usage
    ) -> LedgerEntry:
        """Returns the usage of one request: as the upstream reported it, else as counted here."""
        sent = compacted.tokens_sent if was_compacted else compacted.tokens_in
        out = usage.tokens_out
        if out is None:
            out = sum(self._tokens.count(turn.content) for turn in answer)
        return LedgerEntry(
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


async def _add_to_records(memory: Memory, records: RecordStore, entry: LedgerEntry, sent: SentRequest) -> None:
    """Adds an entry and the request's record in the background; no response waits for it."""
    try:
        await records.add_usage(entry)
        await records.add_sent(sent)
        if await memory.is_forgotten(sent.conversation_id):  # since the answer was stored
            await records.forget([sent.conversation_id])
    except Exception as error:
        _log.warning("The usage of a request was not recorded: %s", error)
