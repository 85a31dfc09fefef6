"""The commands that capture conversations and transfer them: import, watch, export, backup, hook."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctxmem_mcp.agents import WAIT_OPTION
from ctxmem_mcp.cli import export_as, import_export, import_files
from ctxmem_mcp.cli.options import (
    CAPTURE,
    HOOK_AGENTS,
    OPTIONS,
    Conversation,
    Json,
)
from ctxmem_mcp.errors import InvalidArgument

commands = typer.Typer()


@commands.command("import", rich_help_panel=CAPTURE)
def import_(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PATH", help="Transcripts, `.ctxmem` files, or folders.", show_default=False),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Import every session that agents keep on this machine.")
    ] = False,
    retention_days: Annotated[
        int | None,
        typer.Option(metavar="DAYS", min=1, max=365, help="Days to keep each conversation after its last append."),
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Import also what was forgotten.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be imported, and store nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Import transcripts of agents, message lists, or exports.

    Formats: sessions of Claude Code, Codex, Cursor, Cline, Copilot, Gemini CLI, Qwen Code, opencode and others; exports
    of Claude.ai, ChatGPT, OpenWebUI, LibreChat and SillyTavern; message lists of OpenAI, Anthropic, LangChain and
    others; JSON Lines with one turn per line. docs/formats.md lists all. What is already stored is not stored again.
    """
    if everything == bool(paths):
        raise InvalidArgument("PATH", "give either paths or --all", "For example: ctxmem-mcp import --all")
    if everything and again:
        raise InvalidArgument("--again", "needs the paths to import", "Name the transcripts that are to come back.")
    if dry_run:
        raise typer.Exit(import_files.preview(None if everything else paths, as_json))
    if everything:
        import_export.import_all(OPTIONS, retention_days, as_json)
    else:
        raise typer.Exit(import_export.import_paths(OPTIONS, paths or (), retention_days, as_json, again=again))


@commands.command(rich_help_panel=CAPTURE)
def watch(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH", help="Transcripts or folders; default: those of all agents.", show_default=False
        ),
    ] = None,
    every: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="Seconds between two checks of the files.")
    ] = import_export.POLL_SECONDS,
    as_json: Json = False,
) -> None:
    """Import transcripts as they grow, until interrupted.

    For agents that have no hooks.
    """
    import_export.watch(OPTIONS, paths or [], every, as_json)


@commands.command("export", rich_help_panel=CAPTURE)
def export_(
    conversation: Conversation,
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="File to write; default: ID.ctxmem in the current folder.", show_default=False
        ),
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="FORM", help="claude-code, codex, openai, anthropic, markdown or html.", show_default=False
        ),
    ] = None,
    turn_id: Annotated[
        str | None,
        typer.Option("--turn", metavar="TURN", help="With --as: the branch that ends here.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="TURN", help="Only the branch that ends at this turn.", show_default=False),
    ] = None,
    redact: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="`secrets`: replace keys and tokens. Needs the extra `redact`."),
    ] = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt the file with a passphrase, in the format of age.")
    ] = False,
    recipient: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Encrypt for this public key of age or SSH instead.", show_default=False),
    ] = None,
    author: Annotated[
        str | None, typer.Option("--from", metavar="NAME", help="Who it is from; default: user@machine.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Write a conversation and its branches to one file, or one branch in another program's form.

    `ctxmem-mcp import FILE` reads a `.ctxmem` file on another machine. With `--as claude-code` or `--as codex` and no
    FILE, the session is put where the agent looks for it, and the agent can resume it in the current folder.
    """
    if form is None and turn_id is not None:
        raise InvalidArgument("--turn", "needs --as", "For a .ctxmem file it is --until.")
    if redact not in (None, "secrets"):
        raise InvalidArgument("--redact", f"must be secrets; got {redact!r}", "Leave it out to replace nothing.")
    if form is None:
        left_out = import_export.export_options(OPTIONS, until, redact, author, encrypt, recipient or ())
        import_export.export(OPTIONS, conversation, path, force, as_json, left_out)
        return
    if encrypt or recipient:
        raise InvalidArgument("--encrypt", "can't be combined with --as", "Encrypt the file with age.")
    request = export_as.Request(form, path, turn_id or until, force, redact is not None)
    export_as.export(OPTIONS, conversation, request, as_json)


@commands.command(rich_help_panel=CAPTURE)
def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier backup.", show_default=False)
    ],
    keep_forgotten: Annotated[
        bool, typer.Option("--keep-forgotten", help="Keep what was forgotten or has expired since the last backup.")
    ] = False,
    principal: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the memory of this principal of the HTTP service.")
    ] = None,
    space: Annotated[str | None, typer.Option(metavar="SPACE", help="Only this shared space.")] = None,
    as_json: Json = False,
) -> None:
    """Back up all conversations to a folder, beside running agents and servers.

    Only what changed since the last backup is written, and each file is verified first. `--data-dir DIR` opens the
    backup; `import DIR/conversations/*.ctxmem` restores from it. Exits with code 1 if a file could not be backed up.
    """
    raise typer.Exit(import_export.back_up(OPTIONS, folder, keep_forgotten, as_json, principal, space))


@commands.command(context_settings={"ignore_unknown_options": True}, rich_help_panel=CAPTURE)
def hook(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help=f"{', '.join(HOOK_AGENTS)}.")],
    event: Annotated[str | None, typer.Argument(metavar="EVENT", help="The event, if stdin does not name it.")] = None,
    wait: Annotated[
        bool,
        typer.Option(WAIT_OPTION, help="The agent waits for this hook after a call: its reply may shorten the output."),
    ] = False,
) -> None:
    """Capture one event of an agent; agents run this.

    Reads the event from stdin, returns at once and always exits with code 0.
    """
    from ctxmem_mcp.hooks import entry

    before = ["--data-dir", OPTIONS.data_dir] if OPTIONS.data_dir else []
    entry.run([*before, agent, *([event] if event else []), *([WAIT_OPTION] if wait else [])])
