"""Opens a Memory as the settings say. The only module that knows the concrete classes.

They are imported when a memory is opened, not before: a server answers its host first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ctxmem_mcp.cancellation import run_to_completion
from ctxmem_mcp.capture import spool
from ctxmem_mcp.errors import StoreUnavailable
from ctxmem_mcp.index_worker import index_repeatedly
from ctxmem_mcp.private_files import REDACTIONS, SALT, read_file
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.sweeper import Sweeper, sweep_repeatedly

if TYPE_CHECKING:
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.memory.dense_queue import DenseQueue
    from ctxmem_mcp.record_stores.base import RecordStore, RedactionOrders
    from ctxmem_mcp.stores.base import Store
    from ctxmem_mcp.stores.postgres import PostgresStore
    from ctxmem_mcp.stores.records import SpendLimits
    from ctxmem_mcp.stores.sqlite.store import SqliteStore
    from ctxmem_mcp.text.dense import DenseEmbedder

# How often the spool is checked for new events; checking an empty folder costs nothing. Longer after a failure.
DRAIN_SECONDS = 2.0
# After the start, what was stored and not indexed is indexed after so many seconds.
INDEX_SECONDS = 5.0
DRAIN_AGAIN_SECONDS = 60.0
# A process killed during a model call blocks others from its conversation this much longer than a call may take.
LOST_AFTER_SECONDS = 60.0
# The gateway's usage ledger, named here so that the module that reads it loads only if the file exists.
USAGE_LEDGER_FILE = "spending.sqlite3"

_log = logging.getLogger(__name__)


@asynccontextmanager
async def open_memory(
    settings: Settings | None = None,
    *,
    salt: bytes | None = None,
    principal: str = "",
    sweeper: Sweeper | None = None,
    background: bool = True,
) -> AsyncIterator[Memory]:
    """Opens a memory over the store that the settings name: SQLite files, or a PostgreSQL database.

    While it is open, background tasks sweep expired conversations (at once, then every `sweep_seconds`), import the
    events that agents' hooks leave in the spool, and, if a model is configured, have it write better summaries.

    Args:
        settings: By default those of the environment and the config file.
        salt: Keys the ids of new conversations; one for each principal. By default that of the data folder.
        principal: Whose conversations they are, in a PostgreSQL database; in files, the folder tells.
        sweeper: What earlier memories over the folder have seen expire. By default, nothing yet.
        background: Run the background tasks.

    Raises:
        InvalidArgument: The store's URL can't be parsed, or its package is not installed.
        StoreUnavailable: The data folder can't be used.
        NewerFormat: A newer version of ctxmem-mcp wrote its catalog.
    """
    from ctxmem_mcp import worker_pool
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.record_stores import open_record_store
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
    from ctxmem_mcp.text.embeddings import load_embedder

    settings = settings or Settings.load()
    records = open_record_store(settings, principal)
    sweeper = sweeper or Sweeper()

    async def store_pending(conversation_id: str) -> None:
        await _store_events_of(memory, settings.data_dir, conversation_id)

    store, limits = open_store(settings, principal), _spend_limits(settings)
    memory = Memory(
        store,
        ExtractiveSummarizer(),
        encoding=settings.encoding,
        retention_days=settings.retention_days,
        salt=_salt_of(settings.data_dir) if salt is None else salt,
        expiry_watch=sweeper.conversations,
        on_forgotten=partial(_forget_beside, settings),
        on_branch_forgotten=partial(_forget_branch, settings),
        redact=_redaction(settings),
        spend_limits=limits,
        embedder=load_embedder(settings.embeddings),
        dense=_dense_queue(settings, store),
        usage_of=partial(_gateway_usage, settings, records),
        workers=worker_pool.shared,
        count_pending=partial(spool.count_pending, str(settings.data_dir)),
        store_pending=store_pending,
        request_summaries=settings.ask_for_summaries == "on" and limits is None,  # else the model writes them
    )
    if background and (settings.data_dir / REDACTIONS).is_dir():
        await _resume_redactions(memory, settings.data_dir)
    closing = asyncio.Event()
    tasks: list[asyncio.Task[None]] = []
    if background:
        sweeps = sweep_repeatedly(memory, records, sweeper, settings.sweep_seconds, closing)
        tasks.append(asyncio.create_task(sweeps, name="ctxmem sweep"))
        tasks.append(asyncio.create_task(_index(memory), name="ctxmem index"))
        tasks.append(asyncio.create_task(_drain(memory, settings.data_dir), name="ctxmem drain"))
        if settings.store_url is not None:
            resuming = _resume_redactions(memory, settings.data_dir, records.redactions)
            tasks.append(asyncio.create_task(resuming, name="ctxmem redactions"))
    try:
        async with _summary_worker(settings, store, limits if background else None):
            yield memory
    finally:
        # A running sweep finishes, so that nothing is half removed.
        closing.set()
        # Events left in the spool stay there; a commit in progress is completed.
        for drain in tasks[1:]:
            drain.cancel()
        await run_to_completion(_close(memory, store, records, *tasks))


def _salt_of(data_dir: Path) -> bytes:
    """Returns the salt in a principal's folder; other folders have none."""
    try:
        return read_file(data_dir / SALT)
    except (FileNotFoundError, NotADirectoryError):
        return b""


def open_store(settings: Settings, principal: str) -> SqliteStore | PostgresStore:
    """Returns the store that the settings name. It opens on first use."""
    if settings.store_url is not None:
        return _postgres_store(settings, principal)
    from ctxmem_mcp.stores.sqlite.store import SqliteStore

    return SqliteStore(settings.data_dir, durability=settings.durability)


def _postgres_store(settings: Settings, principal: str) -> PostgresStore:
    try:
        from ctxmem_mcp.stores.postgres import PostgresStore
    except ImportError as error:
        raise settings.missing_extra(error) from error
    assert settings.store_url is not None
    return PostgresStore(settings.store_url, principal, connections=settings.store_connections)


async def database_salt(settings: Settings, principal: str) -> bytes:
    """Returns the salt of a principal's ids in the PostgreSQL database, which is created with the first call."""
    store = _postgres_store(settings, principal)
    try:
        return await store.salt()
    finally:
        await store.close()


async def database_principals(settings: Settings) -> list[str]:
    """Returns the principals that have used the PostgreSQL database."""
    store = _postgres_store(settings, "")
    try:
        return await store.principals()
    finally:
        await store.close()


@asynccontextmanager
async def open_transient(encoding: str, embeddings: str = "off") -> AsyncIterator[Memory]:
    """Opens a memory that writes nothing to a disk and is gone when it is closed.

    Args:
        encoding: The token encoding.
        embeddings: As in the settings.
    """
    from ctxmem_mcp import worker_pool
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.in_memory import InMemoryStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
    from ctxmem_mcp.text.embeddings import load_embedder

    memory = Memory(
        InMemoryStore(),
        ExtractiveSummarizer(),
        encoding=encoding,
        embedder=load_embedder(embeddings),
        workers=worker_pool.shared,
    )
    try:
        yield memory
    finally:
        await memory.close()


async def _close(
    memory: Memory, store: SqliteStore | PostgresStore, records: RecordStore, *tasks: asyncio.Task[None]
) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)
    store.prevent_reopening()
    await memory.close()
    await records.close()


@asynccontextmanager
async def open_folder(
    data_dir: Path, conversation: Path | None = None, *, redact: Callable[[str], str] | None = None
) -> AsyncIterator[Memory]:
    """Opens a memory over a folder that only this process uses. Nothing runs in the background, nothing expires.

    Args:
        data_dir: The folder.
        conversation: A conversation's file to copy into the folder first.
        redact: Removes secrets from what is stored.
    """
    from ctxmem_mcp.memory import Memory
    from ctxmem_mcp.stores.sqlite.conversation_files import copy_into
    from ctxmem_mcp.stores.sqlite.store import SqliteStore
    from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

    if conversation is not None:
        copy_into(conversation, data_dir)
    memory = Memory(SqliteStore(data_dir), ExtractiveSummarizer(), clock=lambda: 0.0, redact=redact)
    try:
        yield memory
    finally:
        await memory.close()


async def _resume_redactions(memory: Memory, data_dir: Path, orders: RedactionOrders | None = None) -> None:
    from ctxmem_mcp import redaction

    try:
        await redaction.resume(memory, data_dir, orders)
    except Exception:  # it is tried again at the next start
        _log.exception("A redaction could not be finished.")


def _forget_beside(settings: Settings, conversation_ids: list[str]) -> None:
    """Removes the files beside these conversations, and stops their transcripts from being captured again.

    A database has removed what is beside them already.
    """
    from ctxmem_mcp.capture.purge import purge_captured

    if settings.store_url is None:
        from ctxmem_mcp.record_stores.files import forget_files

        forget_files(settings.data_dir, conversation_ids)
    purge_captured(settings.data_dir, conversation_ids)


def _forget_branch(settings: Settings, conversation_id: str, had_head: bool) -> None:
    """Removes what is beside a conversation of which a branch was forgotten, and what it was sent."""
    from ctxmem_mcp.capture.purge import purge_branch

    purge_branch(settings.data_dir, conversation_id, had_head=had_head)
    if settings.store_url is None and (settings.data_dir / USAGE_LEDGER_FILE).exists():
        from ctxmem_mcp import sent_requests

        sent_requests.forget(settings.data_dir, [conversation_id])


async def _gateway_usage(settings: Settings, records: RecordStore, conversation_id: str) -> dict[str, Any] | None:
    """Returns the gateway's usage for a conversation; None if its table can't be read."""
    import sqlite3

    from ctxmem_mcp.usage_ledger import usage_report

    try:
        return usage_report(await records.usage(conversation_id), settings)
    except (sqlite3.Error, StoreUnavailable) as error:
        _log.warning("The gateway's usage can't be read: %s", error)
        return None


def _redaction(settings: Settings) -> Callable[[str], str] | None:
    if settings.redact != "secrets":
        return None
    from ctxmem_mcp.capture.redaction import load_redactor

    return load_redactor()


def dense_embedder(settings: Settings) -> DenseEmbedder | None:
    """Returns the neural model that the settings name, or None. It loads or connects with the first text.

    Raises:
        InvalidArgument: Its package is not installed.
    """
    if settings.embeddings_url and settings.embeddings_model:
        from ctxmem_mcp.embeddings_client import EndpointEmbedder

        return EndpointEmbedder(settings.embeddings_url, settings.embeddings_model, settings.embeddings_api_key)
    if settings.embeddings_url or settings.embeddings_model:
        _log.warning("No endpoint embeds: CTXMEM_EMBEDDINGS_URL and CTXMEM_EMBEDDINGS_MODEL are both needed.")
    if settings.neural == "off":
        return None
    from ctxmem_mcp import worker_pool
    from ctxmem_mcp.text.dense import load_local

    return load_local(worker_pool.shared)


def _dense_queue(settings: Settings, store: SqliteStore | PostgresStore) -> DenseQueue | None:
    if (embedder := dense_embedder(settings)) is None:
        return None
    from ctxmem_mcp.memory.dense_queue import DenseQueue

    return DenseQueue(store, embedder, chunks_max=settings.neural_chunks, seconds_max=settings.neural_seconds)


def _spend_limits(settings: Settings) -> SpendLimits | None:
    """Returns the spending limits of the summary model; None if no model is configured."""
    if not (settings.llm_base_url and settings.llm_model):
        if settings.llm_base_url or settings.llm_model:
            _log.warning("No model writes summaries: CTXMEM_LLM_BASE_URL and CTXMEM_LLM_MODEL are both needed.")
        return None
    from ctxmem_mcp.llm_client import RequestLimits
    from ctxmem_mcp.stores.records import SpendLimits

    lost_after_seconds = RequestLimits().total_seconds + LOST_AFTER_SECONDS
    return SpendLimits(settings.llm_tokens_per_day, settings.llm_tokens_per_conversation, lost_after_seconds)


@asynccontextmanager
async def _summary_worker(settings: Settings, store: Store, limits: SpendLimits | None) -> AsyncIterator[None]:
    """Runs the summary worker, if a model is configured. A call in progress at the end is abandoned."""
    if limits is None or settings.llm_base_url is None or settings.llm_model is None:
        yield
        return
    from ctxmem_mcp.llm_client import LLMClient
    from ctxmem_mcp.summary_worker import SummaryWorker

    client = LLMClient(settings.llm_base_url, settings.llm_model, settings.llm_api_key)
    worker = SummaryWorker(store, client, limits, encoding=settings.encoding)
    task = asyncio.create_task(worker.run(), name="ctxmem summaries")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.close()


async def _store_events_of(memory: Memory, data_dir: Path, conversation_id: str) -> None:
    """Imports what hooks left in the spool of one conversation. A failure is logged."""
    if spool.has_pending(str(data_dir)):
        from ctxmem_mcp.capture.spool_worker import drain

        try:
            await drain(memory, data_dir, wait=True, conversation_id=conversation_id)
        except Exception as error:
            _log.warning("Events of conversation %s could not be stored: %s", conversation_id, error)


async def _index(memory: Memory) -> None:
    """Indexes turns that a killed process stored but did not index. Waits first: a running process may be about to
    index them. Then keeps the index over all conversations up to date."""
    await asyncio.sleep(INDEX_SECONDS)
    try:
        await memory.index_all()
    except Exception:  # the next reader tries again
        _log.exception("Stored turns could not be indexed.")
    await index_repeatedly(memory)


async def _drain(memory: Memory, data_dir: Path) -> None:
    """Imports what hooks left in the spool, at once and then every few seconds; less often after a failure."""
    while True:
        failed = False
        if spool.has_pending(str(data_dir)):
            from ctxmem_mcp.capture.spool_worker import drain

            try:
                failed = (await drain(memory, data_dir)).failed > 0
            except Exception:
                _log.exception("Events of agents' hooks could not be imported.")
                failed = True
        await asyncio.sleep(DRAIN_AGAIN_SECONDS if failed else DRAIN_SECONDS)
