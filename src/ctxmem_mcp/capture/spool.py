"""The spool: a folder to which agents' hooks write their events, one file each, until a drain stores them.

A hook writes it, and a hook has milliseconds: this module imports only what an interpreter has already loaded. A file
appears complete or not at all (written under another name, then renamed). Names sort by the events' times. A drain can
record in a file's name which turn the event's turns follow, so that storing them twice stores them once.
"""

from __future__ import annotations

import os
import time

from ctxmem_mcp.private_files import create_folder, is_regular, open_new, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "spool"
# A file's first line: what it is, the agent, and whether the event is complete.
_MARK, WHOLE, CUT = "ctxmem-event", "whole", "cut"
_EVENT, _UNFINISHED, _AFTER = ".event", ".aside", "~"
# After this long a half-written file is what a killed hook left.
UNFINISHED_SECONDS = 3_600


def put(data_dir: str, agent: str, raw: bytes, whole: bool = True) -> str:
    """Adds an event.

    It is not synced to the disk: it survives a killed process, but perhaps not a power loss, after which the turns come
    from the agent's transcript.

    Args:
        data_dir: the data folder.
        agent: the agent's id.
        raw: the event as the agent sent it.
        whole: false if the event was cut off.

    Returns:
        The path of the event's file.

    Raises:
        OSError: the file could not be written; nothing is left of it.
    """
    folder = os.path.join(data_dir, FOLDER)
    create_folder(folder)
    name = f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(4).hex()}"
    unfinished, path = os.path.join(folder, name + _UNFINISHED), os.path.join(folder, name + _EVENT)
    try:
        file = open_new(unfinished)
        try:
            remaining = memoryview(f"{_MARK} 1 {agent} {WHOLE if whole else CUT}\n".encode() + raw)
            while remaining:
                remaining = remaining[os.write(file, remaining) :]
        finally:
            os.close(file)
        os.rename(unfinished, path)
    except BaseException:
        _unlink(unfinished)
        raise
    return path


class SpooledEvent:
    """A pending event.

    Attributes:
        path: the path of its file.
        at: when it was spooled, in seconds since 1970.
        after: the id of the turn that its own turns follow: empty if they start the conversation, None if this is not
            decided yet.
    """

    __slots__ = ("after", "at", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        name = os.path.basename(path).removesuffix(_EVENT)
        self.at = int(name.split("-", 1)[0]) / 1e9
        self.after = name.split(_AFTER, 1)[1] if _AFTER in name else None

    def read(self) -> tuple[str, bytes, bool]:
        """Returns the agent's id, the event as the agent sent it, and whether it is complete.

        Raises:
            OSError: the file can't be read.
            ValueError: the file is not a spooled event.
        """
        head, _, raw = read_file(self.path).partition(b"\n")
        words = head.decode("utf-8", "replace").split(" ")
        if len(words) != 4 or words[:2] != [_MARK, "1"]:
            raise ValueError(f"{os.path.basename(self.path)} is not a spooled event")
        return words[2], raw, words[3] == WHOLE

    def set_after(self, turn_id: str) -> None:
        """Records in the file's name which turn the event's turns follow. Called before they are stored.

        Events that are stored together follow the same turn, one after the other.
        """
        folder, name = os.path.split(self.path)
        path = os.path.join(folder, name.removesuffix(_EVENT).split(_AFTER, 1)[0] + _AFTER + turn_id + _EVENT)
        os.rename(self.path, path)
        self.path, self.after = path, turn_id

    def move_to(self, folder: str) -> None:
        """Moves its file to another folder, where no turn is recorded that it follows."""
        name = os.path.basename(self.path).removesuffix(_EVENT).split(_AFTER, 1)[0] + _EVENT
        path = os.path.join(folder, name)
        os.rename(self.path, path)
        os.chmod(path, 0o600)  # a file that is moved meanwhile escapes the correction of modes
        self.path, self.after = path, None

    def remove(self) -> bool:
        """Returns whether its file was there: a concurrent drain may have removed or renamed it."""
        return _unlink(self.path)


def has_pending(data_dir: str) -> bool:
    """Whether there are pending events. Costs little, however many there are."""
    try:
        with os.scandir(os.path.join(data_dir, FOLDER)) as entries:
            return any(entry.name.endswith(_EVENT) for entry in entries)
    except OSError:
        return False


def count_pending(data_dir: str) -> int:
    """Returns the number of pending events."""
    return sum(name.endswith(_EVENT) for name in _names(os.path.join(data_dir, FOLDER)))


def pending(data_dir: str) -> list[SpooledEvent]:
    """Returns the pending events, oldest first. Deletes what killed hooks left half-written."""
    return events_in(os.path.join(data_dir, FOLDER))


def events_in(folder: str) -> list[SpooledEvent]:
    """Returns the events in a folder, as `pending` does."""
    return [spooled for name in sorted(_names(folder)) for spooled in _spooled(os.path.join(folder, name), name)]


def _spooled(path: str, name: str) -> Iterator[SpooledEvent]:
    if name.endswith(_EVENT):
        if not is_regular(path):  # neither a folder nor a pipe is an event
            return
        try:
            yield SpooledEvent(path)
        except ValueError:  # not a name that put() gives
            return
    elif name.endswith(_UNFINISHED) and _is_old(path):
        _unlink(path)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_old(path: str) -> bool:
    try:
        return os.stat(path).st_mtime < time.time() - UNFINISHED_SECONDS
    except OSError:
        return False


def _unlink(path: str) -> bool:
    """Returns whether the file was there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True
