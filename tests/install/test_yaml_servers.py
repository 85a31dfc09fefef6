"""Goose's config file in the forms that people and Goose itself write."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    ],
)
def test_a_file_that_cant_be_edited_safely_is_refused(text: str) -> None:
    with pytest.raises(CannotEdit):
        EDIT.put(text, SERVER)
