"""On a terminal no stored character is obeyed: titles, highlights, snippets and turns show it instead."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import cli
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text.visible import visible, visible_json

TITLE, CLEAR, CLIPBOARD, BIDI = "\x1b]0;owned\x07", "\x1b[2J\x1b[H", "\x1b]52;c;aGFjaw==\x07", "\u202egnp.exe\u202c"
HOSTILE = f"Error: {TITLE}{CLEAR}{CLIPBOARD}{BIDI} \x9b31m over\rwrite \x08\x0b\x0c\U000e0041 relay failed"
VISIBLE = ("\\x1b]0;owned\\x07", "\\x1b[2J", "\\x1b]52;c;", "\\u202e")
OBEYED = re.compile("[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]|\r(?!\n)")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
COMMANDS = (
    ["list"],
    ["show", "c"],
    ["show", "c", "--titles"],
    ["context", "c", "relay failed"],
    ["search", "relay failed"],
    ["search", "relay failed", "-c", "c"],
    ["expand", "c", "t0"],
    ["hand-off", "c"],
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("terminal") / "data"

    async def fill() -> None:
        turns = [NewTurn("user", f"{HOSTILE} {i}", name=f"n{TITLE}") for i in range(3)]
        turns += [NewTurn("tool", f"Traceback\nValueError: {HOSTILE}", name="run"), NewTurn("assistant", HOSTILE)]
        async with open_memory(Settings(data_dir=folder, durability="normal")) as memory:
            await memory.sync(turns * 8, conversation_id="c")

    anyio.run(fill)
    return folder


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Stdout is a pseudo-terminal inside the block; afterwards the list has what it got."""
    master, slave = pty.openpty()
    read: list[bytes] = []

    def follow() -> None:
        while True:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # the other end is closed
                return
            if not part:
                return
            read.append(part)

    reader = threading.Thread(target=follow)
    reader.start()
    with monkeypatch.context() as patch, os.fdopen(slave, "w", encoding="utf-8") as stdout:
        patch.setattr(sys, "stdout", stdout)
        patch.setenv("TERM", "xterm-256color")
        patch.setenv("COLUMNS", "160")
        assert stdout.isatty()
        yield read
    reader.join()
    os.close(master)


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_terminal_gets_no_stored_control_character(
    data: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], as_json: bool
) -> None:
    with terminal(monkeypatch) as read:
        assert cli.run(["--data-dir", str(data), *command, *(["--json"] if as_json else [])]) == 0
    text = b"".join(read).decode().replace("\r\n", "\n")
    assert OBEYED.findall(COLOUR.sub("", text)) == []
    if as_json:
        json.loads(text)
    elif command[0] == "search":  # a title has none, and a snippet only some of the text
        assert "\\U000e0041" in text
    elif command[0] in ("context", "expand"):
        for part in VISIBLE:
            assert part in COLOUR.sub("", text)


@pytest.mark.parametrize("command", [["context", "c", "relay failed"], ["expand", "c", "t0"]], ids=" ".join)
def test_piped_output_is_unchanged(data: Path, capfd: pytest.CaptureFixture[str], command: list[str]) -> None:
    assert cli.run(["--data-dir", str(data), *command]) == 0
    assert HOSTILE in capfd.readouterr().out


def test_the_command_as_a_process_on_a_terminal(data: Path) -> None:
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), "expand", "c", "t0"]
    with subprocess.Popen(command, stdout=slave, stderr=slave, stdin=subprocess.DEVNULL) as process:
        os.close(slave)
        output = b""
        try:
            while part := os.read(master, 1 << 16):
                output += part
        except OSError:
            pass
        assert process.wait(60) == 0
    os.close(master)
    assert b"\\x1b]0;owned" in output
    assert OBEYED.findall(output.decode().replace("\r\n", "\n")) == []


@given(st.text() | st.text("a\u200d\u200b\u2028\x9f\u0645\U0001f525"))
def test_visible_text_has_nothing_to_obey_and_json_keeps_its_value(text: str) -> None:
    assert OBEYED.findall(visible(text)) == []
    assert visible(visible(text)) == visible(text)
    plain = json.dumps(text, ensure_ascii=False)
    assert OBEYED.findall(visible_json(plain)) == []
    assert json.loads(visible_json(plain)) == text


# Signs before numbers in Arabic, Syriac and Kaithi texts: they are shown.
SHOWN_FORMATS = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, 0x110BD, 0x110CD}


def test_every_invisible_format_character_is_shown() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.category(character) == "Cf":
            assert (character in visible(f"pass{character}word")) == (code in SHOWN_FORMATS), hex(code)


@pytest.mark.parametrize(
    "text",
    ["\u2764\ufe0f\u200d\U0001f525", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0915\u094d\u200d\u0937"],
)
def test_joiners_within_words_and_emoji_are_unchanged(text: str) -> None:
    assert visible(text) == text
