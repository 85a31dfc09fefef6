"""Settings -> an open Memory. The only file that knows the concrete classes.

They are imported when a memory is opened, not before: a server answers its host first and opens then.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.capture import spool
from ctxmem_mcp.errors import CtxmemError, UnknownConversation
from ctxmem_mcp.settings import Settings

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.base import SpendLimits, Store
    from ctxmem_mcp.stores.sqlite.store import SqliteStore

# Words said a moment ago are looked for this often; an empty folder is looked at and no more.
DRAIN_SECONDS = 2.0
DRAIN_AGAIN_SECONDS = 60.0
# A process that was killed while it asked a model keeps others from its conversation this much longer than a question
# may take.
LOST_AFTER_SECONDS = 60.0
# Where the gateway keeps what was spent; looked for before the module that reads it is loaded.
USAGE_LEDGER_FILE = "spending.sqlite3"

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_memory(settings: Settings | None = None, *, salt: bytes = b"") -> AsyncIterator[Memory]:
    """An open memory over the SQLite store; without settings, those of the environment and the config file. salt keys
    the ids of conversations that begin: one for each principal.

    As long as it is open, what has expired is swept in the background, at once and then hourly, and what agents' hooks
    leave in the spool is taken in; and where a model is configured, it writes better summaries.
    """
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.sqlite.store import SqliteStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
    from ctxmem_mcp.text.embeddings import embedder

    settings = settings or Settings.load()
    store, caps = SqliteStore(settings.data_dir, durability=settings.durability), _caps(settings)
    memory = Memory(
        store,
        ExtractiveSummarizer(),
        encoding=settings.encoding,
        retention_days=settings.retention_days,
        salt=salt,
        on_forgotten=partial(_forget_beside, settings.data_dir),
        redact=_redaction(settings),
        caps=caps,
        embedder=embedder(settings.semantic),
        usage_of=partial(_gateway_usage, settings),
        request_summaries=settings.ask_for_summaries == "on" and caps is None,  # a model that is configured writes them
    )
    closing = asyncio.Event()
    upkeep = asyncio.create_task(_sweep(memory, settings, closing), name="ctxmem upkeep")
    drain = asyncio.create_task(_drain(memory, settings.data_dir), name="ctxmem drain")
    try:
        async with _summary_worker(settings, store, caps):
            yield memory
    finally:
        # A sweep that is under way comes to its end: what it removes, it removes whole.
        closing.set()
        # What waits in the spool waits on; a commit that is under way is made.
        drain.cancel()
        await run_to_completion(_closed(memory, store, upkeep, drain))


async def _closed(memory: Memory, store: SqliteStore, *working: asyncio.Task[None]) -> None:
    await asyncio.gather(*working, return_exceptions=True)
    store.prevent_reopening()
    await memory.close()


@asynccontextmanager
async def open_folder(data_dir: Path, conversation: Path | None = None) -> AsyncIterator[Memory]:
    """A memory over a folder that only this process knows, with a copy of that conversation's file in it: no upkeep,
    and nothing in it expires."""
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.sqlite.catalog import copy_into
    from ctxmem_mcp.stores.sqlite.store import SqliteStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

    if conversation is not None:
        copy_into(conversation, data_dir)
    memory = Memory(SqliteStore(data_dir), ExtractiveSummarizer(), clock=lambda: 0.0)
    try:
        yield memory
    finally:
        await memory.close()


def _forget_beside(data_dir: Path, conversation_ids: list[str]) -> None:
    """What lies beside the conversations goes with them."""
    from ctxmem_mcp import record_files
    from ctxmem_mcp.capture.purge import leave_alone

    record_files.forget_sessions(data_dir, conversation_ids)
    if (data_dir / USAGE_LEDGER_FILE).exists():
        from ctxmem_mcp import usage_ledger

        usage_ledger.forget(data_dir, conversation_ids)
    leave_alone(data_dir, conversation_ids)


def _gateway_usage(settings: Settings, conversation_id: str) -> dict[str, Any] | None:
    """What the gateway sent for a conversation; None where its table can't be read."""
    import sqlite3

    from ctxmem_mcp import usage_ledger

    try:
        return usage_ledger.usage_report(usage_ledger.read(settings.data_dir, conversation_id), settings)
    except sqlite3.Error as error:
        _log.warning("What the gateway sent can't be told: %s", error)
        return None


def _redaction(settings: Settings) -> Callable[[str], str] | None:
    if settings.redact != "secrets":
        return None
    from ctxmem_mcp.capture.redaction import redaction

    return redaction()


def _caps(settings: Settings) -> SpendLimits | None:
    """What summaries by a model may cost; None where none is configured."""
    if not (settings.llm_base_url and settings.llm_model):
        if settings.llm_base_url or settings.llm_model:
            _log.warning("No model writes summaries: CTXMEM_LLM_BASE_URL and CTXMEM_LLM_MODEL are both needed.")
        return None
    from ctxmem_mcp.llm_client import RequestLimits
    from ctxmem_mcp.stores.base import SpendLimits

    lost_after_seconds = RequestLimits().total_seconds + LOST_AFTER_SECONDS
    return SpendLimits(settings.llm_tokens_per_day, settings.llm_tokens_per_conversation, lost_after_seconds)


@asynccontextmanager
async def _summary_worker(settings: Settings, store: Store, caps: SpendLimits | None) -> AsyncIterator[None]:
    """While it lasts, the configured model is asked for summaries. What is under way at the end is given up."""
    if caps is None or settings.llm_base_url is None or settings.llm_model is None:
        yield
        return
    from ctxmem_mcp.llm_client import LLMClient
    from ctxmem_mcp.summary_worker import SummaryWorker

    client = LLMClient(settings.llm_base_url, settings.llm_model, settings.llm_api_key)
    worker = SummaryWorker(store, client, caps, encoding=settings.encoding)
    task = asyncio.create_task(worker.run(), name="ctxmem summaries")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def sweep(memory: Memory, data_dir: Path) -> list[str]:
    """Forgets what has expired: conversations, and sessions that nothing was ever said in. Gives the former's ids."""
    from ctxmem_mcp import record_files

    gone = await memory.sweep()
    if (data_dir / record_files.SESSIONS).is_dir():
        for session in await asyncio.to_thread(record_files.expired_sessions, data_dir, time.time()):
            try:
                await memory.info(session)
            except UnknownConversation:
                record_files.forget_sessions(data_dir, [session])
    return gone


async def _sweep(memory: Memory, settings: Settings, closing: asyncio.Event) -> None:
    """Sweeps at once and then every so many seconds, until the memory closes."""
    while not closing.is_set():
        try:
            gone = await sweep(memory, settings.data_dir)
            if gone:
                _log.info("Swept %d expired conversations.", len(gone))
        # A sweep that fails is tried again at the next one; what expired is invisible meanwhile.
        except CtxmemError as error:
            _log.warning("The sweep of expired conversations failed: %s", error)
        except Exception:
            _log.exception("The sweep of expired conversations failed.")
        with suppress(TimeoutError):
            await asyncio.wait_for(closing.wait(), settings.sweep_seconds)


async def _drain(memory: Memory, data_dir: Path) -> None:
    """Takes in what hooks left, at once and then every few seconds; where that fails, after a longer while."""
    while True:
        failed = False
        if spool.waiting(str(data_dir)):
            from ctxmem_mcp.capture.spool_worker import drain

            try:
                failed = (await drain(memory, data_dir)).failed > 0
            except Exception:
                _log.exception("What agents' hooks left could not be taken in.")
                failed = True
        await asyncio.sleep(DRAIN_AGAIN_SECONDS if failed else DRAIN_SECONDS)
