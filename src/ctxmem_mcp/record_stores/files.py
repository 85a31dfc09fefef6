"""A record store in the files of a data folder."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from ctxmem_mcp import record_files, sent_requests, usage_ledger
from ctxmem_mcp.record_files import RecordFiles
from ctxmem_mcp.record_stores.base import Record
from ctxmem_mcp.record_stores.file_orders import FileOrders
from ctxmem_mcp.sent_requests import SentRequest
from ctxmem_mcp.usage_ledger import LedgerEntry


class FileRecordStore:
    """Implements `RecordStore`. Each call reads or writes files in a thread, except those of `redactions`.

    A redaction in progress is a small file, which is written and synced on the event loop.
    """

    def __init__(self, data_dir: Path) -> None:
        """data_dir: the principal's folder, which may not exist yet."""
        self._data_dir = data_dir
        self.redactions = FileOrders(data_dir)

    async def put(self, kind: str, record_id: str, record: Record) -> None:
        await asyncio.to_thread(RecordFiles(self._data_dir, kind).put, record_id, record)

    async def replace(self, kind: str, record_id: str, record: Record) -> bool:
        return await asyncio.to_thread(RecordFiles(self._data_dir, kind).replace, record_id, record)

    async def get(self, kind: str, record_id: str) -> Record | None:
        return await asyncio.to_thread(RecordFiles(self._data_dir, kind).get, record_id)

    async def all(self, kind: str) -> list[tuple[str, Record]]:
        return await asyncio.to_thread(RecordFiles(self._data_dir, kind).all)

    async def remove(self, kind: str, record_id: str) -> bool:
        return await asyncio.to_thread(RecordFiles(self._data_dir, kind).remove, record_id)

    async def expired_sessions(self, now: float) -> Mapping[str, float]:
        if not (self._data_dir / record_files.SESSIONS).is_dir():
            return {}
        return await asyncio.to_thread(record_files.expired_sessions, self._data_dir, now)

    async def add_usage(self, entry: LedgerEntry) -> None:
        await asyncio.to_thread(usage_ledger.add, self._data_dir, entry)

    async def usage(self, conversation_id: str | None = None) -> Sequence[LedgerEntry]:
        return await asyncio.to_thread(usage_ledger.read, self._data_dir, conversation_id)

    async def move_usage(self, conversation_id: str, target: str) -> None:
        await asyncio.to_thread(usage_ledger.move, self._data_dir, [conversation_id], target)

    async def add_sent(self, sent: SentRequest) -> None:
        await asyncio.to_thread(sent_requests.add, self._data_dir, sent)

    async def sent(self, conversation_id: str) -> Sequence[SentRequest]:
        return await asyncio.to_thread(sent_requests.read, self._data_dir, conversation_id)

    async def forget(self, conversation_ids: Collection[str]) -> None:
        await asyncio.to_thread(forget_files, self._data_dir, conversation_ids)

    async def adopt(
        self, usage: Sequence[LedgerEntry], sent: Sequence[SentRequest], records: Mapping[str, Mapping[str, Record]]
    ) -> None:
        await asyncio.to_thread(self._adopt, usage, sent, records)

    def _adopt(
        self, usage: Sequence[LedgerEntry], sent: Sequence[SentRequest], records: Mapping[str, Mapping[str, Record]]
    ) -> None:
        for kind, some in records.items():
            files = RecordFiles(self._data_dir, kind)
            for record_id, record in some.items():
                if files.get(record_id) is None:
                    files.put(record_id, record)
        if usage:
            usage_ledger.adopt(self._data_dir, usage)
        for _, requests in groupby(sent, lambda one: one.conversation_id):
            sent_requests.adopt(self._data_dir, list(requests))

    async def close(self) -> None:
        pass


def forget_files(data_dir: Path, conversation_ids: Collection[str]) -> None:
    """Removes sessions and requests of these conversations from the files, and the conversations' names from usage."""
    record_files.forget_sessions(data_dir, conversation_ids)
    usage_ledger.forget(data_dir, conversation_ids)
    sent_requests.forget(data_dir, conversation_ids)
