"""The command `sync`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.import_export import get_passphrase
from ctxmem_mcp.cli.options import CAPTURE, OPTIONS, Json
from ctxmem_mcp.cli.runner import with_memory
from ctxmem_mcp.machine_sync.remote import FolderRemote, open_remote
from ctxmem_mcp.machine_sync.shared_folder import SharedFolder, is_encrypted
from ctxmem_mcp.machine_sync.sync import SyncResult
from ctxmem_mcp.machine_sync.sync import sync as sync_folder
from ctxmem_mcp.memory import Memory

commands = typer.Typer()


@commands.command(rich_help_panel=CAPTURE)
def sync(
    target: Annotated[
        str,
        typer.Argument(metavar="TARGET", help="A shared folder: DIR or ssh://HOST/DIR.", show_default=False),
    ],
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt a new shared folder with a passphrase, in the format of age.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Exchange conversations with your other machines through a shared folder.

    Every machine gets all turns and branches, and keeps its own head. What was forgotten or redacted on one machine is
    on all of them. Run it on each machine, as often as you like, also while agents are running. Exits with code 1 if
    something could not be received.
    """
    OPTIONS.require_files("The machines that use one database need no shared folder.")
    settings, remote = OPTIONS.settings(), open_remote(target)
    if isinstance(remote, FolderRemote):
        remote.check_apart(settings.data_dir)
    passphrase = None
    if encrypt or is_encrypted(remote):
        passphrase = get_passphrase(settings, confirm=not is_encrypted(remote))
    folder = SharedFolder.open(remote, passphrase, encrypt=encrypt)

    async def work(memory: Memory) -> SyncResult:
        return await sync_folder(memory, settings.data_dir, folder)

    done = with_memory(OPTIONS, work)
    if as_json:
        output.print_json(asdict(done))
    else:
        _print(target, done)
    raise typer.Exit(1 if done.warnings else 0)


def _print(target: str, done: SyncResult) -> None:
    parts = [
        f"received {output.counted(sum(done.received.values()), 'turn')}" if done.received else "",
        f"sent {output.counted(len(done.sent), 'conversation')}" if done.sent else "",
        f"forgot {output.counted(len(done.forgotten), 'conversation')}, whole or in part" if done.forgotten else "",
        f"redacted {output.counted(sum(done.redacted.values()), 'turn')}" if done.redacted else "",
        f"{done.unchanged:,} unchanged" if done.unchanged else "",
    ]
    output.write(f"{target}: {', '.join(filter(None, parts)) or 'nothing to exchange'}.")
    for conversation, turns in done.received.items():
        output.write(f"  {conversation}: {output.counted(turns, 'new turn')}")
    for conversation in done.forgotten:
        output.write(f"  {conversation}: forgotten on another machine")
    for conversation, turns in done.redacted.items():
        output.write(f"  {conversation}: {output.counted(turns, 'turn')} redacted on another machine")
    for warning in done.warnings:
        output.write(f"  warning: {warning}")
