"""Small files of the hooks, named after sessions: which were compacted, and the keys of the lines that each has had.

They are deleted when the session has ended long ago, or is forgotten. Imports nothing slow.
"""

from __future__ import annotations

import os
import time

from ctxmem_mcp.private_files import create_folder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

COMPACTED, WARNED = "compacted", "warned"
SECONDS_MAX = 7 * 86_400
_NAME_CHARS_MAX = 128
_KEYS_BYTES_MAX = 1 << 20


def name_of(session_id: str) -> str:
    """Returns a file's name for a session; empty if nothing of the id can be used."""
    return "".join(c for c in session_id if c.isalnum() or c in "-_").strip("-")[:_NAME_CHARS_MAX]


def remove_old(folder: str) -> None:
    """Deletes the folder's files that nothing was written to for a week."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        try:
            if os.stat(path).st_mtime < time.time() - SECONDS_MAX:
                os.unlink(path)
        except OSError:
            continue


def quotation_key(conversation: str, index: int) -> str:
    """Returns the key of a quotation of a turn."""
    return f"{conversation}/t{index}"


def read_keys(data_dir: str, session_id: str) -> set[str]:
    """Returns the keys of the lines that a session has had. Raises OSError if they can't be read."""
    try:
        file = os.open(_path_of_keys(data_dir, session_id), os.O_RDONLY)
    except FileNotFoundError:
        return set()
    try:
        return set(os.read(file, _KEYS_BYTES_MAX).decode("utf-8", "replace").split())
    finally:
        os.close(file)


def note_lines(data_dir: str, session_id: str, keys: Iterable[str]) -> None:
    """Records that a session has had the lines with these keys."""
    file = _open_keys(data_dir, session_id)
    try:
        os.write(file, "".join(f"{key}\n" for key in keys).encode())
    finally:
        os.close(file)
    remove_old(os.path.join(data_dir, WARNED))


def take_first_time(data_dir: str, session_id: str, key: str) -> bool:
    """Returns whether the session has not had the line with this key, and records that it has."""
    file = _open_keys(data_dir, session_id)
    try:
        if key.encode() in os.read(file, _KEYS_BYTES_MAX).split():
            return False
        os.write(file, key.encode() + b"\n")
    finally:
        os.close(file)
    remove_old(os.path.join(data_dir, WARNED))
    return True


def _open_keys(data_dir: str, session_id: str) -> int:
    create_folder(os.path.join(data_dir, WARNED))
    return os.open(_path_of_keys(data_dir, session_id), os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)


def _path_of_keys(data_dir: str, session_id: str) -> str:
    return os.path.join(data_dir, WARNED, name_of(session_id) or "-")


def purge(data_dir: str, session_ids: Iterable[str]) -> None:
    """Deletes the files of these sessions."""
    for name in filter(None, map(name_of, session_ids)):
        for folder in (COMPACTED, WARNED):
            try:
                os.unlink(os.path.join(data_dir, folder, name))
            except FileNotFoundError:
                continue
