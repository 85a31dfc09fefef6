"""Reads agents' files, keeps copies of them beside them, and replaces them in one step.

A replaced file keeps its permissions. If the path is a link, the file that it leads to is replaced.
"""

from __future__ import annotations

import os
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from ctxmem_mcp.install.errors import CannotEdit

_MARK = ".ctxmem-"
_ENDING = ".bak"
_PRIVATE = 0o600


def read(path: Path) -> str | None:
    """Returns a file's text with its line ends unchanged; None if there is no file.

    Raises:
        CannotEdit: it is not UTF-8 or can't be read.
    """
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as error:
        raise CannotEdit("is not UTF-8") from error
    except OSError as error:
        raise CannotEdit(f"can't be read: {error.strerror}") from error


def is_read_only(path: Path) -> bool:
    """Whether the file exists and nobody has permission to write to it."""
    return path.exists() and not path.stat().st_mode & 0o222


def read_backups(path: Path) -> list[str]:
    """Returns the texts of a file's copies, newest first. Unreadable copies are skipped."""
    kept = sorted(path.parent.glob(f"{_escape_glob(path.name)}{_MARK}*{_ENDING}"), reverse=True)
    texts: list[str] = []
    for one in kept:
        with suppress(CannotEdit):
            texts.append(read(one) or "")
    return texts


def back_up(path: Path, now: datetime) -> Path:
    """Copies a file beside itself, with its permissions; returns the copy's path.

    Raises:
        OSError: the copy can't be written.
    """
    content, mode = path.read_bytes(), path.stat().st_mode & 0o777
    for again in range(100):
        stamp = now.strftime("%Y%m%d-%H%M%S") + (f"-{again:02}" if again else "")
        copy = path.with_name(f"{path.name}{_MARK}{stamp}{_ENDING}")
        with suppress(FileExistsError):
            _write(copy, content, mode)
            return copy
    raise FileExistsError(f"{path.name}{_MARK}... in {path.parent}")


def replace(path: Path, text: str, mode: int) -> None:
    """Replaces a file's text in one step, or creates the file.

    Args:
        path: the file, or a link to it.
        text: the new text.
        mode: the permissions of a new file, before the umask.

    Raises:
        OSError: the file can't be written; it is unchanged.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    present = target.stat().st_mode & 0o777 if target.exists() else None
    new = target.with_name(f".{target.name}{_MARK}{os.getpid()}.tmp")
    try:
        _write(new, text.encode("utf-8"), mode if present is None else _PRIVATE)
        if present is not None:
            new.chmod(present)
        os.replace(new, target)
    finally:
        new.unlink(missing_ok=True)


def remove(path: Path) -> None:
    """Removes a file; of a link, the file that it leads to."""
    Path(os.path.realpath(path)).unlink(missing_ok=True)


def _write(path: Path, content: bytes, mode: int) -> None:
    """Creates a file and syncs it to the disk. Raises FileExistsError."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _escape_glob(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
