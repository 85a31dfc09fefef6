"""The commands that change what is stored: repair, revert, retention, forget."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.options import (
    CHANGE,
    OPTIONS,
    Conversation,
    Json,
)
from ctxmem_mcp.cli.output import print_json
from ctxmem_mcp.cli.runner import record, resolve_conversation, with_memory
from ctxmem_mcp.errors import Corrupt, InvalidArgument, NotFound, Unavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.repair import Repaired

commands = typer.Typer()


@commands.command(rich_help_panel=CHANGE)
def repair(conversation: Conversation, as_json: Json = False) -> None:
    """Rebuild a damaged conversation from all turns that can be read.

    Turns keep their ids. A turn that can't be read is named and replaced by a note. The damaged file is kept beside the
    new one, and the command prints where. If no turn can be read, the file is moved aside, so that the session can be
    imported again. Exits with code 1 if a turn was lost.
    """

    async def work(memory: Memory) -> Repaired:
        try:
            found = await resolve_conversation(memory, conversation)
        except (Corrupt, Unavailable):  # so damaged that not even its id can be read
            found = conversation
        return await memory.repair(found)

    done = with_memory(OPTIONS, work)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(f"{output.counted(done.turns, 'turn')} of {done.conversation_id} saved.")
        for index, turn in done.lost:
            typer.echo(f"  lost: {turn or (f't{index}' if index >= 0 else 'a turn at the end')}")
        typer.echo(f"The damaged file is kept as {done.damaged_file}.")
        if not done.turns:
            typer.echo("Import the session again, or restore the conversation from a backup.")
    raise typer.Exit(1 if done.lost or not done.turns else 0)


@commands.command(rich_help_panel=CHANGE)
def revert(
    conversation: Conversation,
    turn: Annotated[str, typer.Argument(metavar="TURN", help="A turn, such as t41-837.")],
    as_json: Json = False,
) -> None:
    """Move the head to a turn.

    Nothing is deleted, and reverting to the previous head undoes it.
    """

    async def work(memory: Memory) -> Any:
        return await memory.revert(await resolve_conversation(memory, conversation), turn)

    done = with_memory(OPTIONS, work)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(f"The head is now {done.head}. The previous head, {done.previous_head}, is kept.")


@commands.command(rich_help_panel=CHANGE)
def retention(
    conversation: Conversation,
    days: Annotated[
        int | None,
        typer.Argument(metavar="DAYS", min=1, max=365, help="Days to keep it after its last append, 1 to 365."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print or set how long a conversation is kept."""

    async def work(memory: Memory) -> Any:
        found = await resolve_conversation(memory, conversation)
        return await (memory.info(found) if days is None else memory.set_retention(found, days))

    from ctxmem_mcp.models import iso

    info = with_memory(OPTIONS, work)
    expires_at = iso(info.expires)
    if as_json:
        print_json({
            "conversation_id": info.conversation_id, "retention_days": info.retention_days, "expires_at": expires_at,
        })  # fmt: skip
    else:
        days_kept = output.counted(info.retention_days, "day")
        typer.echo(f"{info.conversation_id} is kept for {days_kept} after its last append, until {expires_at}.")


async def _resolve_readable_or_not(memory: Memory, conversation: str) -> str:
    try:
        return await resolve_conversation(memory, conversation)
    except Corrupt:  # what is to be forgotten is removed, readable or not
        return conversation
    except NotFound:
        if await memory.has_damaged_copy(conversation):
            return conversation
        raise


@commands.command(rich_help_panel=CHANGE)
def forget(
    conversation: Conversation,
    turn: Annotated[
        str | None,
        typer.Option(metavar="TURN_ID", help="Only the branch that this turn is on; shared turns stay."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Delete a conversation, or one of its branches, for good, with its index and summaries."""

    found = with_memory(OPTIONS, lambda memory: _resolve_readable_or_not(memory, conversation))
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidArgument(
                "--yes",
                "is required if stdin is not a terminal",
                f"It forgets {found} without asking for confirmation.",
            )
        named = f"the branch of {found} that {turn} is on" if turn else found
        typer.confirm(f"Forget {named}? This can't be undone.", abort=True)

    async def work(memory: Memory) -> Any:
        return await memory.forget(found, found, turn)

    receipt = with_memory(OPTIONS, work)
    record(OPTIONS, "forget", conversation=found)
    if as_json:
        print_json(asdict(receipt))
        return
    turns, nodes = output.counted(receipt.turns, "turn"), output.counted(receipt.nodes, "node")
    typer.echo(f"Forgot {found}: {turns}, {nodes}, {receipt.bytes:,} bytes.")
    if receipt.other_branches:
        typer.echo(f"  branches besides the head's: {receipt.other_branches}")
    for checked in receipt.checked:
        typer.echo(f"  checked: {checked}")
    for warning in receipt.warnings:
        output.write(f"  warning: {warning}")
    for other in receipt.others:
        typer.echo(f"  not forgotten: {other}, a sub-agent's conversation")
