"""Reads a session of opencode of 2025, whose messages and their parts are a file each, as one document.

storage/session/PROJECT/SESSION.json, storage/message/SESSION/*.json, storage/part/MESSAGE/*.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_MESSAGES, _PARTS, _SESSIONS = "message", "part", "session"


def is_session(file: Path) -> bool:
    """Returns whether a file is a session's in such a folder."""
    return file.name.startswith("ses_") and file.suffix == ".json" and file.parent.parent.name == _SESSIONS


def is_part_of_session(file: Path) -> bool:
    """Returns whether a file is a message or a part: it is read with its session."""
    return file.suffix == ".json" and file.name.startswith(("msg_", "prt_")) and (
        file.parent.parent.name in (_MESSAGES, _PARTS)
    )  # fmt: skip


def read_document(file: Path) -> str:
    """Returns the session as the JSON text that `opencode export` writes. Files that can't be read are left out."""
    storage = file.parent.parent.parent
    info = _object(file)
    messages = [
        {"info": _object(message), "parts": [*map(_object, _files(storage / _PARTS / message.stem))]}
        for message in _files(storage / _MESSAGES / file.stem)
    ]
    return json.dumps({"info": {**info, "id": file.stem}, "messages": messages}, ensure_ascii=False)


def _files(folder: Path) -> list[Path]:
    """Returns a folder's files. Their names sort by time."""
    return sorted(folder.glob("*.json"))


def _object(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
