"""Which folders are one project: worktrees, moved folders and clones are; a repository inside another is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ctxmem_mcp.projects import Project, find_project, parse_record

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    folder = tmp_path / "shop"
    (folder / "src").mkdir(parents=True)
    git(folder, "init", "-q")
    git(folder, "commit", "-q", "--allow-empty", "-m", "Start")
    return folder


def holds(project: Project, folder: Path, *, captured: Path | None = None) -> bool:
    """captured: where the folder was when its session was captured, if it was."""
    key, root = parse_record(find_project(captured).record()) if captured else (None, None)
    return project.contains(str(folder), key, root)


def test_a_repository_is_a_project_with_all_folders_below_it(shop: Path, tmp_path: Path) -> None:
    for one in (shop, shop / "src"):
        project = find_project(one)
        assert project.folders == (str(shop),)
        assert holds(project, shop / "src")
        assert not holds(project, tmp_path / "shopping")


def test_worktrees_are_one_project(shop: Path, tmp_path: Path) -> None:
    git(shop, "worktree", "add", "-q", str(tmp_path / "feature"))
    for one in (shop, tmp_path / "feature"):
        project = find_project(one)
        assert set(project.folders) == {str(shop), str(tmp_path / "feature")}
        assert project.folders[0] == str(shop)
        assert holds(project, tmp_path / "feature")
        assert holds(project, shop / "src", captured=shop)


def test_a_moved_folder_is_the_same_project(shop: Path, tmp_path: Path) -> None:
    record = find_project(shop / "src").record()
    old = str(shop / "src")
    shop.rename(tmp_path / "store")
    project = find_project(tmp_path / "store")
    assert project.contains(old, *parse_record(record))
    assert not find_project(tmp_path).contains(old, *parse_record(record)), "a repository of its own"


def test_clones_of_a_remote_are_one_project(shop: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    git(shop, "remote", "add", "origin", "git@github.com:ann/shop.git")
    git(other, "remote", "add", "origin", "https://ann:secret@GitHub.com/ann/shop")
    assert find_project(shop).key == find_project(other).key == "github.com/ann/shop"
    assert b"secret" not in find_project(other).record()
    assert holds(find_project(shop), other, captured=other)


def test_a_repository_inside_another_is_a_project_of_its_own(shop: Path) -> None:
    inner = shop / "vendor" / "lib"
    inner.mkdir(parents=True)
    git(inner, "init", "-q")
    git(inner, "commit", "-q", "--allow-empty", "-m", "Another start")
    assert not holds(find_project(shop), inner, captured=inner)
    assert holds(find_project(inner), inner, captured=inner)
    assert not holds(find_project(inner), shop, captured=shop)


def test_a_folder_outside_git_and_a_space_are_projects(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    assert holds(find_project(notes), notes / "deep")
    assert not holds(find_project(notes), tmp_path)
    assert find_project("my space").contains("my space", None, None)
    assert not find_project("my space").contains("my space too", None, None)
    assert not find_project("my space").contains(None, None, None)
