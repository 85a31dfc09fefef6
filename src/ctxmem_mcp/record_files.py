"""Small JSON records beside the conversations, one file each: the metadata of sessions and spaces.

data_dir/sessions/session_0123456789abcdef.json     written atomically, removed by unlinking
data_dir/spaces/space_0123456789abcdef.json

A session's record is removed with its conversation; without a conversation, when it expires.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.private_files import create_folder, open_new, read_file

SESSIONS, SPACES = "sessions", "spaces"
# The field with a session's time of expiry, in seconds since 1970. It applies while there is no conversation.
EXPIRES = "expires"
_ID = lazy_regex(r"[a-z]+_[0-9a-f]{16}")
_Record = dict[str, Any]
# Held while a record appears or disappears, so that one that is removed is not written back.
_NAMES = threading.Lock()


def new_id(kind: str) -> str:
    """Returns a new random id, such as session_0123456789abcdef."""
    return f"{kind}_{secrets.token_hex(8)}"


def is_record_id(text: str) -> bool:
    """Returns whether a text may be the id of a record."""
    return _ID.fullmatch(text) is not None


class RecordFiles:
    """The records of one kind. Methods do short, blocking file I/O."""

    def __init__(self, data_dir: Path, kind: str) -> None:
        self._folder = data_dir / kind

    def put(self, record_id: str, record: _Record) -> None:
        """Writes a record, or replaces it. It is durable when this returns."""
        self._write(record_id, record, only_if_stored=False)

    def replace(self, record_id: str, record: _Record) -> bool:
        """Replaces a record if it exists. Returns whether it did; then the new one is durable.

        Safe against a concurrent `remove` in this process only.
        """
        return self._write(record_id, record, only_if_stored=True)

    def _write(self, record_id: str, record: _Record, *, only_if_stored: bool) -> bool:
        path = self._path(record_id)
        if only_if_stored and not path.exists():
            return False
        create_folder(self._folder)
        unfinished = self._folder / f"{record_id}.{secrets.token_hex(4)}.unfinished"
        try:
            with os.fdopen(open_new(unfinished), "w", encoding="utf-8") as file:
                json.dump(record, file, ensure_ascii=True)
                file.flush()
                os.fsync(file.fileno())
            with _NAMES:
                if is_stored := not only_if_stored or path.exists():
                    unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        self._sync_folder()
        return is_stored

    def get(self, record_id: str) -> _Record | None:
        """Returns a record, or None if there is none. Any text is safe as an id."""
        if not is_record_id(record_id):
            return None
        try:
            record = json.loads(read_file(self._path(record_id)))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def all(self) -> list[tuple[str, _Record]]:
        """Returns all ids and records, in no particular order."""
        try:
            ids = [name.removesuffix(".json") for name in os.listdir(self._folder) if name.endswith(".json")]
        except OSError:
            return []
        records = ((record_id, self.get(record_id)) for record_id in ids)
        return [(record_id, record) for record_id, record in records if record is not None]

    def remove(self, record_id: str) -> bool:
        """Removes a record. Returns whether it existed."""
        if not is_record_id(record_id):
            return False
        # An unfinished file of a killed process holds the same data.
        files = [self._path(record_id), *self._folder.glob(f"{record_id}.*.unfinished")]
        with _NAMES:
            existing = [path for path in files if path.exists()]
            for path in existing:
                path.unlink(missing_ok=True)
        if existing:
            self._sync_folder()
        return bool(existing)

    def _path(self, record_id: str) -> Path:
        return self._folder / f"{record_id}.json"

    def _sync_folder(self) -> None:
        """Makes a new or removed file name durable, on systems that can sync folders."""
        with contextlib.suppress(OSError, AttributeError):
            handle = os.open(self._folder, os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def forget_sessions(data_dir: Path, conversation_ids: Iterable[str]) -> None:
    """Removes the session records of these conversations."""
    sessions = RecordFiles(data_dir, SESSIONS)
    for conversation_id in conversation_ids:
        sessions.remove(conversation_id)


def expired_sessions(data_dir: Path, now: float) -> dict[str, float]:
    """Returns the ids of session records that have expired, each with its time of expiry.

    The conversation of such a session may still be alive.

    Args:
        data_dir: the principal's data folder.
        now: seconds since 1970.
    """
    records = RecordFiles(data_dir, SESSIONS).all()
    return {record_id: record.get(EXPIRES, 0) for record_id, record in records if record.get(EXPIRES, 0) <= now}
