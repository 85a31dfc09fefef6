"""The command `redact`."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from ctxmem_mcp import redaction
from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.options import CHANGE, OPTIONS, Json
from ctxmem_mcp.cli.output import print_json
from ctxmem_mcp.cli.runner import record, resolve_conversation, with_memory
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.record_stores import open_record_store
from ctxmem_mcp.results import FoundTurn, RedactionReceipt

commands = typer.Typer()
EXCERPT_CHARS = 60
QUOTATIONS_SHOWN = 10
# A pattern that is read from stdin, so that it is in no shell's history.
FROM_STDIN = "-"


@commands.command(rich_help_panel=CHANGE)
def redact(
    conversation: Annotated[
        str | None,
        typer.Argument(metavar="ID", help='Conversation id, a unique prefix of one, or "last".', show_default=False),
    ] = None,
    turn: Annotated[
        str | None, typer.Argument(metavar="TURN", help="A turn, such as t41-837.", show_default=False)
    ] = None,
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX", help="Every turn in which it is found; `-` reads it from stdin.", show_default=False
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be redacted, and change nothing.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Remove the content of turns for good, and leave `[redacted]` and the day in its place.

    Redacts one turn, or with `--pattern` all that match; without ID, those of all conversations. The same turn in other
    branches and conversations is redacted too. Ids stay. Summaries and the index are made anew, and if an agent or a
    transcript sends the turn again, nothing of it is stored.
    """
    _check(conversation, turn, pattern)
    compiled = _compile(pattern)

    async def find(memory: Memory) -> tuple[list[FoundTurn], list[str]]:
        named = await resolve_conversation(memory, conversation) if conversation else None
        if compiled is not None:
            return await memory.find_matches(compiled, named), []
        return await redaction.find_copies(memory, named or "", turn or "")

    found, quoting = with_memory(OPTIONS, find)
    if not as_json:
        _print_found(found, quoting)
    if dry_run or not found:
        if as_json:
            print_json({"turns": [{"conversation_id": one.conversation_id, "turn_id": one.turn.id} for one in found]})
        return
    if not yes:
        _confirm(len(found))

    async def work(memory: Memory) -> RedactionReceipt:
        named = {match[0] for one in found for match in compiled.finditer(one.turn.content)} if compiled else ()
        settings = OPTIONS.settings()
        records = open_record_store(settings, "")
        try:
            return await redaction.redact(memory, settings.data_dir, found, named, records.redactions)
        finally:
            await records.close()

    receipt = with_memory(OPTIONS, work)
    for redacted in receipt.turns:
        record(OPTIONS, "redact", conversation=redacted)
    if as_json:
        print_json(asdict(receipt))
    else:
        _print_receipt(receipt)


def _check(conversation: str | None, turn: str | None, pattern: str | None) -> None:
    if turn is not None and pattern is not None:
        raise InvalidArgument("TURN", "can't be combined with --pattern", "Give one of them.")
    if turn is None and pattern is None:
        raise InvalidArgument("TURN", "or --pattern is required", "For example: ctxmem-mcp redact last t41-837")


def _confirm(turns: int) -> None:
    if not sys.stdin.isatty():
        raise InvalidArgument("--yes", "is required if stdin is not a terminal", "It redacts without asking.")
    typer.confirm(f"Redact {output.counted(turns, 'turn')}? This can't be undone.", abort=True)


def _compile(pattern: str | None) -> re.Pattern[str] | None:
    if pattern is None:
        return None
    text = sys.stdin.readline().rstrip("\n") if pattern == FROM_STDIN else pattern
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise InvalidArgument(
            "--pattern", f"is no regular expression ({error})", "Escape special characters."
        ) from None
    if compiled.search(""):
        raise InvalidArgument("--pattern", "matches every turn", "Name what is to be removed.")
    return compiled


def _print_found(found: Sequence[FoundTurn], quoting: Sequence[str]) -> None:
    if not found:
        typer.echo("Nothing to redact: no such turn, or it is redacted already.")
    for one in found:
        turn, text = one.turn, " ".join(one.turn.content.split())
        excerpt = text if len(text) <= EXCERPT_CHARS else text[: EXCERPT_CHARS - 1] + "…"
        name = f" {turn.name}" if turn.name else ""
        output.write(f"{one.conversation_id}  {turn.id}  {turn.role}{name}, {turn.tokens:,} tokens: {excerpt}")
    for place in quoting[:QUOTATIONS_SHOWN]:
        output.write(f"  also quoted in {place}, which stays; --pattern redacts every turn that matches")


def _print_receipt(receipt: RedactionReceipt) -> None:
    turns = sum(map(len, receipt.turns.values()))
    conversations = output.counted(len(receipt.turns), "conversation")
    typer.echo(f"Redacted {output.counted(turns, 'turn')} in {conversations}: {receipt.bytes:,} bytes.")
    for checked in receipt.checked:
        typer.echo(f"  checked: {checked}")
    for warning in receipt.warnings:
        output.write(f"  warning: {warning}")
    typer.echo(
        "  not changed: agents' own transcripts, and copies elsewhere. The next `ctxmem-mcp backup` replaces its"
    )
    typer.echo("  copy. Change a password or key all the same: others may have seen it.")
