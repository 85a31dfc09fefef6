"""The spool: a folder of events that an agent's hooks left, one file each, until somebody drains it.

Writing is done by a hook, which has milliseconds: nothing is imported here that an interpreter has not loaded already.
A file appears whole or not at all (written aside, then renamed); names sort by the time of their event. A drainer may
note in a file's name where its event's turns go, so that taking it in twice is taking it in once.
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = "spool"
# The first line of a file: what it is, which agent's event, and whether all of it is there.
_MARK, WHOLE, CUT = "ctxmem-event", "whole", "cut"
_EVENT, _ASIDE, _AFTER = ".event", ".aside", "~"
# What a killed hook left half-written is nobody's after this long.
ASIDE_SECONDS = 3_600


def put(data_dir: str, agent: str, raw: bytes, whole: bool = True) -> str:
    """Adds an event; gives the file's path. It survives a killed process; what a power loss takes, the agent's
    transcript tells."""
    folder = os.path.join(data_dir, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    name = f"{time.time_ns():020d}-{os.getpid()}-{os.urandom(4).hex()}"
    aside, path = os.path.join(folder, name + _ASIDE), os.path.join(folder, name + _EVENT)
    try:
        file = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        try:
            left = memoryview(f"{_MARK} 1 {agent} {WHOLE if whole else CUT}\n".encode() + raw)
            while left:
                left = left[os.write(file, left) :]
        finally:
            os.close(file)
        os.rename(aside, path)
    except BaseException:
        _unlink(aside)
        raise
    return path


class SpooledEvent:
    """An event that waits. at: seconds since 1970. after: the turn its own turns follow, once that is decided; empty
    for the beginning, None while it is not."""

    __slots__ = ("after", "at", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        name = os.path.basename(path).removesuffix(_EVENT)
        self.at = int(name.split("-", 1)[0]) / 1e9
        self.after = name.split(_AFTER, 1)[1] if _AFTER in name else None

    def read(self) -> tuple[str, bytes, bool]:
        """The agent, the event as it came, and whether all of it is there. ValueError: it is no event."""
        with open(self.path, "rb") as file:
            head, _, raw = file.read().partition(b"\n")
        words = head.decode("utf-8", "replace").split(" ")
        if len(words) != 4 or words[:2] != [_MARK, "1"]:
            raise ValueError(f"{os.path.basename(self.path)} is no event")
        return words[2], raw, words[3] == WHOLE

    def set_after(self, turn_id: str) -> None:
        """Notes, in the file's name, where its turns go, before they go there."""
        path = self.path.removesuffix(_EVENT) + _AFTER + turn_id + _EVENT
        os.rename(self.path, path)
        self.path, self.after = path, turn_id

    def remove(self) -> None:
        _unlink(self.path)


def pending(data_dir: str) -> list[SpooledEvent]:
    """The events that wait, oldest first."""
    return [spooled for name in sorted(_names(data_dir)) for spooled in _spooled(data_dir, name)]


def _spooled(data_dir: str, name: str) -> Iterator[SpooledEvent]:
    path = os.path.join(data_dir, FOLDER, name)
    if name.endswith(_EVENT):
        try:
            yield SpooledEvent(path)
        except ValueError:  # not named by us
            return
    elif name.endswith(_ASIDE) and _is_old(path):
        _unlink(path)


def _names(data_dir: str) -> list[str]:
    try:
        return os.listdir(os.path.join(data_dir, FOLDER))
    except OSError:
        return []


def _is_old(path: str) -> bool:
    try:
        return os.stat(path).st_mtime < time.time() - ASIDE_SECONDS
    except OSError:
        return False


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return
