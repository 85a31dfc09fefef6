"""What makes sessions one project: the folder that they share, whatever its path or worktree was.

    find_project("/home/ann/shop/src")     key github.com/ann/shop, folders /home/ann/shop and its worktrees

A git repository is known by its remote, else by its first commit, so it stays the same project when its folder is moved
or cloned again. Other folders are projects by their path.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.patterns import lazy_regex

# Finding the first commit of a long history may take git longer; then the repository is known by its folder.
GIT_SECONDS = 2.0
_GIT = ".git"
_REMOTE = lazy_regex(r'^\[remote "([^"]+)"\]$')
_URL = lazy_regex(r"^(?:[a-z+]+://)?(?:[^@/]*@)?([^:/]+)(?::\d+)?[:/]+(.+?)(?:\.git)?/*$")


@dataclass(frozen=True, slots=True)
class Project:
    """A project.

    Attributes:
        name: As the user named it: a folder, or a space.
        key: The repository's remote or first commit; None if it is none, or has neither.
        folders: The root of the repository and of each of its worktrees; else the folder.
        is_all: It has all conversations.
    """

    name: str
    key: str | None = None
    folders: tuple[str, ...] = ()
    is_all: bool = False

    def contains(self, space: str | None, key: str | None, root: str | None) -> bool:
        """Returns whether a conversation belongs to the project.

        Args:
            space: The conversation's space, which for a session is its folder.
            key: The key of its project when it was captured, if known.
            root: The first folder of that project.
        """
        if self.is_all:
            return True
        if self.key is not None and key == self.key:
            return True
        if key is not None and root is not None and root not in self.folders:
            return space == self.name  # a repository of its own, inside this folder or elsewhere
        return space is not None and (space == self.name or any(_is_below(space, one) for one in self.folders))

    def record(self) -> bytes:
        """Returns what is stored with a conversation."""
        return f"{self.key or ''}\n{self.folders[0] if self.folders else ''}".encode("utf-8", "surrogateescape")


EVERYTHING = Project("all", is_all=True)


def parse_record(record: bytes | None) -> tuple[str | None, str | None]:
    """Returns the key and the root of a project's record."""
    key, _, root = (record or b"").decode("utf-8", "surrogateescape").partition("\n")
    return key or None, root or None


def find_project(folder: str | Path) -> Project:
    """Returns the project that a folder belongs to. The name of a space is a project, too, of that space alone."""
    name = str(folder)
    if not os.path.isabs(name) and not os.path.isdir(name):
        return Project(name)
    here = Path(os.path.abspath(name))
    for one in (here, *here.parents):
        common = _common_folder(one / _GIT)
        if common is not None:
            roots = dict.fromkeys((str(_main_root(common, one)), str(one), *_worktrees(common)))
            return Project(str(here), _remote(common) or _first_commit(one), tuple(roots))
    return Project(str(here), None, (str(here),))


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _common_folder(git: Path) -> Path | None:
    """Returns the folder that all worktrees of a repository share; None if `git` is no repository."""
    if git.is_dir():
        return git if (git / "HEAD").exists() else None
    linked = _read(git).removeprefix("gitdir:").strip()
    if not linked:
        return None
    folder = (git.parent / linked).resolve()
    shared = _read(folder / "commondir").strip()
    return (folder / shared).resolve() if shared else folder


def _main_root(common: Path, root: Path) -> Path:
    return common.parent if common.name == _GIT else root


def _worktrees(common: Path) -> Iterator[str]:
    for linked in sorted(common.glob("worktrees/*/gitdir")):
        if path := _read(linked).strip():
            yield str(Path(path).parent)


def _remote(common: Path) -> str | None:
    """Returns the URL of the remote `origin`, else of the first one, without scheme, user and suffix."""
    found: dict[str, str] = {}
    section = None
    for line in map(str.strip, _read(common / "config").splitlines()):
        if line.startswith("["):
            match = _REMOTE.match(line)
            section = match[1] if match else None
        elif section and line.partition("=")[0].strip() == "url":
            found.setdefault(section, line.partition("=")[2].strip())
    url = found.get("origin") or next(iter(found.values()), "")
    match = _URL.match(url)
    return f"{match[1].lower()}/{match[2].strip('/')}" if match and not os.path.isabs(url) else None


def _first_commit(root: Path) -> str | None:
    command = ["git", "-C", str(root), "rev-list", "--max-parents=0", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.split()[-1] if done.stdout.split() else None


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
