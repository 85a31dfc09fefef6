"""The command `browse`: the memory in a terminal. The app needs the extra `browse`, and only this command loads it."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from ctxmem_mcp.cli.options import OPTIONS, READ
from ctxmem_mcp.cli.runner import resolve_conversation, with_memory
from ctxmem_mcp.errors import InvalidArgument, Refused
from ctxmem_mcp.memory import Memory

commands = typer.Typer()


@commands.command(rich_help_panel=READ)
def browse(
    conversation: Annotated[
        str | None,
        typer.Argument(metavar="ID", help='Conversation to show first: its id, a prefix of it, or "last".'),
    ] = None,
) -> None:
    """Show the memory in the terminal: sessions, search, their tree, views and hand-offs.

    Type to search, Enter opens, Escape goes back. It changes nothing. Needs the extra `browse`.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidArgument("browse", "needs a terminal", "`ctxmem-mcp list` and `show` print the same.")
    try:
        from ctxmem_mcp.cli.browse.app import BrowseApp
    except ModuleNotFoundError as error:
        raise Refused(f"browse needs {error.name}, which is not installed.", "Install ctxmem-mcp[browse].") from None

    async def work(memory: Memory) -> None:
        found = await resolve_conversation(memory, conversation) if conversation else None
        with _no_logging():
            await BrowseApp(memory, found).run_async()

    with_memory(OPTIONS, work)


@contextmanager
def _no_logging() -> Iterator[None]:
    """A line on stderr would be written across the app."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
