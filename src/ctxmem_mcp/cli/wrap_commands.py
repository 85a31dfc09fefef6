"""The commands of the gateway for one user: wrap, usage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.options import OPTIONS, SERVER, SETUP, Json, Svg
from ctxmem_mcp.cli.output import print_json
from ctxmem_mcp.settings import SETTINGS

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.usage_ledger import LedgerEntry

commands = typer.Typer()
_BUDGET = "--budget"


@commands.command(
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}, rich_help_panel=SETUP
)
def wrap(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="AGENT",
            help="claude, codex, copilot, gemini, opencode, qwen or any program, and its own arguments.",
            show_default=False,
        ),
    ],
    budget: Annotated[
        str | None,
        typer.Option(
            _BUDGET, "-b", metavar="TOKENS", help="Tokens to which a conversation is compacted.", show_default=False
        ),
    ] = None,
) -> None:
    """Run an agent whose conversation never ends.

    Starts the gateway for this run, directs the agent to it, and ends it with the agent. The agent keeps its login and
    its terminal, and its files are not changed. If the gateway fails, the agent goes on without it.
    """
    from ctxmem_mcp.wrap.run import Options
    from ctxmem_mcp.wrap.run import wrap as run

    tokens = None if budget is None else SETTINGS["gateway_tokens"].parse(budget, _BUDGET)
    config = None if OPTIONS.config is None else str(OPTIONS.config)
    raise typer.Exit(run(words, Options(OPTIONS.data_dir, config, tokens)))


@commands.command(rich_help_panel=SERVER)
def usage(
    conversation: Annotated[
        str | None, typer.Argument(metavar="ID", help="Default: all conversations.", show_default=False)
    ] = None,
    svg: Svg = None,
    as_json: Json = False,
) -> None:
    """Show the tokens that the gateway sent and saved, and their cost."""
    import asyncio

    from ctxmem_mcp import usage_ledger
    from ctxmem_mcp.cli import usage_table
    from ctxmem_mcp.cli.svg import write_svg

    settings = OPTIONS.settings()
    report = usage_ledger.usage_report(asyncio.run(_read_usage(settings, conversation)), settings)
    out = output.console()
    if as_json:
        print_json(report)
    elif svg is not None:
        write_svg(svg, "ctxmem-mcp usage", lambda console: usage_table.print_table(console, report))
    elif out.is_terminal:
        usage_table.print_table(out, report)
    else:
        usage_table.print_lines(report)


async def _read_usage(settings: Settings, conversation: str | None) -> Sequence[LedgerEntry]:
    from ctxmem_mcp.record_stores import open_record_store

    records = open_record_store(settings, "")
    try:
        return await records.usage(conversation)
    finally:
        await records.close()
