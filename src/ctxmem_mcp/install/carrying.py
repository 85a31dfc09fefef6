"""Planning what is to change in which file, showing it, and doing it.

A plan is made of an agent as a whole: where one of its files can't be edited, none is touched.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ctxmem_mcp.errors import ConfigRefused
from ctxmem_mcp.install import files, undoing
from ctxmem_mcp.install.entries import Ours
from ctxmem_mcp.install.parts import Part
from ctxmem_mcp.install.unfit import Unfit

# A config may be one line of a megabyte; a person is shown so much of a line.
_LINE_SHOWN = 300


@dataclass(frozen=True, slots=True)
class Change:
    """A file's text as it is and as it is to be (None: no file). `keeps`: whether a copy of it has to be kept."""

    path: Path
    before: str | None
    after: str | None
    mode: int = 0o666
    keeps: bool = True

    def diff(self) -> str:
        """The change as a unified diff."""
        old, new = ("(no file)" if text is None else str(self.path) for text in (self.before, self.after))
        lines = difflib.unified_diff(_lines(self.before), _lines(self.after), old, new, n=2, lineterm="")
        return "\n".join(lines)


def _lines(text: str | None) -> list[str]:
    """The lines without their ends; of a last one that has none, with a word on it."""
    lines = (text or "").split("\n")
    ended = lines[-1] == ""
    lines = lines[:-1] if ended else [*lines[:-1], f"{lines[-1]} (no line end)"]
    return [f"{line[:_LINE_SHOWN]}..." if len(line) > _LINE_SHOWN else line for line in (x.rstrip("\r") for x in lines)]


def to_install(parts: Sequence[Part], ours: Ours) -> list[Change]:
    """What has to change for these parts to be as they are to be; nothing where they are. Raises ConfigRefused."""
    ours = replace(ours, data_dir=ours.data_dir or _folder(parts))
    planned = [(part, _read(part)) for part in parts]
    changes = [Change(part.path, text, _put(part, text, ours), part.mode) for part, text in planned]
    return [change for change in changes if change.after != change.before]


def to_uninstall(parts: Sequence[Part]) -> list[Change]:
    """What has to change for these parts to be gone. Raises ConfigRefused."""
    changes = []
    for part in parts:
        text = _read(part)
        if text is None:
            continue
        try:
            before = undoing.undone(part, text, files.backups(part.path))
            exact = before is not None and undoing.is_exact(part, text, before)
        except Unfit as error:
            raise ConfigRefused(str(part.path), str(error)) from error
        changes.append(Change(part.path, text, before, part.mode, keeps=before is not None and not exact))
    return [change for change in changes if change.after != change.before]


def carry_out(change: Change, now: datetime) -> Path | None:
    """Makes the change; gives where the file was kept. Raises ConfigRefused where somebody else was faster."""
    path = change.path
    try:
        if files.read(path) != change.before:
            raise ConfigRefused(str(path), "was changed by somebody else meanwhile", "Run it again.")
        kept = files.keep(path, now) if change.before is not None and change.keeps else None
        if change.after is None:
            files.remove(path)
        else:
            files.replace(path, change.after, change.mode)
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigRefused(str(path), f"can't be written: {why}") from error
    return kept


def _read(part: Part) -> str | None:
    try:
        return files.read(part.path)
    except Unfit as error:
        raise ConfigRefused(str(part.path), str(error)) from error


def _put(part: Part, text: str | None, ours: Ours) -> str:
    try:
        return part.put(text, ours)
    except Unfit as error:
        raise ConfigRefused(str(part.path), str(error)) from error


def _folder(parts: Sequence[Part]) -> str | None:
    """The data folder that the registered server uses: whoever brings it up to date does not mean another memory."""
    for part in parts:
        with suppress(Unfit):
            if (folder := part.folder(files.read(part.path))) is not None:
                return folder
    return None
