"""Redactions in progress, as files of the data folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

from ctxmem_mcp.file_lock import lock_file
from ctxmem_mcp.private_files import REDACTIONS, create_folder, open_new, read_file
from ctxmem_mcp.record_stores.base import RedactionOrder, encode_turns, readable_orders

_LOCK, _RECORD = "lock", ".json"


class FileOrders:
    """Implements `RedactionOrders`."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / REDACTIONS

    def lock(self, seconds: float) -> AbstractAsyncContextManager[bool]:
        return lock_file(self._folder / _LOCK, seconds)

    async def add(self, day: str, turns: Mapping[str, Collection[bytes]]) -> RedactionOrder:
        order = RedactionOrder(secrets.token_hex(8), day, turns)
        create_folder(self._folder)
        path = self._path(order)
        unfinished = path.with_suffix(".aside")
        with os.fdopen(open_new(unfinished), "wb") as file:
            file.write(encode_turns(day, turns))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        return order

    async def all(self) -> Sequence[RedactionOrder]:
        paths = sorted(self._folder.glob(f"*{_RECORD}"))
        return readable_orders((path.name.removesuffix(_RECORD), str(path), partial(read_file, path)) for path in paths)

    async def remove(self, order: RedactionOrder) -> None:
        self._path(order).unlink(missing_ok=True)

    def _path(self, order: RedactionOrder) -> Path:
        return self._folder / f"{order.id}{_RECORD}"
