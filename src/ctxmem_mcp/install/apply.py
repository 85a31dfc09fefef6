"""Planning what is to change in which file, showing it, and doing it.

A plan is made of an agent as a whole: where one of its files can't be edited, none is touched.
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
from ctxmem_mcp.install.server_entry import ServerCommand

# A config may be one line of a megabyte. A person is shown so much of a line that stays, and of one that changes the
# change itself, up to so much, with a little before and behind it.
_LINE_SHOWN, _CHANGE_SHOWN, _AROUND = 300, 4000, 60


@dataclass(frozen=True, slots=True)
class Change:
    """A file's text as it is and as it is to be (None: no file). `keeps`: whether a copy of it has to be kept."""

    path: Path
    before: str | None
    after: str | None
    mode: int = 0o666
    backs_up: bool = True

    def diff(self) -> str:
        """The change as a unified diff."""
        old, new = ("(no file)" if text is None else str(self.path) for text in (self.before, self.after))
        lines = difflib.unified_diff(_lines(self.before), _lines(self.after), old, new, n=2, lineterm="")
        return "\n".join(_shorten(list(lines)))


def _lines(text: str | None) -> list[str]:
    """The lines without their ends; of a last one that has none, with a word on it."""
    lines = (text or "").split("\n")
    ended = lines[-1] == ""
    lines = lines[:-1] if ended else [*lines[:-1], f"{lines[-1]} (no line end)"]
    return [line.rstrip("\r") for line in lines]


def _shorten(diff: Sequence[str]) -> Iterator[str]:
    """A diff with its long lines cut; one that stands beside its other version, to where the two differ."""
    for i, line in enumerate(diff):
        if len(line) <= _LINE_SHOWN:
            yield line
            continue
        beside = diff[i + 1 : i + 2] if line[0] == "-" else diff[i - 1 : i] if line[0] == "+" else []
        other = next((one for one in beside if one[0] == {"-": "+", "+": "-"}[line[0]]), None)
        start, stop = (1, _LINE_SHOWN) if other is None else _difference_span(line, other)
        yield f"{line[0]}{'...' if start > 1 else ''}{line[start:stop]}{'...' if stop < len(line) else ''}"


def _difference_span(line: str, other: str) -> tuple[int, int]:
    """From where to where to show a line of a diff, to see in what it differs from the other."""
    prefix = _common_prefix(line[1:], other[1:])
    suffix = _common_prefix(line[:prefix:-1], other[:prefix:-1])
    start = max(1, 1 + prefix - _AROUND)
    return start, min(len(line) - suffix + _AROUND, start + _CHANGE_SHOWN)


def _common_prefix(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def plan_install(edits: Sequence[ConfigEdit], server: ServerCommand) -> list[Change]:
    """What has to change for these parts to be as they are to be; nothing where they are. Raises ConfigRefused."""
    server = replace(server, data_dir=server.data_dir or _registered_data_dir(edits))
    planned = [(edit, _read(edit)) for edit in edits]
    changes = [Change(edit.path, text, _put(edit, text, server), edit.mode) for edit, text in planned]
    return _real_changes(changes)


def plan_uninstall(edits: Sequence[ConfigEdit]) -> list[Change]:
    """What has to change for these parts to be gone. Raises ConfigRefused."""
    changes = []
    for edit in edits:
        text = _read(edit)
        if text is None:
            continue
        try:
            before = restore.original_text(edit, text, config_files.read_backups(edit.path))
            exact = before is not None and restore.is_exact(edit, text, before)
        except CannotEdit as error:
            raise ConfigRefused(str(edit.path), str(error)) from error
        changes.append(Change(edit.path, text, before, edit.mode, backs_up=before is not None and not exact))
    return _real_changes(changes)


def _real_changes(changes: Sequence[Change]) -> list[Change]:
    """Those that change something. Replacing a file needs no right to write to it, but who took that right away from a
    config does not want it written. Raises ConfigRefused."""
    real = [change for change in changes if change.after != change.before]
    for change in real:
        if config_files.is_read_only(change.path):
            raise ConfigRefused(str(change.path), "is read-only", "Make it writable, then run this again.")
    return real


def apply_change(change: Change, now: datetime) -> Path | None:
    """Makes the change; gives where the file was kept. Raises ConfigRefused where somebody else was faster."""
    path = change.path
    try:
        if config_files.read(path) != change.before:
            raise ConfigRefused(str(path), "was changed by somebody else meanwhile", "Run it again.")
        kept = config_files.back_up(path, now) if change.before is not None and change.backs_up else None
        if change.after is None:
            config_files.remove(path)
        else:
            config_files.replace(path, change.after, change.mode)
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigRefused(str(path), f"can't be written: {why}") from error
    return kept


def _read(edit: ConfigEdit) -> str | None:
    try:
        return config_files.read(edit.path)
    except CannotEdit as error:
        raise ConfigRefused(str(edit.path), str(error)) from error


def _put(edit: ConfigEdit, text: str | None, server: ServerCommand) -> str:
    try:
        return edit.put(text, server)
    except CannotEdit as error:
        raise ConfigRefused(str(edit.path), str(error)) from error


def _registered_data_dir(edits: Sequence[ConfigEdit]) -> str | None:
    """The data folder that the registered server uses: whoever brings it up to date does not mean another memory."""
    for edit in edits:
        with suppress(CannotEdit):
            if (folder := edit.data_dir(config_files.read(edit.path))) is not None:
                return folder
    return None
