"""Copies a data folder to another folder, which is a data folder too: `--data-dir` opens it.

Each conversation's file is copied as of its last commit, while agents go on writing; its hashes are verified before it
replaces the older copy. A file that has not changed is not written again. backup.json in the folder says which folder
was copied, and of each file in which state it was and what was written.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ctxmem_mcp.composition import open_folder
from ctxmem_mcp.errors import BrokenHistory, CtxmemError, InvalidArgument
from ctxmem_mcp.private_files import (
    OWN_FILES,
    OWN_FOLDERS,
    PRINCIPALS,
    REDACTIONS,
    SYNC,
    TEAM,
    create_folder,
    is_regular,
    open_new,
    read_file,
)
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, SUFFIX, fingerprint, with_side_files
from ctxmem_mcp.stores.sqlite.snapshot import read_conversation_file, read_database

RECORD_FILE = "backup.json"
_CATALOG = "catalog.db"
# Caches, which are made again from the conversations.
_CACHES = (_CATALOG, "search.db")
# Events of agents' hooks, which are not a part of any conversation yet, redactions in progress, and
# what only the machine itself knows of shared folders.
_LEFT_OUT = ("spool", "unrecognised", REDACTIONS, SYNC)
_DATABASES = (".db", ".sqlite3")
_UNFINISHED = ".unfinished"
_Record = dict[str, Any]


@dataclass(slots=True)
class BackupResult:
    """What a backup did.

    Attributes:
        written: conversations' files that were new or had changed.
        unchanged: those that are in the backup already.
        removed: those that were forgotten or have expired since the last backup, and were removed from it.
        kept: those that would have been removed.
        failed: files that were not backed up, each with the reason. The backup keeps its older copies.
    """

    written: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


async def backup(data_dir: Path, target: Path, *, keep_forgotten: bool = False) -> BackupResult:
    """Backs up a data folder with those of its principals.

    Args:
        data_dir: the folder to back up. Other processes may use it meanwhile.
        target: the backup. Nobody may use it as a data folder meanwhile.
        keep_forgotten: keep what was forgotten or has expired since the last backup.

    Raises:
        InvalidArgument: the target is the data folder itself, another folder's backup, or no backup.
        OSError: the target can't be written.
    """
    check_folders(data_dir, target)
    result = BackupResult()
    for source, copy in _folders(data_dir, target):
        await _FolderBackup(source, copy, keep_forgotten, result).run()
    return result


def check_folders(data_dir: Path, target: Path) -> None:
    """Checks a backup's folders. To be called before a memory is opened, which would create a missing data folder: of a
    folder that is not mounted, everything would count as forgotten.

    Raises:
        InvalidArgument: the target is in the data folder or contains it, or there is no data folder.
    """
    data_dir, target = Path(os.path.realpath(data_dir)), Path(os.path.realpath(target))
    if target.is_relative_to(data_dir) or data_dir.is_relative_to(target):
        raise InvalidArgument(f"DIR {target}", "is in the data folder, or contains it", "Name a folder elsewhere.")
    if not any((data_dir / name).exists() for name in (FOLDER, PRINCIPALS, TEAM)):
        raise InvalidArgument("--data-dir", f"{data_dir} holds no conversations", "Name the folder to back up.")


def _folders(data_dir: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    data_dir, target = Path(os.path.realpath(data_dir)), Path(os.path.realpath(target))
    yield data_dir, target
    if (data_dir / PRINCIPALS).is_dir():
        for folder in sorted((data_dir / PRINCIPALS).iterdir()):
            if folder.is_dir():
                yield folder, target / PRINCIPALS / folder.name


class _FolderBackup:
    """The backup of one data folder."""

    def __init__(self, source: Path, target: Path, keep_forgotten: bool, result: BackupResult) -> None:
        self._source, self._target, self._keep, self._result = source, target, keep_forgotten, result
        self._files = self._load_record()

    async def run(self) -> None:
        create_folder(self._target / FOLDER)
        self._save_record()
        present = set()
        for path in self._conversation_files():
            try:
                if await self._back_up(path):
                    present.add(path.name)
            except CtxmemError as error:
                self._result.failed[str(path)] = str(error)
                present.add(path.name)
        for name in sorted(set(self._files) - present):
            self._remove(name)
        self._mirror_records()

    def _conversation_files(self) -> list[Path]:
        return sorted((self._source / FOLDER).glob(f"*{SUFFIX}"))

    async def _back_up(self, path: Path) -> bool:
        """Returns whether there is such a conversation."""
        seen, known, copy = fingerprint(path), self._files.get(path.name), self._target / FOLDER / path.name
        state = _state_of(copy)
        if state is not None and (known is None or state not in (known["state"], known["before"])):
            raise InvalidArgument(
                str(copy), "was changed since the last backup", "Move it elsewhere, and it is written again."
            )
        if known is None or state != known["state"] or known["seen"] != seen:
            raw = read_conversation_file(path, self._source / _CATALOG)
            if raw is None:
                return False
            digest = hashlib.sha256(raw).hexdigest()
            if known is None or state != known["state"] or known["digest"] != digest:
                await self._write_verified(copy, raw, {"seen": seen, "digest": digest})
                self._result.written.append(path.name)
                return True
            known["seen"] = seen
            self._save_record()
        self._result.unchanged.append(path.name)
        return True

    async def _write_verified(self, copy: Path, raw: bytes, record: _Record) -> None:
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self._target) as folder:
            written = Path(folder) / FOLDER / copy.name
            create_folder(written.parent)
            _write(written, raw)
            await _verify(Path(folder))
            _sync(written)
            # Recorded first: after a kill in between, the copy is in one of the two states.
            self._files[copy.name] = {**record, "state": _state_of(written), "before": _state_of(copy)}
            self._save_record()
            os.replace(written, copy)
            _sync(copy.parent)

    def _remove(self, name: str) -> None:
        """Removes the copy of a conversation that the source no longer has."""
        if self._keep:
            self._result.kept.append(name)
            return
        for file in with_side_files(self._target / FOLDER / name):
            file.unlink(missing_ok=True)
        del self._files[name]
        # They name the conversation, and are only caches.
        for file in [one for cache in _CACHES for one in with_side_files(self._target / cache)]:
            file.unlink(missing_ok=True)
        self._save_record()
        self._result.removed.append(name)

    def _mirror_records(self) -> None:
        """Copies the small files beside the conversations; those that are gone are removed."""
        names = {path.name for path in self._source.iterdir()}
        for name in sorted(name for name in names if name.startswith(OWN_FILES) and _is_record(name)):
            self._copy(self._source / name, self._target / name)
        for kind in OWN_FOLDERS:
            if kind not in (FOLDER, *_LEFT_OUT) and kind in names:
                self._mirror_folder(self._source / kind, self._target / kind)

    def _mirror_folder(self, source: Path, target: Path) -> None:
        create_folder(target)
        names = {path.name for path in source.glob("*.json")}
        for name in sorted(names):
            self._copy(source / name, target / name)
        if not self._keep:
            for path in target.glob("*.json"):
                if path.name not in names:
                    path.unlink()

    def _copy(self, source: Path, target: Path) -> None:
        if not is_regular(source):
            return
        try:
            raw = read_database(source) if source.suffix in _DATABASES else read_file(source)
        except CtxmemError as error:
            self._result.failed[str(source)] = str(error)
            return
        except FileNotFoundError:
            return
        if not (is_regular(target) and read_file(target) == raw):
            _replace(target, raw)

    def _load_record(self) -> dict[str, _Record]:
        try:
            record = json.loads(read_file(self._target / RECORD_FILE))
            source, files = record["source"], dict(record["files"])
        except FileNotFoundError:
            if self._target.exists() and any(self._target.iterdir()):
                raise InvalidArgument(
                    f"DIR {self._target}", "is not empty and no backup", "Name a new or empty folder."
                ) from None
            return {}
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidArgument(
                f"DIR {self._target}", f"has an unreadable {RECORD_FILE}", "Back up to a new folder."
            ) from error
        if source != str(self._source):
            raise InvalidArgument(f"DIR {self._target}", f"is a backup of {source}", "Name another folder.")
        return files

    def _save_record(self) -> None:
        record = {"source": str(self._source), "files": self._files}
        _replace(self._target / RECORD_FILE, json.dumps(record, indent=1).encode())


async def _verify(folder: Path) -> None:
    """Recomputes every hash of the one conversation in a folder.

    Raises:
        CtxmemError: it is damaged.
    """
    async with open_folder(folder) as memory:
        page = await memory.conversations()
        if not page.conversations:
            raise BrokenHistory(next(iter(page.unreadable.values()), "It can't be read."))
        (info,) = page.conversations
        faults = await memory.verify(info.conversation_id)
    if faults:
        conversation_id = info.conversation_id
        raise BrokenHistory(
            f"Conversation {conversation_id!r} is damaged, and was not backed up: {faults[0]}.",
            f"Run ctxmem-mcp repair {conversation_id}.",
        )


def _is_record(name: str) -> bool:
    return not name.startswith((*_CACHES, RECORD_FILE)) and not name.endswith(("-wal", "-shm", "-journal", ".aside"))


def _state_of(file: Path) -> list[int] | None:
    """The size and time of a file, as JSON returns them; None if there is none."""
    try:
        stat = os.lstat(file)
    except FileNotFoundError:
        return None
    return [stat.st_size, stat.st_mtime_ns]


def _replace(path: Path, raw: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.aside")
    unfinished.unlink(missing_ok=True)
    _write(unfinished, raw)
    os.replace(unfinished, path)


def _write(path: Path, raw: bytes) -> None:
    with os.fdopen(open_new(path), "wb") as file:
        file.write(raw)
        file.flush()
        os.fsync(file.fileno())


def _sync(path: Path) -> None:
    """Makes a file, or the names in a folder, durable; Windows can't sync folders."""
    if path.is_file() or hasattr(os, "O_DIRECTORY"):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
