"""The record of failed tool calls: one small file for each project, which a hook reads before a call is made again.

A line is a key, a keyed hash of the normalised call, and what to show about the failure. Imports little: a hook has
milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re

from ctxmem_mcp.private_files import create_folder, open_new, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Any

FOLDER = "failed_calls"
# A project's newest failures.
RECORDS_MAX = 500
_SECRET, _SECRET_BYTES, _KEY_BYTES = "key", 32, 12
_GIT = ".git"
_CHANGES_FOLDER = re.compile(r"\A(?:cd\s+\S+\s*(?:&&|;|\n)\s*)+")
_CUT_OUTPUT = re.compile(r"(?:\s*\|\s*(?:tail|head)(?:\s+-\S+(?:\s+\d+)?)*|\s*2>&1)+\s*\Z")
_TEMPORARY = re.compile(r"(?:/private)?/(?:tmp|var/folders)/[^\s'\"]*")
_LINE_NUMBER = re.compile(r"(?<=\w):\d+(?::\d+)?\b")


class FailedCall:
    """A call that failed.

    Attributes:
        key: the call's key.
        call_id: the agent's id of the call.
        conversation, turn: where its result is.
        day: when it failed (ISO 8601); may be empty.
        lasts: whether it fails again whatever is edited (an unknown command or option).
        error: the line of the error.
        ending: what solved it; empty if nothing is known.
    """

    __slots__ = ("call_id", "conversation", "day", "ending", "error", "key", "lasts", "turn")

    def __init__(
        self, key: str, call_id: str, conversation: str, turn: str, day: str, lasts: bool, error: str, ending: str
    ) -> None:
        self.key, self.call_id, self.conversation, self.turn = key, call_id, conversation, turn
        self.day, self.lasts, self.error, self.ending = day, lasts, error, ending

    @property
    def line(self) -> str:
        """The record's line in its file."""
        fields = [getattr(self, name) for name in _FIELDS]
        return f"{self.key} {json.dumps(fields, ensure_ascii=False)}\n"


_FIELDS = ("call_id", "conversation", "turn", "day", "lasts", "error", "ending")


def normalise(tool: str, arguments: dict[str, Any]) -> str:
    """Returns what two calls have in common that do the same; empty for a call that is not recorded."""
    command = arguments.get("command")
    if isinstance(command, str):
        text = _CUT_OUTPUT.sub("", _CHANGES_FOLDER.sub("", command.strip()))
        text = _LINE_NUMBER.sub("", _TEMPORARY.sub("/tmp", text)).replace('"', "'")
        return " ".join(["run", *text.split()]) if text else ""
    path, old, new = (arguments.get(name) for name in ("file_path", "old_string", "new_string"))
    if isinstance(path, str) and isinstance(old, str) and old != new:
        return " ".join(["edit", os.path.basename(path), *old.split()])
    return ""


def key_of(tool: str, arguments: dict[str, Any], secret: bytes) -> str:
    """Returns the key of a call; empty for a call that is not recorded."""
    text = normalise(tool, arguments)
    if not text:
        return ""
    return hashlib.blake2b(text.encode("utf-8", "replace"), key=secret, digest_size=_KEY_BYTES).hexdigest()


def load_secret(data_dir: str, *, create: bool = False) -> bytes:
    """Returns the secret of the keys; empty if there is none yet, which is then nobody's."""
    path = os.path.join(data_dir, FOLDER, _SECRET)
    try:
        return read_file(path)
    except OSError:
        if not create:
            return b""
    create_folder(os.path.dirname(path))
    try:
        file = open_new(path)
    except FileExistsError:  # another process was faster
        return read_file(path)
    secret = os.urandom(_SECRET_BYTES)
    os.write(file, secret)
    os.close(file)
    return secret


def find(data_dir: str, cwd: str, key: str) -> FailedCall | None:
    """Returns the failure of a call in the project of a folder; None if none is recorded."""
    try:
        record = read_file(_path(data_dir, cwd))
    except OSError:
        return None
    _, found, rest = f"\n{record.decode('utf-8', 'replace')}".partition(f"\n{key} ")
    return next(_parse(f"{key} {rest.partition(chr(10))[0]}"), None) if found else None


def update(data_dir: str, cwd: str, failed: Iterable[FailedCall], succeeded: Collection[str]) -> None:
    """Adds failures to a project's record, and removes those of calls that succeeded since. Not for two at once.

    Args:
        data_dir: the data folder.
        cwd: a folder of the project.
        failed: the newest last.
        succeeded: keys of calls that have succeeded.
    """
    path = _path(data_dir, cwd)
    calls = {call.key: call for call in _read(path) if call.key not in succeeded}
    for call in failed:
        calls.pop(call.key, None)
        calls[call.key] = call
    _write(path, list(calls.values())[-RECORDS_MAX:])


def purge(data_dir: str, is_gone: Callable[[FailedCall], bool]) -> None:
    """Removes failures from all projects' records."""
    folder = os.path.join(data_dir, FOLDER)
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        calls = _read(path) if name != _SECRET else []
        kept = [call for call in calls if not is_gone(call)]
        if len(kept) < len(calls):
            _write(path, kept)


def _path(data_dir: str, cwd: str) -> str:
    root = _project_root(cwd).encode("utf-8", "surrogateescape")
    return os.path.join(data_dir, FOLDER, hashlib.blake2b(root, digest_size=_KEY_BYTES).hexdigest())


def _project_root(cwd: str) -> str:
    """The main folder of the repository that a folder is in; else the folder."""
    here = os.path.normpath(cwd)
    while True:
        git = os.path.join(here, _GIT)
        if os.path.isdir(git):
            return here
        if os.path.isfile(git):  # a worktree
            with open(git, encoding="utf-8", errors="replace") as file:
                linked = file.read(4_096).removeprefix("gitdir:").strip().replace("\\", "/")
            return linked.partition(f"/{_GIT}/")[0] or here
        above = os.path.dirname(here)
        if above == here:
            return os.path.normpath(cwd)
        here = above


def _read(path: str) -> list[FailedCall]:
    try:
        lines = read_file(path).decode("utf-8", "replace").split("\n")
    except OSError:
        return []
    return [call for line in lines for call in _parse(line)]


def _parse(line: str) -> Iterator[FailedCall]:
    key, _, fields = line.partition(" ")
    try:
        yield FailedCall(key, *json.loads(fields))
    except (ValueError, TypeError):  # another version's
        return


def _write(path: str, calls: list[FailedCall]) -> None:
    create_folder(os.path.dirname(path))
    unfinished = f"{path}.{os.urandom(4).hex()}"
    file = open_new(unfinished)
    try:
        remaining = memoryview("".join(call.line for call in calls).encode("utf-8", "replace"))
        while remaining:
            remaining = remaining[os.write(file, remaining) :]
    finally:
        os.close(file)
    os.replace(unfinished, path)
