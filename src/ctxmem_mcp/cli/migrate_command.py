"""The command `migrate`: copies all conversations to another store."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, replace
from typing import Annotated

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.options import CAPTURE, OPTIONS, Json
from ctxmem_mcp.migration import MigrationResult, migrate
from ctxmem_mcp.serve.logs import log_to_stderr
from ctxmem_mcp.settings import SETTINGS, Settings

commands = typer.Typer()


@commands.command("migrate", rich_help_panel=CAPTURE)
def command(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="A folder, or postgresql://USER@HOST/DATABASE.", show_default=False),
    ],
    as_json: Json = False,
) -> None:
    """Copy all conversations to a PostgreSQL database, or from one to a folder.

    The source is what CTXMEM_STORE_URL or the data folder names; it is not changed, except that redactions which a
    killed process left are finished. All principals are copied, with branches, written summaries, times and what was
    forgotten, and each conversation is compared turn by turn. Stop the agents and servers first. If it is stopped, run
    it again: it goes on where it was. Exits with code 1 if a conversation could not be copied.
    """
    source = OPTIONS.settings()
    log_to_stderr(source)

    def report(name: str) -> None:
        if not as_json:
            typer.echo(f"{name}: copied")

    done = asyncio.run(migrate(source, _settings(source, target), report))
    if as_json:
        output.print_json(asdict(done))
    else:
        _print(done)
    raise typer.Exit(1 if done.failed else 0)


def _settings(source: Settings, target: str) -> Settings:
    """Returns the source's settings with another store."""
    if "://" in target:
        return replace(source, store_url=SETTINGS["store_url"].parse(target, "TARGET"))
    return replace(source, store_url=None, data_dir=SETTINGS["data_dir"].parse(target, "TARGET"))


def _print(done: MigrationResult) -> None:
    typer.echo(
        f"{output.counted(len(done.copied), 'conversation')} copied and verified, {len(done.present):,} present."
    )
    for name, reason in done.failed.items():
        sys.stderr.write(f"ctxmem-mcp: {name}: {reason}\n")
