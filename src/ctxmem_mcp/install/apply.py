"""Plans the changes to an agent's files, shows them, and makes them.

All files of an agent are planned together: if one of them can't be edited, none is changed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ctxmem_mcp.errors import ConfigRefused
from ctxmem_mcp.install import config_files, restore
from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.file_edits import FileEdits, group_by_path
from ctxmem_mcp.install.server_entry import ServerCommand

# A config may be a single line of a megabyte. A diff shows this many characters of an unchanged line, and of a changed
# one the change, up to so many, with a little before and after it.
_LINE_CHARS, _CHANGE_CHARS, _AROUND_CHARS = 300, 4000, 60


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change of one file.

    Attributes:
        path: the file.
        before: its text; None if there is no file.
        after: its new text; None if the file is to be removed.
        mode: the permissions of a new file, before the umask.
        backs_up: whether a copy is kept.
    """

    path: Path
    before: str | None
    after: str | None
    mode: int = 0o666
    backs_up: bool = True

    @property
    def size(self) -> str:
        """How many lines the change adds and removes: "+12 -3 lines"."""
        marks = [line[:1] for line in difflib.unified_diff(_lines(self.before), _lines(self.after), n=0)][2:]
        return f"+{marks.count('+')} -{marks.count('-')} lines"

    def diff(self) -> str:
        """Returns the change as a unified diff, with long lines shortened."""
        old, new = ("(no file)" if text is None else str(self.path) for text in (self.before, self.after))
        lines = difflib.unified_diff(_lines(self.before), _lines(self.after), old, new, n=2, lineterm="")
        return "\n".join(_shorten(list(lines)))


def _lines(text: str | None) -> list[str]:
    """The lines without their ends; a last line without one is marked."""
    lines = (text or "").split("\n")
    ended = lines[-1] == ""
    lines = lines[:-1] if ended else [*lines[:-1], f"{lines[-1]} (no line end)"]
    return [line.rstrip("\r") for line in lines]


def _shorten(diff: Sequence[str]) -> Iterator[str]:
    """Cuts a diff's long lines; a changed one to the place where it differs from its other version."""
    for i, line in enumerate(diff):
        if len(line) <= _LINE_CHARS:
            yield line
            continue
        neighbours = diff[i + 1 : i + 2] if line[0] == "-" else diff[i - 1 : i] if line[0] == "+" else []
        other = next((one for one in neighbours if one[0] == {"-": "+", "+": "-"}[line[0]]), None)
        start, stop = (1, _LINE_CHARS) if other is None else _difference_span(line, other)
        yield f"{line[0]}{'...' if start > 1 else ''}{line[start:stop]}{'...' if stop < len(line) else ''}"


def _difference_span(line: str, other: str) -> tuple[int, int]:
    """The range of a diff's line that shows how it differs from the other."""
    prefix = _common_prefix(line[1:], other[1:])
    suffix = _common_prefix(line[:prefix:-1], other[:prefix:-1])
    start = max(1, 1 + prefix - _AROUND_CHARS)
    return start, min(len(line) - suffix + _AROUND_CHARS, start + _CHANGE_CHARS)


def _common_prefix(one: str, other: str) -> int:
    """The length of the two texts' common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def plan_install(edits: Sequence[ConfigEdit], server: ServerCommand) -> list[Change]:
    """Plans what has to change to register the server; nothing if it is registered already.

    Args:
        edits: the edits of one agent.
        server: the command to register. Without a data folder it keeps the one that is registered.

    Raises:
        ConfigRefused: a file can't be edited.
    """
    server = replace(server, data_dir=server.data_dir or _registered_data_dir(edits))
    planned = [(file, _read(file)) for file in group_by_path(edits)]
    changes = [Change(file.path, text, _put(file, text, server), file.mode) for file, text in planned]
    return _real_changes(changes)


def plan_uninstall(edits: Sequence[ConfigEdit]) -> list[Change]:
    """Plans what has to change to remove our entries.

    Raises:
        ConfigRefused: a file can't be edited.
    """
    changes = []
    for file in group_by_path(edits):
        text = _read(file)
        if text is None:
            continue
        try:
            before = restore.original_text(file, text, config_files.read_backups(file.path))
            exact = before is not None and restore.is_exact(file, text, before)
        except CannotEdit as error:
            raise ConfigRefused(str(file.path), str(error)) from error
        changes.append(Change(file.path, text, before, file.mode, backs_up=before is not None and not exact))
    return _real_changes(changes)


def _real_changes(changes: Sequence[Change]) -> list[Change]:
    """Drops the changes that change nothing.

    Refuses a read-only file: replacing it would need no write permission, but the user who removed that permission does
    not want the file written.
    """
    real = [change for change in changes if change.after != change.before]
    for change in real:
        if config_files.is_read_only(change.path):
            raise ConfigRefused(str(change.path), "is read-only", "Make it writable, then run this again.")
    return real


def apply_change(change: Change, now: datetime) -> Path | None:
    """Makes a change.

    Returns:
        The path of the copy; None if no copy was kept.

    Raises:
        ConfigRefused: the file was changed since the plan was made, or can't be written.
    """
    path = change.path
    try:
        if config_files.read(path) != change.before:
            raise ConfigRefused(str(path), "was changed by another program in the meantime", "Run this again.")
        copy = config_files.back_up(path, now) if change.before is not None and change.backs_up else None
        if change.after is None:
            config_files.remove(path)
        else:
            config_files.replace(path, change.after, change.mode)
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigRefused(str(path), f"can't be written: {why}") from error
    return copy


def _read(file: FileEdits) -> str | None:
    try:
        return config_files.read(file.path)
    except CannotEdit as error:
        raise ConfigRefused(str(file.path), str(error)) from error


def _put(file: FileEdits, text: str | None, server: ServerCommand) -> str:
    try:
        return file.put(text, server)
    except CannotEdit as error:
        raise ConfigRefused(str(file.path), str(error)) from error


def _registered_data_dir(edits: Sequence[ConfigEdit]) -> str | None:
    """The data folder that the registered server uses: an update should not switch to another memory."""
    for edit in edits:
        with suppress(CannotEdit):
            if (folder := edit.data_dir(config_files.read(edit.path))) is not None:
                return folder
    return None
