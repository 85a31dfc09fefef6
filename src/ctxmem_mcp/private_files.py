"""Files and folders that only their owner can read, and reading that never blocks.

What is stored here is private, so files get mode 0600 and folders 0700, whatever the umask is. Windows has no such
modes: there the user's profile folder is private already.

An agent's hook imports this module, and a hook has milliseconds: it imports only what an interpreter has loaded.
"""

from __future__ import annotations

import errno
import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_MODE, FOLDER_MODE = 0o600, 0o700
# What this program keeps in a data folder: folders with files of ours only, and the beginnings of files' names.
OWN_FOLDERS = (
    "conversations",
    "followed",
    "compacted",
    "failed_calls",
    "warned",
    "redactions",
    "runs",
    "sessions",
    "spaces",
    "spoken_turns",
    "spool",
    "sync",
    "unrecognised",
)
# Of these, those with the records of redactions that are not done yet, and of folders to sync with.
REDACTIONS, SYNC = "redactions", "sync"
OWN_FILES = (
    "catalog.db",
    "search.db",
    "spending.sqlite3",
    "team.sqlite3",
    "salt",
    "tombstones",
    "forgotten",
    "backup.json",
)
# The file that keys a principal's ids, in its folder; and the file with principals, tokens, spaces and the audit.
SALT, TEAM = "salt", "team.sqlite3"
# A folder with a data folder for each principal.
PRINCIPALS = "principals"
_HAS_MODES = os.name != "nt"


def create_folder(path: str | os.PathLike[str]) -> None:
    """Creates a folder and its missing parents with mode 0700. One that exists is left as it is.

    Raises:
        OSError: It can't be created, or the path is that of a file.
    """
    missing, at = [], os.path.abspath(path)
    while not os.path.isdir(at):
        missing.append(at)
        at = os.path.dirname(at)
    for folder in reversed(missing):
        try:
            os.mkdir(folder, FOLDER_MODE)
        except FileExistsError:  # another process was faster
            if not os.path.isdir(folder):
                raise
        else:
            _set_mode(folder, FOLDER_MODE)


def open_new(path: str | os.PathLike[str]) -> int:
    """Creates a file with mode 0600 and returns its descriptor, opened for writing.

    Raises:
        OSError: It can't be created, or something is at the path already.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), FILE_MODE)
    if _HAS_MODES:
        os.fchmod(file, FILE_MODE)
    return file


def create_empty(path: str | os.PathLike[str]) -> None:
    """Creates an empty file with mode 0600 if nothing is at the path. An error is left to the next open of the file.

    Never closes a descriptor of the file at the path, because this process would lose its locks on that file.
    """
    if os.path.lexists(path):
        return
    unfinished = f"{os.fspath(path)}.{os.urandom(4).hex()}.aside"
    try:
        os.close(open_new(unfinished))
        os.link(unfinished, path)
    except OSError:
        pass
    _unlink(unfinished)


def read_file(path: str | os.PathLike[str], size: int = -1) -> bytes:
    """Returns the bytes of a regular file; size: how many of its first bytes at most.

    Raises:
        OSError: It can't be read, or it is no regular file: reading a pipe or a device may never end.
    """
    # A pipe that is opened without O_NONBLOCK waits for its writer.
    file = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))
        with os.fdopen(file, "rb", closefd=False) as stream:
            return stream.read(size)
    finally:
        os.close(file)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a regular file is at the path, and not a link to one."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def correct_modes(data_dir: str | os.PathLike[str]) -> int:
    """Makes what this program keeps in a data folder private; returns how many files and folders were not.

    The data folder itself is made private too, unless it holds anything else. Files of other users stay as they are.
    """
    if not _HAS_MODES:
        return 0
    corrected = 0
    for path, mode in _own_paths(os.fspath(data_dir)):
        try:
            found = os.lstat(path)
            if found.st_mode & 0o777 == mode or found.st_uid != os.geteuid():
                continue
            if stat.S_ISREG(found.st_mode) if mode == FILE_MODE else stat.S_ISDIR(found.st_mode):
                os.chmod(path, mode)
                corrected += 1
        except OSError:
            continue
    return corrected


def _own_paths(data_dir: str) -> Iterator[tuple[str, int]]:
    """The paths of our files and folders in a data folder, each with the mode that it should have."""
    names = _names(data_dir)
    if all(name in OWN_FOLDERS or name == PRINCIPALS or name.startswith(OWN_FILES) for name in names):
        yield data_dir, FOLDER_MODE
    for name in names:
        path = os.path.join(data_dir, name)
        if name in OWN_FOLDERS:
            yield path, FOLDER_MODE
            yield from ((os.path.join(path, inner), FILE_MODE) for inner in _names(path))
        elif name == PRINCIPALS:
            yield path, FOLDER_MODE
        elif name.startswith(OWN_FILES):
            yield path, FILE_MODE


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


def _set_mode(path: str, mode: int) -> None:
    if _HAS_MODES:
        os.chmod(path, mode)
