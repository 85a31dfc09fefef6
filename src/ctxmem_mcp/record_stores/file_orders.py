"""Redactions in progress, as files of the data folder."""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from ctxmem_mcp.file_lock import lock_file
from ctxmem_mcp.private_files import REDACTIONS, create_folder, open_new, read_file
from ctxmem_mcp.record_stores.base import RedactionOrder

_LOCK, _RECORD = "lock", ".json"
_log = logging.getLogger(__name__)


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
        return list(self._read())

    async def remove(self, order: RedactionOrder) -> None:
        self._path(order).unlink(missing_ok=True)

    def _path(self, order: RedactionOrder) -> Path:
        return self._folder / f"{order.id}{_RECORD}"

    def _read(self) -> Iterable[RedactionOrder]:
        for path in sorted(self._folder.glob(f"*{_RECORD}")):
            try:
                yield decode_order(path.name.removesuffix(_RECORD), read_file(path))
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                _log.error("%s can't be read: %s", path, error)


def encode_turns(day: str, turns: Mapping[str, Collection[bytes]]) -> bytes:
    """Returns a redaction as JSON."""
    as_json = {"day": day, "turns": {one: [digest.hex() for digest in some] for one, some in turns.items()}}
    return json.dumps(as_json).encode()


def decode_order(order_id: str, raw: bytes) -> RedactionOrder:
    """Returns the redaction from its JSON. Raises ValueError, KeyError, TypeError or AttributeError for another."""
    found: dict[str, Any] = json.loads(raw)
    turns = {one: {bytes.fromhex(digest) for digest in some} for one, some in found["turns"].items()}
    return RedactionOrder(order_id, found["day"], turns)
