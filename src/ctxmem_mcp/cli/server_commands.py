"""The commands of the server: serve, token."""

from __future__ import annotations

from typing import Annotated

import typer

from ctxmem_mcp.cli.options import (
    OPTIONS,
    SERVER,
    Json,
)
from ctxmem_mcp.cli.output import print_json

commands = typer.Typer()


@commands.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    rich_help_panel=SERVER,
)
def serve(context: typer.Context) -> None:
    """Serve MCP over stdio or HTTP; see `serve --help`."""
    from ctxmem_mcp.serve import args

    before = [] if OPTIONS.data_dir is None else [f"--data-dir={OPTIONS.data_dir}"]
    raise typer.Exit(args.run([*before, *([f"--config={OPTIONS.config}"] if OPTIONS.config else []), *context.args]))


@commands.command(rich_help_panel=SERVER)
def token(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Name of the principal that will use it.", show_default=False)
    ],
    as_json: Json = False,
) -> None:
    """Make a bearer token for the HTTP service.

    Prints the token once, and its line for the file that CTXMEM_TOKENS_FILE names.
    """
    from ctxmem_mcp.http_api.auth.static_tokens import new_token

    made, line = new_token(name)
    if as_json:
        print_json({"token": made, "line": line})
    else:
        typer.echo(
            f"The token, which is stored nowhere:\n\n    {made}\n\nIts line for CTXMEM_TOKENS_FILE:\n\n    {line}"
        )
