"""What this machine remembers of its shared folders: small files in the data folder, without words of conversations.

All but the machine's id only saves work: without it, files are read and compared again.
"""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ctxmem_mcp.private_files import SYNC, create_folder, open_new, read_file

_MACHINE = "machine"


@dataclass(slots=True)
class LocalRecord:
    """The state of one shared folder at the last sync.

    Attributes:
        merged: Of each file that was merged, the mark of its conversation.
        applied: The turns that were forgotten here because another machine had forgotten them, and when that became
            known. If such a turn is stored all the same, somebody has imported it again.
        lifted: The turns that may be stored here again because somebody has imported them again, and when that became
            known. What is forgotten after that stays forgotten.
        names: Of each conversation's file on this machine, its state when it was last looked at, and the name that the
            shared folder has for that.
        tombstones: How many tombstones there were at the last sync.
    """

    merged: dict[str, str] = field(default_factory=dict)
    applied: dict[str, float] = field(default_factory=dict)
    lifted: dict[str, float] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    tombstones: int = 0

    @classmethod
    def load(cls, data_dir: Path, folder_id: str) -> LocalRecord:
        try:
            return cls(**json.loads(read_file(_path(data_dir, folder_id))))
        except (OSError, ValueError, TypeError):
            return cls()

    def save(self, data_dir: Path, folder_id: str) -> None:
        _replace(_path(data_dir, folder_id), json.dumps(asdict(self)).encode())


def machine_id(data_dir: Path) -> str:
    """Returns the id of the machine that a data folder belongs to."""
    path = data_dir / SYNC / _MACHINE
    try:
        return read_file(path).decode()
    except FileNotFoundError:
        _replace(path, secrets.token_hex(8).encode())
        return read_file(path).decode()


def _path(data_dir: Path, folder_id: str) -> Path:
    return data_dir / SYNC / f"{folder_id}.json"


def _replace(path: Path, raw: bytes) -> None:
    create_folder(path.parent)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.aside")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(open_new(unfinished), "wb") as file:
        file.write(raw)
    unfinished.replace(path)
