"""Records that a session was compacted, until its next event can bring what the recap left out.

Claude Code calls the hook of the session's start before it has the recap. So an empty file, named after the session,
stays until the next event that may add to the context. Imports nothing slow.
"""

from __future__ import annotations

import os

from ctxmem_mcp.capture.session_files import COMPACTED, name_of, remove_old
from ctxmem_mcp.private_files import create_folder, open_new


def note(data_dir: str, session_id: str) -> None:
    """Records that the session was compacted. Raises OSError if that can't be written."""
    name = name_of(session_id)
    if not name:
        return
    folder = os.path.join(data_dir, COMPACTED)
    create_folder(folder)
    remove_old(folder)
    try:
        os.close(open_new(os.path.join(folder, name)))
    except FileExistsError:
        os.utime(os.path.join(folder, name))


def any_noted(data_dir: str) -> bool:
    """Returns whether any session was compacted and has had no event since."""
    try:
        with os.scandir(os.path.join(data_dir, COMPACTED)) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def take(data_dir: str, session_id: str) -> bool:
    """Returns whether the session was compacted, and forgets it: of several events at once, one takes it."""
    name = name_of(session_id)
    try:
        os.unlink(os.path.join(data_dir, COMPACTED, name))
    except OSError:
        return False
    return True
