"""Small files for the hooks, one for each project, with the secret that keys the hashes in them.

Imports little: a hook has milliseconds.
"""

from __future__ import annotations

import hashlib
import os

from ctxmem_mcp.private_files import create_folder, open_new, read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SECRET, _SECRET_BYTES, _NAME_BYTES = "key", 32, 12
_GIT = ".git"


def load_secret(folder: str, *, create: bool = False) -> bytes:
    """Returns the secret of a folder's keys; empty if there is none yet, which is then nobody's."""
    path = os.path.join(folder, _SECRET)
    try:
        return read_file(path)
    except OSError:
        if not create:
            return b""
    create_folder(folder)
    try:
        file = open_new(path)
    except FileExistsError:  # another process was faster
        return read_file(path)
    secret = os.urandom(_SECRET_BYTES)
    os.write(file, secret)
    os.close(file)
    return secret


def path_of(folder: str, cwd: str) -> str:
    """Returns the path of the file in a folder for the project that a working folder is in."""
    root = _project_root(cwd).encode("utf-8", "surrogateescape")
    return os.path.join(folder, hashlib.blake2b(root, digest_size=_NAME_BYTES).hexdigest())


def paths_in(folder: str) -> Iterator[str]:
    """Yields the paths of all projects' files in a folder."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name != _SECRET:
            yield os.path.join(folder, name)


def read_lines(path: str) -> list[str]:
    """Returns a file's lines; none if there is no file."""
    try:
        return read_file(path).decode("utf-8", "replace").split("\n")
    except OSError:
        return []


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Replaces a file by one with these lines, which end in line ends themselves."""
    create_folder(os.path.dirname(path))
    unfinished = f"{path}.{os.urandom(4).hex()}"
    file = open_new(unfinished)
    try:
        remaining = memoryview("".join(lines).encode("utf-8", "replace"))
        while remaining:
            remaining = remaining[os.write(file, remaining) :]
    finally:
        os.close(file)
    os.replace(unfinished, path)


def _project_root(cwd: str) -> str:
    """Returns the main folder of the repository that a folder is in; else the folder."""
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
