"""Goose's config file in the forms that people and Goose itself write."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.server_entry import ServerCommand
from ctxmem_mcp.install.yaml_servers import YamlServers

EDIT = YamlServers(Path("config.yaml"), "extensions", {"timeout": 300})
SERVER = ServerCommand("/opt/b/ctxmem-mcp", "/mnt/my memory")
OURS = """\
  ctxmem:
    enabled: true
    type: "stdio"
    name: "ctxmem"
    cmd: "/opt/b/ctxmem-mcp"
    args: ["--data-dir", "/mnt/my memory"]
    timeout: 300
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"extensions:\n{OURS}"),
        ("extensions: {} # none\nGOOSE_MODE: auto\n", f"extensions:\n{OURS}GOOSE_MODE: auto\n"),
        ("GOOSE_MODE: auto", f"GOOSE_MODE: auto\nextensions:\n{OURS}"),
        ("---\nextensions:\n# mine\n", f"---\nextensions:\n{OURS}# mine\n"),
        (
            "extensions:\n    'a b':\n        cmd: x # y\n\nz: |\n  text: {\n",
            "extensions:\n    'a b':\n        cmd: x # y\n"
            + "".join(f"  {line}\n" for line in OURS.splitlines())
            + "\nz: |\n  text: {\n",
        ),
    ],
)
def test_the_server_is_added_after_the_others_and_found(before: str, after: str) -> None:
    text = EDIT.put(before, SERVER)
    assert text == after
    assert EDIT.put(text, SERVER) == text
    (found,) = EDIT.find(text)
    assert (found.where, found.command, found.off) == (
        "ctxmem",
        (SERVER.command, "--data-dir", "/mnt/my memory"),
        False,
    )
    assert EDIT.data_dir(text) == "/mnt/my memory"
    assert EDIT.find(EDIT.remove(text, prune=True)) == []


def test_an_entry_that_goose_wrote_again_is_updated_in_place_and_removed() -> None:
    text = """\
extensions:
  memory:
    enabled: false
    type: stdio
    name: memory
    cmd: /old/ctxmem-mcp
    args:
    - --data-dir
    - '/mnt/it''s mine'
    envs:
      CTXMEM_RETENTION_DAYS: '90'
    timeout: null
  developer:
    enabled: true
"""
    (found,) = EDIT.find(text)
    assert found.command == ("/old/ctxmem-mcp", "--data-dir", "/mnt/it's mine")
    assert (found.environment, found.off) == ({"CTXMEM_RETENTION_DAYS": "90"}, True)
    updated = EDIT.put(text, SERVER)
    assert updated == text.replace("/old/ctxmem-mcp", '"/opt/b/ctxmem-mcp"').replace(
        "    args:\n    - --data-dir\n    - '/mnt/it''s mine'\n", '    args: ["--data-dir", "/mnt/my memory"]\n'
    )
    assert EDIT.remove(updated, prune=True) == "extensions:\n  developer:\n    enabled: true\n"


@pytest.mark.parametrize(
    "text",
    [
        "extensions: {developer: {enabled: true}}\n",
        "extensions: &all\n  a: 1\n",
        "extensions:\n\ta: 1\n",
        "{extensions: 1}\n",
        "extensions:\n  ctxmem:\n    cmd: other\n",
        "extensions:\n  {developer: {enabled: true}}\n",
        "extensions:\n  # mine\n\n  {}\n",
        "extensions:\n  - developer\n",
        "extensions:\n- developer\n",
        "extensions:\n  ? developer\n  : enabled: true\n",
        "extensions:\n  a:\n    cmd: x\n  c#:\n    cmd: y\n",
        "extensions:\n  c#:\n    cmd: y\n",
        "extensions:\n    a:\n      cmd: x\n  b:\n    cmd: y\n",
        "extensions:\n  a:\n    cmd: x\n---\nb: 1\n",
        "extensions:\n  ctxmem:\n    cmd: /old/ctxmem-mcp\n    c#: 1\n    args: []\n",
    ],
)
def test_a_file_that_cant_be_edited_safely_is_refused(text: str) -> None:
    with pytest.raises(CannotEdit):
        EDIT.put(text, SERVER)


@pytest.mark.parametrize("key", ["c#", "a#b", "{x}", "*all"])
def test_an_entry_that_is_not_understood_is_not_removed_with_ours(key: str) -> None:
    text = f"extensions:\n{OURS}  {key}:\n    cmd: other\n"
    with pytest.raises(CannotEdit):
        EDIT.remove(text, prune=True)
    with pytest.raises(CannotEdit):
        EDIT.copy("", text)


@pytest.mark.parametrize("comment", ["# mine", " # mine", "  # mine", "      # mine"])
def test_a_comment_in_our_entry_is_copied_whole(comment: str) -> None:
    lines = OURS.splitlines()
    text = "\n".join(["extensions:", *lines[:2], comment, *lines[2:], ""])
    copied = EDIT.copy("a: 1\nextensions:\n  b:\n    cmd: x\n", text)
    assert copied.startswith("a: 1\nextensions:\n  b:\n    cmd: x\n  ctxmem:\n")
    assert [line.strip() for line in copied.splitlines()[4:]] == [line.strip() for line in text.splitlines()[1:]]
    assert EDIT.find(copied) == EDIT.find(text)


ENTRIES = [
    "  b:\n    cmd: x # y\n", "  'a b':\n    args:\n    - one\n    - ctxmem-mcp\n", "  c:\n", "  d: {enabled: true}\n",
    "  e:\n    text: |\n      # no comment\n      c#:\n\n", "\n", "  # mine\n", "# mine\n", "  c#:\n    cmd: x\n",
    "  {f: 1}\n", "  - g\n", "  h\n",
]  # fmt: skip


@given(st.lists(st.sampled_from(ENTRIES), max_size=5), st.lists(st.sampled_from(ENTRIES), max_size=5))
def test_an_edit_is_refused_or_changes_only_our_entry(before: list[str], after: list[str]) -> None:
    others = "extensions:\n" + "".join([*before, *after]) + "mode: auto\n"
    text = "extensions:\n" + "".join([*before, OURS, *after]) + "mode: auto\n"
    try:
        known = EDIT._servers(others)
        added, removed = EDIT.put(others, SERVER), EDIT.remove(text, prune=False)
    except CannotEdit:
        return
    assert removed is not None
    assert EDIT._servers(added) == known | {"ctxmem": EDIT._servers(f"extensions:\n{OURS}")["ctxmem"]}
    assert EDIT._servers(removed) == known
    assert [line for line in added.splitlines() if line not in OURS.splitlines()] == others.splitlines()
    assert sorted(removed.splitlines()) == sorted(others.splitlines())
