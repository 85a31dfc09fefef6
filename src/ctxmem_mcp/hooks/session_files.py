"""Small files of the hooks, named after sessions, and deleted when the session has ended long ago."""

from __future__ import annotations

import os
import time

SECONDS_MAX = 7 * 86_400
_NAME_CHARS_MAX = 128


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
