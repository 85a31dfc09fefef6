"""The example session, from end to end: stored, drawn, asked. In a folder of its own that goes afterwards."""

from __future__ import annotations

import asyncio
import tempfile
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ctxmem_mcp.cli import output
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transcripts import registry

QUESTION = "What errors did we encounter?"
# Too little for the whole session, so that one sees what is opened and what is left closed.
BUDGET_TOKENS = 2_500
_SESSION = "session.jsonl"


def run() -> None:
    with tempfile.TemporaryDirectory(prefix="ctxmem-demo-") as folder:
        asyncio.run(_show(Settings(data_dir=Path(folder))))


def session_text() -> str:
    """The example session: beside the package where it is installed, in examples/ of a checkout."""
    packed = files("ctxmem_mcp").joinpath("examples", _SESSION)
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    return (Path(__file__).parents[3] / "examples" / _SESSION).read_text(encoding="utf-8")


async def _show(settings: Settings) -> None:
    turns = registry.parse(session_text(), _SESSION).turns
    out = output.console()
    async with open_memory(settings) as memory:
        done = await memory.sync(turns, conversation_id="demo")
        state = await memory.info("demo")
        _heading(out, f"{done.appended} turns, {state.tokens:,} tokens, stored byte for byte. The tree over them:")
        out.print(output.tree_of(state.title, await memory.outline("demo"), titles_only=False))
        _heading(out, f"An agent asks: {QUESTION} It gets this, in at most {BUDGET_TOKENS:,} tokens:")
        view = await memory.view("demo", query=QUESTION, token_budget=BUDGET_TOKENS)
        out.print(Text(view.render()))
        _heading(
            out, "Every id opens more. Register `ctxmem-mcp` with your agent and it asks by itself; see README.md."
        )


def _heading(out: Console, words: str) -> None:
    out.print()
    out.print(Text(words, style="bold cyan"))
    out.print()
