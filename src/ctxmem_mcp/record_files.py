"""Small JSON records kept beside the conversations, one file each: what sessions and spaces say of themselves.

data_dir/sessions/session_0123456789abcdef.json     written whole or not at all, removed by unlinking
data_dir/spaces/space_0123456789abcdef.json

A session's record goes with its conversation, and where it never had one, when it would have expired.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

SESSIONS, SPACES = "sessions", "spaces"
# What must never outlive the conversation of the same name.
EXPIRES = "expires"
_ID = re.compile(r"[a-z]+_[0-9a-f]{16}")
_Record = dict[str, Any]


def new_id(kind: str) -> str:
    return f"{kind}_{secrets.token_hex(8)}"


class Records:
    """The records of one kind. Calls touch the disk and are short."""

    def __init__(self, data_dir: Path, kind: str) -> None:
        self._folder = data_dir / kind

    def put(self, record_id: str, record: _Record) -> None:
        """Keeps a record, durable when it returns; the one of this id before it is replaced."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = self._folder / f"{record_id}.{secrets.token_hex(4)}.unfinished"
        try:
            with unfinished.open("x", encoding="utf-8") as file:
                json.dump(record, file, ensure_ascii=True)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self._path(record_id))
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        self._sync_folder()

    def get(self, record_id: str) -> _Record | None:
        """The record, None where there is none of this id, whatever the id looks like."""
        if not _ID.fullmatch(record_id):
            return None
        try:
            record = json.loads(self._path(record_id).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return record if isinstance(record, dict) else None

    def all(self) -> list[tuple[str, _Record]]:
        """All records with their ids, in no order."""
        try:
            names = [name.removesuffix(".json") for name in os.listdir(self._folder) if name.endswith(".json")]
        except OSError:
            return []
        found = ((name, self.get(name)) for name in names)
        return [(name, record) for name, record in found if record is not None]

    def remove(self, record_id: str) -> bool:
        """Whether there was one."""
        if not _ID.fullmatch(record_id):
            return False
        # What a killed process left half written says as much.
        files = [self._path(record_id), *self._folder.glob(f"{record_id}.*.unfinished")]
        there = [path for path in files if path.exists()]
        for path in there:
            path.unlink(missing_ok=True)
        if there:
            self._sync_folder()
        return bool(there)

    def _path(self, record_id: str) -> Path:
        return self._folder / f"{record_id}.json"

    def _sync_folder(self) -> None:
        """Makes a new or removed name durable, where folders can be synced."""
        with contextlib.suppress(OSError, AttributeError):
            handle = os.open(self._folder, os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def forget_sessions(data_dir: Path, conversation_ids: Iterable[str]) -> None:
    """No record outlives its conversation."""
    sessions = Records(data_dir, SESSIONS)
    for conversation in conversation_ids:
        sessions.remove(conversation)


def outlived(data_dir: Path, now: float) -> list[str]:
    """Sessions whose time is over, unless messages have come since."""
    return [name for name, record in Records(data_dir, SESSIONS).all() if record.get(EXPIRES, 0) <= now]
