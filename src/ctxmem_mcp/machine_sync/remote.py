"""A shared folder, on this machine or behind SSH: small operations on files with plain names."""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from ctxmem_mcp.errors import InvalidArgument, StoreUnavailable
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.private_files import create_folder, is_regular, open_new, read_file

SCHEME = "ssh://"
# The names of the files that a sync writes; it ignores others. No character in them is special to a shell.
_NAME = lazy_regex(r"[a-z0-9][a-z0-9.-]{0,127}")
_UNFINISHED = ".aside"


class Remote(Protocol):
    """A folder of files. Writing a file replaces it in one step."""

    def list_names(self) -> set[str]:
        """Returns the names of its files. Creates the folder if it is missing."""
        ...

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Returns these files' bytes by name. Those that are gone are left out."""
        ...

    def write(self, files: Mapping[str, bytes]) -> None:
        """Writes files."""
        ...

    def create(self, name: str, raw: bytes) -> bool:
        """Writes a file unless there is one of this name. Returns whether it was written."""
        ...

    def remove(self, names: Iterable[str]) -> None:
        """Removes files. Those that are gone already are ignored."""
        ...


def open_remote(target: str) -> Remote:
    """Returns the folder at a path or an address.

    Raises:
        InvalidArgument: The address is malformed.
    """
    if not target.startswith(SCHEME):
        return FolderRemote(Path(target).expanduser().absolute())
    parts = urlsplit(target)
    path = unquote(parts.path).removeprefix("/~/")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if not parts.hostname or parts.hostname.startswith("-") or not path.strip("/") or port == -1:
        raise InvalidArgument(
            "TARGET", f"is no address of a folder: {target}", "Write ssh://HOST/DIR, or ssh://HOST/~/DIR in your home."
        )
    host = f"{parts.username}@{parts.hostname}" if parts.username else parts.hostname
    return SshRemote(host, path, port)


class FolderRemote:
    """A folder that this machine mounts: a share, a disk, or one that another program synchronises."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def check_apart(self, data_dir: Path) -> None:
        """Raises InvalidArgument if the folder is in the data folder, or contains it."""
        folder, data_dir = Path(os.path.realpath(self._folder)), Path(os.path.realpath(data_dir))
        if folder.is_relative_to(data_dir) or data_dir.is_relative_to(folder):
            raise InvalidArgument(
                f"TARGET {folder}", "is in the data folder, or contains it", "Name a folder elsewhere."
            )

    def list_names(self) -> set[str]:
        try:
            create_folder(self._folder)
            return {name for name in os.listdir(self._folder) if _is_ours(name) and is_regular(self._folder / name)}
        except OSError as error:
            raise self._unavailable(error) from error

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        found = {}
        for name in names:
            try:
                found[name] = read_file(self._folder / name)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._unavailable(error) from error
        return found

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, raw in files.items():
            try:
                unfinished = self._write_aside(name, raw)
                os.replace(unfinished, self._folder / name)
            except OSError as error:
                raise self._unavailable(error) from error

    def create(self, name: str, raw: bytes) -> bool:
        try:
            unfinished = self._write_aside(name, raw)
            try:
                os.link(unfinished, self._folder / name)
            except FileExistsError:
                return False
            finally:
                unfinished.unlink()
        except OSError as error:
            raise self._unavailable(error) from error
        return True

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._folder / name).unlink(missing_ok=True)

    def _write_aside(self, name: str, raw: bytes) -> Path:
        unfinished = self._folder / f"{name}.{os.urandom(4).hex()}{_UNFINISHED}"
        with os.fdopen(open_new(unfinished), "wb") as file:
            file.write(raw)
            file.flush()
            os.fsync(file.fileno())
        return unfinished

    def _unavailable(self, error: OSError) -> StoreUnavailable:
        return StoreUnavailable(f"{self._folder} can't be used: {error.strerror}.", "Check the folder, and sync again.")


class SshRemote:
    """A folder on another machine, through the `ssh` of this one, and `sh` and `tar` there."""

    def __init__(self, host: str, folder: str, port: int | None = None) -> None:
        """folder: Absolute, or relative to the home folder there."""
        self._host, self._folder = host, shlex.quote(folder)
        self._command = ["ssh", *(["-p", str(port)] if port else []), "--", host]

    def list_names(self) -> set[str]:
        listed = self._run(f"mkdir -p {self._folder} && cd {self._folder} && ls -1")
        return {name for name in listed.decode("utf-8", "replace").splitlines() if _is_ours(name)}

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        if not names:
            return {}
        # A file that another machine has just removed is left out.
        wanted = " ".join(names)
        packed = self._run(
            f'cd {self._folder} && set --; for f in {wanted}; do [ -f "$f" ] && set -- "$@" "$f"; done; '
            '[ $# -eq 0 ] || tar -cf - -- "$@"'
        )
        if not packed:
            return {}
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            members = ((member.name, archive.extractfile(member)) for member in archive if member.isfile())
            return {name: file.read() for name, file in members if file is not None and name in names}

    def write(self, files: Mapping[str, bytes]) -> None:
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for name, raw in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(raw), 0o600
                archive.addfile(entry, io.BytesIO(raw))
        aside = f"{os.urandom(4).hex()}{_UNFINISHED}"
        self._run(
            f"cd {self._folder} && mkdir {aside} && tar -xf - -C {aside} && mv -f {aside}/* . && rmdir {aside}",
            packed.getvalue(),
        )

    def create(self, name: str, raw: bytes) -> bool:
        aside = f"{name}.{os.urandom(4).hex()}{_UNFINISHED}"
        done = self._run(
            f"cd {self._folder} && umask 077 && cat > {aside} && "
            f"{{ ln {aside} {name} 2>/dev/null && echo created; rm -f {aside}; }}",
            raw,
        )
        return done.strip() == b"created"

    def remove(self, names: Iterable[str]) -> None:
        if names := list(names):
            self._run(f"cd {self._folder} && rm -f -- {' '.join(names)}")

    def _run(self, command: str, sent: bytes = b"") -> bytes:
        try:
            done = subprocess.run([*self._command, command], input=sent, stdout=subprocess.PIPE, check=False)
        except OSError as error:
            raise StoreUnavailable(f"ssh can't be run: {error.strerror}.", "Install an SSH client.") from error
        if done.returncode:
            raise StoreUnavailable(
                f"ssh {self._host} failed with exit code {done.returncode}.",
                "Check that `ssh` reaches it, and sync again.",
            )
        return done.stdout


def _is_ours(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not name.endswith(_UNFINISHED)
