"""The record of failed tool calls: one small file for each project, which a hook reads before a call is made again.

A line is a key, a keyed hash of the normalised call, and what to show about the failure. Imports little: a hook has
milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import os

from ctxmem_mcp.capture import project_files
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.private_files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import Any

FOLDER = "failed_calls"
# A project's newest failures.
RECORDS_MAX = 500
_KEY_BYTES = 12
_CHANGES_FOLDER = lazy_regex(r"\A(?:cd\s+\S+\s*(?:&&|;|\n)\s*)+")
_CUT_OUTPUT = lazy_regex(r"(?:\s*\|\s*(?:tail|head)(?:\s+-\S+(?:\s+\d+)?)*|\s*2>&1)+\s*\Z")
_TEMPORARY = lazy_regex(r"(?:/private)?/(?:tmp|var/folders)/[^\s'\"]*")
_LINE_NUMBER = lazy_regex(r"(?<=\w):\d+(?::\d+)?\b")


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
    return project_files.load_secret(os.path.join(data_dir, FOLDER), create=create)


def find(data_dir: str, cwd: str, key: str) -> FailedCall | None:
    """Returns the failure of a call in the project of a folder; None if none is recorded."""
    try:
        record = read_file(_path(data_dir, cwd))
    except OSError:
        return None
    _, found, rest = f"\n{record.decode('utf-8', 'replace')}".partition(f"\n{key} ")
    return next(_parse(f"{key} {rest.partition(chr(10))[0]}"), None) if found else None


def update(data_dir: str, cwd: str, failed: Iterable[FailedCall], succeeded: Collection[str]) -> None:
    """Adds failures to a project's record, and removes those of calls that succeeded since.

    The caller holds the spool's lock: two writers at once would lose lines.

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
    for path in project_files.paths_in(os.path.join(data_dir, FOLDER)):
        calls = _read(path)
        kept = [call for call in calls if not is_gone(call)]
        if len(kept) < len(calls):
            _write(path, kept)


def _path(data_dir: str, cwd: str) -> str:
    return project_files.path_of(os.path.join(data_dir, FOLDER), cwd)


def _read(path: str) -> list[FailedCall]:
    return [call for line in project_files.read_lines(path) for call in _parse(line)]


def _parse(line: str) -> Iterator[FailedCall]:
    key, _, fields = line.partition(" ")
    try:
        yield FailedCall(key, *json.loads(fields))
    except (ValueError, TypeError):  # another version's
        return


def _write(path: str, calls: list[FailedCall]) -> None:
    project_files.write_lines(path, (call.line for call in calls))
