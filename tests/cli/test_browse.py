"""`ctxmem-mcp browse` on a real imported session and a hostile one, driven by Textual's own pilot."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList, TextArea, Tree

from ctxmem_mcp import cli
from ctxmem_mcp.cli.browse.app import BrowseApp
from ctxmem_mcp.cli.browse.conversation_screen import ConversationScreen
from ctxmem_mcp.cli.browse.labels import TEXT_CHARS_MAX
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings

pytestmark = pytest.mark.anyio

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.jsonl"
HOSTILE = "[bold red]markup[/] [@click=app.quit]x[/] \x1b]0;owned\x07\x1b[2J \u202egnp.exe"
OBEYED = "\x1b\x07\u202e"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browse") / "data"
    assert cli.run(["--data-dir", str(folder), "import", str(EXAMPLE)]) == 0

    async def add_hostile() -> None:
        async with open_memory(Settings(data_dir=folder, durability="normal")) as memory:
            turns = [NewTurn("user", HOSTILE), NewTurn("assistant", HOSTILE, name=HOSTILE)]
            turns.append(NewTurn("user", HOSTILE + "é" * TEXT_CHARS_MAX))
            await memory.sync(turns, conversation_id="hostile")

    anyio.run(add_hostile)
    return folder


@asynccontextmanager
async def browsing(data: Path, conversation: str | None = None) -> AsyncIterator[tuple[Pilot[None], Memory]]:
    async with open_memory(Settings(data_dir=data), background=False) as memory:
        app = BrowseApp(memory, conversation)
        async with app.run_test(size=(120, 40)) as pilot:
            await pilot.pause()
            yield pilot, memory


async def until(pilot: Pilot[None], is_true: Callable[[], bool]) -> None:
    with anyio.fail_after(60):
        while not is_true():
            await pilot.pause(0.02)


def rows(pilot: Pilot[None]) -> list[str]:
    found = pilot.app.screen.query_one(OptionList)
    return [str(found.get_option_at_index(at).prompt) for at in range(found.option_count)]


def shown(pilot: Pilot[None]) -> str:
    return pilot.app.screen.query_one(TextArea).text


async def test_typing_filters_conversations_and_finds_turns_that_open_in_their_tree(data: Path) -> None:
    async with browsing(data) as (pilot, memory):
        assert len(rows(pilot)) == 2
        await pilot.press(*"tokenizer")
        await until(pilot, lambda: len(rows(pilot)) > 2)
        best = (await memory.search("tokenizer", limit=30)).hits[0]
        at = next(i for i, row in enumerate(rows(pilot)) if best.turn_id in row)
        await pilot.press("enter", *["down"] * at, "enter")
        await until(pilot, lambda: isinstance(pilot.app.screen, ConversationScreen) and best.turn_id in shown(pilot))
        turn = await memory.turn(best.conversation_id, best.turn_id)
        assert shown(pilot).endswith(turn.content)
        tree = pilot.app.screen.query_one("#tree", Tree)
        await until(pilot, lambda: tree.cursor_node is not None and tree.cursor_node.data == turn)
        await pilot.press("escape")
        assert pilot.app.screen.query_one("#search", Input).value == "tokenizer"
        await pilot.press("escape")
        await until(pilot, lambda: len(rows(pilot)) == 2)


async def test_the_tree_opens_down_to_the_words_of_a_turn_with_keys_alone(data: Path) -> None:
    async with browsing(data) as (pilot, memory):
        (example,) = [one for one in await memory.all_conversations() if one.conversation_id != "hostile"]
        await pilot.app.push_screen(ConversationScreen(memory, example.conversation_id))
        tree = pilot.app.screen.query_one("#tree", Tree)
        await until(pilot, lambda: bool(tree.root.children))
        (first,) = await memory.turns(example.conversation_id, last=0)
        await until(pilot, lambda: tree.cursor_line == 0)
        while tree.cursor_node is None or tree.cursor_node.data != first:
            await pilot.press("enter")
            await until(pilot, lambda: tree.cursor_node is not None and bool(tree.cursor_node.children))
            await pilot.press("down")
        await until(pilot, lambda: shown(pilot).endswith(first.content))


async def test_a_question_and_a_hand_off_show_what_an_agent_gets(data: Path) -> None:
    async with browsing(data) as (pilot, memory):
        (example,) = [one for one in await memory.all_conversations() if one.conversation_id != "hostile"]
        await pilot.app.push_screen(ConversationScreen(memory, example.conversation_id))
        await pilot.press("slash", *"which bug", "enter")
        view = await memory.view(example.conversation_id, query="which bug")
        await until(pilot, lambda: view.text in shown(pilot))
        await pilot.press("h")
        brief = await memory.hand_off(example.conversation_id)
        await until(pilot, lambda: brief.text in shown(pilot))


async def test_hostile_text_is_shown_as_text_and_long_turns_in_part(data: Path) -> None:
    async with browsing(data, "hostile") as (pilot, _):
        tree = pilot.app.screen.query_one("#tree", Tree)
        await until(pilot, lambda: tree.cursor_line == 0)
        await pilot.press("enter")
        await until(pilot, lambda: len(tree.root.children[0].children) == 2)
        labels = [str(node.label) for node in (*tree.root.children, *tree.root.children[0].children)]
        await pilot.press("down", "down", "down", "enter")
        await until(pilot, lambda: len(tree.root.children[1].children) == 1)
        await pilot.press("down")
        await until(pilot, lambda: "more characters: ctxmem-mcp expand hostile t2-" in shown(pilot))
        screen = pilot.app.export_screenshot()
        for text in (*labels, shown(pilot), screen):
            assert not set(OBEYED) & set(text)
        assert "[bold red]markup[/]" in labels[2]
        assert "\\x1b]0;owned\\x07" in shown(pilot)
        await pilot.press("escape")
        await pilot.press(*"markup")
        await until(pilot, lambda: any("[bold red]markup[/]" in row for row in rows(pilot)))
        assert not set(OBEYED) & set("".join(rows(pilot)))


def test_the_command_runs_in_a_terminal_and_ends_it_clean(data: Path) -> None:
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), "browse", "hostile"]
    master, slave = pty.openpty()
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm"})
    os.close(slave)
    written, until_time = b"", time.monotonic() + 120
    while time.monotonic() < until_time:
        if select.select([master], [], [], 0.1)[0]:
            try:
                part = os.read(master, 1 << 16)
            except OSError:  # the process has ended
                break
            if b"Hand-off" in part:
                os.write(master, b"\x11")
            written += part
    os.close(master)
    assert process.wait(60) == 0
    assert b"Hand-off" in written
    assert b"owned\x07" not in written
    assert "\u202e".encode() not in written
    assert b"\x1b[?1049l" in written


def test_without_a_terminal_it_says_what_to_use_instead(data: Path) -> None:
    command = [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(data), "browse"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "browse needs a terminal" in done.stderr.replace(":", "")
    assert "ctxmem-mcp list" in done.stderr
