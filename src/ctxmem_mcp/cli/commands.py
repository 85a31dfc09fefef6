"""All commands, by heading. `docs/commands.md` is generated from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctxmem_mcp.cli import (
    blame,
    browse,
    capture_commands,
    change_commands,
    install,
    migrate_command,
    read_commands,
    redact_command,
    server_commands,
    sync_command,
    team_commands,
    wrap_commands,
)
from ctxmem_mcp.cli.options import OPTIONS, SETUP
from ctxmem_mcp.settings import SETTINGS
from ctxmem_mcp.settings.sources import CONFIG_HELP

app = typer.Typer(
    name="ctxmem-mcp",
    help="Lossless, hierarchical memory of agents' conversations. Without a command, serve MCP over stdio.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(requested: bool) -> None:
    if requested:
        from ctxmem_mcp import __version__

        typer.echo(f"ctxmem-mcp {__version__}")
        raise typer.Exit


@app.callback()
def global_options(
    data_dir: Annotated[
        # Not Path: that would turn "", which a script passes for an unset variable, into the current folder.
        str | None, typer.Option(metavar="DIR", help=SETTINGS["data_dir"].help)
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help=CONFIG_HELP)] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    OPTIONS.data_dir, OPTIONS.config = data_dir, config


install.add_commands(app, OPTIONS, SETUP)


@app.command(rich_help_panel=SETUP)
def demo() -> None:
    """Show an example session: a question, the view, the tree.

    It uses a temporary folder and leaves nothing behind.
    """
    from ctxmem_mcp.cli import demo

    demo.run()


PARTS = (
    wrap_commands,
    capture_commands,
    sync_command,
    migrate_command,
    read_commands,
    blame,
    browse,
    change_commands,
    redact_command,
    server_commands,
    team_commands,
)
for part in PARTS:
    app.add_typer(part.commands)
