"""Editing TOML: everything else is kept, byte for byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.install import toml_edit
from ctxmem_mcp.install.config_edits import TomlServers
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.restore import original_text
from ctxmem_mcp.install.server_entry import ServerCommand
from tests.install.conftest import COMMAND

PART = TomlServers(Path("config.toml"), "mcp_servers", {"startup_timeout_sec": 20})
SERVER = ServerCommand(COMMAND)
NAME = ("mcp_servers", "ctxmem")

_rows = st.sampled_from(
    [
        "# [mcp_servers.ctxmem]", "", "   ", 'a{} = "x" # c', "b{} = '''\n[t]\nx = 1\n'''", 'c{} = """\\\n  "" ] """',
        "d{} = [ # [\n  1,\n  '#', ]", "e{} = {{ x = 1, y = [2] }}", 'f{}."g h" = 1979-05-27T07:32:00Z', "i{} = 1_000",
    ]
)  # fmt: skip
_heads = st.sampled_from(
    ["[t{}]", '[t{}."a.b"]  # c', "[[u{}]]", "[mcp_servers.o{}]", " [ t{} . x ]", "[mcp_servers.o{}.env]"]
)


@st.composite
def texts(draw: st.DrawFn) -> str:
    rows = [row.format(i) for i, row in enumerate(draw(st.lists(_rows | _heads, max_size=12)))]
    eol = draw(st.sampled_from(["\n", "\r\n"]))
    text = "\n".join(rows) + draw(st.sampled_from(["", "\n", "\n\n"]))
    return draw(st.sampled_from(["", "\ufeff"])) + text.replace("\n", eol)


@given(texts())
def test_install_then_uninstall_gives_the_same_bytes(text: str) -> None:
    installed = PART.put(text, SERVER)
    assert PART.put(installed, SERVER) == installed
    assert toml_edit.read(installed)["mcp_servers"]["ctxmem"]["command"] == COMMAND
    assert original_text(PART, installed, [text]) == text
    assert toml_edit.read(original_text(PART, installed, []) or "") == toml_edit.read(text)


@given(texts(), texts())
def test_an_older_entry_between_others_is_updated_in_place(before: str, after: str) -> None:
    entry = (
        '\n["mcp_servers".ctxmem]\nargs = [ "--data-dir",\n  "/d" ] # mine\ncommand = "ctxmem-mcp"\nenabled = true\n'
    )
    text = f"[first]\n{before}{entry}{_renamed(after)}"
    try:
        known: dict[str, Any] = toml_edit.read(text)
    except CannotEdit:  # the two parts don't form a valid file
        return
    installed = PART.put(text, SERVER)
    known["mcp_servers"]["ctxmem"] |= {"command": COMMAND, "args": []}
    assert toml_edit.read(installed) == known
    assert "# mine" in installed
    left = toml_edit.read(PART.remove(installed, prune=True) or "")
    assert "ctxmem" not in left.get("mcp_servers", {})
    assert left["first"] == known["first"]


def _renamed(text: str) -> str:
    rows = text.removeprefix("\ufeff").split("[", 1)
    return f"[second]\n[{rows[1]}" if len(rows) == 2 and not rows[0].strip() else ""


@pytest.mark.parametrize(
    "text",
    [
        'mcp_servers = { ctxmem = { command = "ctxmem-mcp" } }\n',
        '[mcp_servers]\nctxmem = { command = "ctxmem-mcp" }\n',
        '[mcp_servers]\nctxmem.command = "ctxmem-mcp"\n',
    ],
)
def test_an_entry_in_another_form_is_refused_with_the_form_to_use(text: str) -> None:
    message = r"in a form other than a \[mcp_servers\.ctxmem\] table"
    with pytest.raises(CannotEdit, match=message):
        PART.put(text, SERVER)
    with pytest.raises(CannotEdit, match=message):
        PART.remove(text, prune=True)


@pytest.mark.parametrize("text", ["mcp_servers = {}\n", 'mcp_servers = { a = { command = "x" } } # mine\n'])
def test_servers_in_an_inline_table_are_refused_with_the_form_to_use(text: str) -> None:
    with pytest.raises(CannotEdit, match=r"has mcp_servers as an inline table.*\[mcp_servers\.NAME\]"):
        PART.put(text, SERVER)


def test_invalid_toml_is_refused() -> None:
    with pytest.raises(CannotEdit, match=r"is not TOML.*line 1"):
        PART.put("a = \n", SERVER)


def test_a_path_with_backslashes_reads_back() -> None:
    path = 'C:\\Users\\me "x"\\ctxmem-mcp.exe'
    assert toml_edit.read(PART.put(None, ServerCommand(path)))["mcp_servers"]["ctxmem"]["command"] == path
