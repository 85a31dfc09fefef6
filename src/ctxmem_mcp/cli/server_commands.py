"""The commands of the server: serve, open, token."""

from __future__ import annotations

from typing import Annotated

import typer

from ctxmem_mcp.cli.options import (
    OPTIONS,
    READ,
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


@commands.command("open", rich_help_panel=READ)
def open_page(
    conversation: Annotated[
        str | None,
        typer.Argument(metavar="ID", help='Conversation to show first: its id, a prefix of it, or "last".'),
    ] = None,
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", min=0, max=65_535, help="Port of the page; 0 for a free one.")
    ] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open no browser.")] = False,
) -> None:
    """Show the memory in the browser: sessions, their tree, and what an agent gets for a question.

    The page is served on this machine only, until Ctrl-C. Its address works once.
    """
    import webbrowser

    from ctxmem_mcp.cli.runner import resolve_conversation, with_memory
    from ctxmem_mcp.serve.page import serve_page

    found = with_memory(OPTIONS, lambda memory: resolve_conversation(memory, conversation)) if conversation else None

    def show(address: str) -> None:
        typer.echo(address)
        if not no_browser:
            webbrowser.open(address)

    serve_page(OPTIONS.settings(), show, found, port)


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
