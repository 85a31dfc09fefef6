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
from ctxmem_mcp.install.config_edits import Part
from ctxmem_mcp.install.errors import Unfit
from ctxmem_mcp.install.server_entry import Ours

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
    keeps: bool = True

    def diff(self) -> str:
        """The change as a unified diff."""
        old, new = ("(no file)" if text is None else str(self.path) for text in (self.before, self.after))
        lines = difflib.unified_diff(_lines(self.before), _lines(self.after), old, new, n=2, lineterm="")
        return "\n".join(_shortened(list(lines)))


def _lines(text: str | None) -> list[str]:
    """The lines without their ends; of a last one that has none, with a word on it."""
    lines = (text or "").split("\n")
    ended = lines[-1] == ""
    lines = lines[:-1] if ended else [*lines[:-1], f"{lines[-1]} (no line end)"]
    return [line.rstrip("\r") for line in lines]


def _shortened(diff: Sequence[str]) -> Iterator[str]:
    """A diff with its long lines cut; one that stands beside its other version, to where the two differ."""
    for i, line in enumerate(diff):
        if len(line) <= _LINE_SHOWN:
            yield line
            continue
        beside = diff[i + 1 : i + 2] if line[0] == "-" else diff[i - 1 : i] if line[0] == "+" else []
        other = next((one for one in beside if one[0] == {"-": "+", "+": "-"}[line[0]]), None)
        start, stop = (1, _LINE_SHOWN) if other is None else _differing(line, other)
        yield f"{line[0]}{'...' if start > 1 else ''}{line[start:stop]}{'...' if stop < len(line) else ''}"


def _differing(line: str, other: str) -> tuple[int, int]:
    """From where to where to show a line of a diff, to see in what it differs from the other."""
    alike = _alike(line[1:], other[1:])
    alike_behind = _alike(line[:alike:-1], other[:alike:-1])
    start = max(1, 1 + alike - _AROUND)
    return start, min(len(line) - alike_behind + _AROUND, start + _CHANGE_SHOWN)


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def to_install(parts: Sequence[Part], ours: Ours) -> list[Change]:
    """What has to change for these parts to be as they are to be; nothing where they are. Raises ConfigRefused."""
    ours = replace(ours, data_dir=ours.data_dir or _folder(parts))
    planned = [(part, _read(part)) for part in parts]
    changes = [Change(part.path, text, _put(part, text, ours), part.mode) for part, text in planned]
    return _allowed(changes)


def to_uninstall(parts: Sequence[Part]) -> list[Change]:
    """What has to change for these parts to be gone. Raises ConfigRefused."""
    changes = []
    for part in parts:
        text = _read(part)
        if text is None:
            continue
        try:
            before = restore.undone(part, text, config_files.backups(part.path))
            exact = before is not None and restore.is_exact(part, text, before)
        except Unfit as error:
            raise ConfigRefused(str(part.path), str(error)) from error
        changes.append(Change(part.path, text, before, part.mode, keeps=before is not None and not exact))
    return _allowed(changes)


def _allowed(changes: Sequence[Change]) -> list[Change]:
    """Those that change something. Replacing a file needs no right to write to it, but who took that right away from a
    config does not want it written. Raises ConfigRefused."""
    real = [change for change in changes if change.after != change.before]
    for change in real:
        if config_files.is_protected(change.path):
            raise ConfigRefused(str(change.path), "is read-only", "Make it writable, then run this again.")
    return real


def carry_out(change: Change, now: datetime) -> Path | None:
    """Makes the change; gives where the file was kept. Raises ConfigRefused where somebody else was faster."""
    path = change.path
    try:
        if config_files.read(path) != change.before:
            raise ConfigRefused(str(path), "was changed by somebody else meanwhile", "Run it again.")
        kept = config_files.keep(path, now) if change.before is not None and change.keeps else None
        if change.after is None:
            config_files.remove(path)
        else:
            config_files.replace(path, change.after, change.mode)
    except (OSError, UnicodeEncodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigRefused(str(path), f"can't be written: {why}") from error
    return kept


def _read(part: Part) -> str | None:
    try:
        return config_files.read(part.path)
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
            if (folder := part.folder(config_files.read(part.path))) is not None:
                return folder
    return None
