"""The command `demo`: stores the example session in a temporary folder, prints a question, the view and the tree."""

from __future__ import annotations

import asyncio
import tempfile
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ctxmem_mcp.cli import output
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.results import View
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transcripts import registry

QUESTION = "What errors did we encounter?"
# The smallest budget, so that the view fits on the screen together with the tree.
BUDGET_TOKENS = 500
# Lines of the view that are printed, at its start and at its end.
HEAD_LINES, TAIL_LINES = 7, 3
NEXT_STEPS = (
    "Next: `ctxmem-mcp install --all` registers the memory with your agents.",
    'Or:   `ctxmem-mcp import --all`, then `ctxmem-mcp context last "what failed?"`',
)
_SESSION = "session.jsonl"


def run(out: Console | None = None) -> None:
    """Prints the demo to `out`, by default to the terminal."""
    with tempfile.TemporaryDirectory(prefix="ctxmem-demo-") as folder:
        asyncio.run(_show(Settings(data_dir=Path(folder)), out or output.console()))


def session_text() -> str:
    """The example session: inside the package if installed, in examples/ of a checkout."""
    packaged = files("ctxmem_mcp").joinpath("examples", _SESSION)
    if packaged.is_file():
        return packaged.read_text(encoding="utf-8")
    return (Path(__file__).parents[3] / "examples" / _SESSION).read_text(encoding="utf-8")


async def _show(settings: Settings, out: Console) -> None:
    turns = registry.parse(session_text(), _SESSION).turns
    async with open_memory(settings) as memory:
        done = await memory.sync(turns, conversation_id="demo")
        await memory.index("demo")
        info = await memory.info("demo")
        view = await memory.view("demo", query=QUESTION, token_budget=BUDGET_TOKENS)
        roots = await memory.outline("demo")
    _print_heading(out, f"A coding session is stored: {done.appended} turns, {info.tokens:,} tokens.")
    _print_heading(out, f"An agent asks: {QUESTION} It gets this view, in {BUDGET_TOKENS} tokens:")
    _print_view(out, view)
    _print_heading(out, "The tree of the session, with its errors (`ctxmem-mcp show` prints all of it):")
    tree = output.draw_tree(info.title, roots, kinds=("error", "ending"))
    out.print(tree, no_wrap=True, overflow="ellipsis", crop=True)
    out.print()
    for line in NEXT_STEPS:
        out.print(Text(line, style="bold"))


def _print_heading(out: Console, text: str) -> None:
    out.print()
    out.print(Text(text, style="bold cyan"))


def _print_view(out: Console, view: View) -> None:
    lines = view.text.splitlines()
    left_out = len(lines) - HEAD_LINES - TAIL_LINES
    shown = [*lines[:HEAD_LINES], f"... {left_out} more lines ...", *lines[-TAIL_LINES:]]
    for line in shown:
        out.print(Text(f"  {line}"), no_wrap=True, overflow="ellipsis", crop=True)
