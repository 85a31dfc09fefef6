"""The commands, one function each. `docs/commands.md` is generated from them."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ctxmem_mcp.agents import AGENTS
from ctxmem_mcp.capture import unrecognised
from ctxmem_mcp.cli import export_as, import_export, import_files, install, listing, output
from ctxmem_mcp.cli.output import print_json, print_view
from ctxmem_mcp.cli.runner import GlobalOptions, resolve_conversation, with_memory
from ctxmem_mcp.errors import Corrupt, CtxmemError, InvalidArgument, Unavailable
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.repair import Repaired
from ctxmem_mcp.models import OutlineNode, SearchResult, View
from ctxmem_mcp.settings import CONFIG_HELP, SETTINGS

app = typer.Typer(
    name="ctxmem-mcp",
    help="Lossless, hierarchical memory of agents' conversations. Without a command, serve MCP over stdio.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
_options = GlobalOptions()
_HOOK_AGENTS = [agent.id for agent in AGENTS.values() if agent.events]

# The headings of the command list.
SETUP, CAPTURE, READ, CHANGE, SERVER = "Set up", "Capture and transfer", "Read", "Change", "Serve"

Conversation = Annotated[
    str, typer.Argument(metavar="ID", help='Conversation id, a unique prefix of one, or "last".', show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Budget = Annotated[int, typer.Option("--budget", "-b", metavar="TOKENS", min=1, help="Token budget of the output.")]


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
    _options.data_dir, _options.config = data_dir, config


install.add_commands(app, _options, SETUP)


@app.command(rich_help_panel=SETUP)
def demo() -> None:
    """Show an example session: a question, the view, the tree.

    It uses a temporary folder and leaves nothing behind.
    """
    from ctxmem_mcp.cli import demo

    demo.run()


# ---------------------------------------------------------------- capture and transfer


@app.command("import", rich_help_panel=CAPTURE)
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
        import_export.import_all(_options, retention_days, as_json)
    else:
        raise typer.Exit(import_export.import_paths(_options, paths or (), retention_days, as_json, again=again))


@app.command(rich_help_panel=CAPTURE)
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
    import_export.watch(_options, paths or [], every, as_json)


@app.command("export", rich_help_panel=CAPTURE)
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
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,
    as_json: Json = False,
) -> None:
    """Write a conversation and its branches to one file, or one branch in another program's form.

    `ctxmem-mcp import FILE` reads a `.ctxmem` file on another machine. With `--as claude-code` or `--as codex` and no
    FILE, the session is put where the agent looks for it, and the agent can resume it in the current folder.
    """
    if form is None and turn_id is not None:
        raise InvalidArgument("--turn", "needs --as", "A .ctxmem file has every branch.")
    if form is None:
        import_export.export(_options, conversation, path, force, as_json)
    else:
        export_as.export(_options, conversation, export_as.Request(form, path, turn_id, force), as_json)


@app.command(rich_help_panel=CAPTURE)
def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A new folder, or that of an earlier backup.", show_default=False)
    ],
    keep_forgotten: Annotated[
        bool, typer.Option("--keep-forgotten", help="Keep what was forgotten or has expired since the last backup.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Back up all conversations to a folder, beside running agents.

    Only what changed since the last backup is written, and each file is verified first. `--data-dir DIR` opens the
    backup; `import DIR/conversations/*.ctxmem` restores from it. Exits with code 1 if a file could not be backed up.
    """
    raise typer.Exit(import_export.back_up(_options, folder, keep_forgotten, as_json))


@app.command(context_settings={"ignore_unknown_options": True}, rich_help_panel=CAPTURE)
def hook(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help=f"{', '.join(_HOOK_AGENTS)}.")],
    event: Annotated[str | None, typer.Argument(metavar="EVENT", help="The event, if stdin does not name it.")] = None,
) -> None:
    """Capture one event of an agent; agents run this.

    Reads the event from stdin, returns at once and always exits with code 0.
    """
    from ctxmem_mcp.hooks import entry

    before = ["--data-dir", _options.data_dir] if _options.data_dir else []
    entry.run([*before, agent, *([event] if event else [])])


# ---------------------------------------------------------------- read


@app.command("list", rich_help_panel=READ)
def list_(
    limit: Annotated[
        int | None, typer.Option(metavar="COUNT", min=1, help=f"Maximum number to list; default: {listing.LISTED}.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all, with those of sub-agents.")] = False,
    project: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Only sessions in this folder or below it.", show_default=False)
    ] = None,
    space: Annotated[
        str | None, typer.Option(metavar="SPACE", help="Only those in this space.", show_default=False)
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="AGENT", help=f"Only sessions of this agent: {', '.join(_HOOK_AGENTS)}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the conversations, last active first.

    A session was active when its last turn happened, not when it was imported. Conversations of sub-agents are counted
    at their session's. JSON lists all that fit the options, unless `--limit` is given.
    """
    page = with_memory(_options, partial(Memory.conversations, limit=sys.maxsize))
    folder = None if project is None else Path(os.path.abspath(project))
    found = listing.select(page.conversations, space=space, project=folder, agent=agent)
    for path, reason in page.unreadable.items():
        typer.echo(f"ctxmem-mcp: not listed, because it can't be read: {path}: {reason}", err=True)
    if lost := unrecognised.count(_options.settings().data_dir):
        events = output.counted(lost, "event")
        typer.echo(f"ctxmem-mcp: {events} of agents' hooks can't be read; `ctxmem-mcp doctor` says which", err=True)
    if as_json:
        print_json([asdict(info) for info in found[:limit]])
    elif found:
        listed = [listing.Listed(info) for info in found] if everything else listing.fold_subagents(found)
        shown = listed[: limit or (None if everything else listing.LISTED)]
        listing.print_conversations(output.console(), shown)
        if len(shown) < len(listed):
            typer.echo(f"{len(listed) - len(shown):,} more: --all, or --limit COUNT.")
    elif page.conversations:
        typer.echo(f"None of {output.counted(len(page.conversations), 'conversation')} fits these options.")
    elif not page.unreadable:
        typer.echo("No conversations yet. `ctxmem-mcp import --all` imports your agents' sessions.")


@app.command(rich_help_panel=READ)
def show(
    conversation: Conversation,
    depth: Annotated[
        int | None, typer.Option(metavar="LEVELS", min=0, help="Levels below the roots; default: all.")
    ] = None,
    titles: Annotated[bool, typer.Option("--titles", help="Show only the titles of sections.")] = False,
    turn: Annotated[str | None, typer.Option(metavar="TURN", help="Show the tree as of this turn.")] = None,
    as_json: Json = False,
) -> None:
    """Draw the tree of a conversation."""

    async def work(memory: Memory) -> tuple[Any, list[OutlineNode]]:
        found = await resolve_conversation(memory, conversation)
        return await memory.info(found), await memory.outline(found, turn_id=turn, depth=depth)

    info, roots = with_memory(_options, work)
    if as_json:
        print_json({"conversation_id": info.conversation_id, "roots": [asdict(root) for root in roots]})
        return
    out = output.console()
    out.print(output.draw_tree(info.title, roots, titles_only=titles))
    size = f"{output.counted(info.turns, 'turn')} · {output.short(info.tokens)} tokens"
    out.print(f"{info.conversation_id} · {size}", style="dim")


@app.command(rich_help_panel=READ)
def context(
    conversation: Conversation,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="What you need to know.", show_default=False)
    ] = None,
    budget: Budget = 8_000,
    layout: Annotated[
        str, typer.Option(metavar="LAYOUT", help="`tree`, or `stable` for a provider's prompt cache.")
    ] = "tree",
    turn: Annotated[str | None, typer.Option(metavar="TURN", help="Show the view as of this turn.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print why each turn was chosen, to stderr.")] = False,
    as_json: Json = False,
) -> None:
    """Print the view that an agent gets for a query.

    The view is an outline of the whole conversation, in which the sections that matter to the query are expanded to
    verbatim turns.
    """
    if layout not in ("tree", "stable"):
        raise InvalidArgument("--layout", f"must be one of tree, stable; got {layout!r}")

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.view(found, query=query, token_budget=budget, turn_id=turn, layout=layout, explain=explain)

    print_view(with_memory(_options, work), as_json)


@app.command(rich_help_panel=READ)
def expand(
    conversation: Conversation,
    node: Annotated[str, typer.Argument(metavar="NODE", help="A node n40-55-213, a turn t41-837, a span t42-t47.")],
    budget: Budget = 4_000,
    cursor: Annotated[str | None, typer.Option(metavar="CURSOR", help="next_cursor of the previous page.")] = None,
    as_json: Json = False,
) -> None:
    """Expand a node or a turn down to its verbatim text."""

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.expand(found, node, token_budget=budget, cursor=cursor)

    print_view(with_memory(_options, work), as_json)


@app.command(rich_help_panel=READ)
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words, names or error text.", show_default=False)],
    conversation: Annotated[
        str | None, typer.Option("--conversation", "-c", metavar="ID", help="Search only this conversation.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, max=100, help="Maximum number of turns to print.")] = 10,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="user, assistant, system or tool.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Earliest time of a turn, in ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Latest time of a turn, in ISO 8601.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print each turn's score and why.")] = False,
    as_json: Json = False,
) -> None:
    """Find turns by words, names or error text, best first.

    A turn without a time of its own has the time at which it was stored.
    """

    async def work(memory: Memory) -> SearchResult:
        found = None if conversation is None else await resolve_conversation(memory, conversation)
        return await memory.search(
            query, conversation_id=found, limit=limit, role=role, since=since, until=until, explain=explain
        )

    result = with_memory(_options, work)
    if as_json:
        print_json([output.hit_record(hit) for hit in result])
    elif result:
        # A turn's id alone opens nothing if all conversations were searched.
        output.print_hits(output.console(), result, with_conversation=conversation is None)
    else:
        typer.echo("Nothing found.")
    if conversation is None:
        output.print_searched(result)


@app.command("hand-off", rich_help_panel=READ)
def hand_off(
    conversation: Conversation,
    budget: Budget = 4_000,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Your own note to the next run.")] = None,
    as_json: Json = False,
) -> None:
    """Print a brief for the next agent run.

    It lists the goal, the user's constraints, decisions, changes, errors and how they ended, and open work.
    """

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.hand_off(found, token_budget=budget, note=note)

    print_view(with_memory(_options, work), as_json)


@app.command(rich_help_panel=READ)
def verify(
    conversations: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Default: all conversations.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read everything that is stored, and recompute every hash of turns and nodes.

    Exits with code 1 if something is damaged; `repair` saves all that can be read. A turn that a repair could not save
    is a warning.
    """

    async def work(memory: Memory) -> dict[str, tuple[list[str], list[str]]]:
        ids = [await resolve_conversation(memory, name) for name in conversations or ()]
        ids = ids or [info.conversation_id for info in await memory.all_conversations()]
        return {conversation: await _faults(memory, conversation) for conversation in ids}

    found = with_memory(_options, work)
    reports = {name: [*faults, *(f"warning: {line}" for line in lost)] for name, (faults, lost) in found.items()}
    faulty = sum(bool(faults) for faults, _ in found.values())
    if as_json:
        print_json(reports)
    else:
        for conversation, lines in reports.items():
            typer.echo(f"{conversation}:{'' if found[conversation][0] else ' ok'}")
            for line in lines:
                output.write(f"  {line}")
        typer.echo(f"{output.counted(len(found), 'conversation')} verified, {faulty} with problems.")
    raise typer.Exit(1 if faulty else 0)


async def _faults(memory: Memory, conversation: str) -> tuple[list[str], list[str]]:
    """The faults of a conversation, and the turns that a repair could not save."""
    try:
        faults = await memory.verify(conversation)
        return faults, [] if faults else await memory.lost_turns(conversation)
    except CtxmemError as error:
        return [str(error)], []


# ---------------------------------------------------------------- change


@app.command(rich_help_panel=CHANGE)
def repair(conversation: Conversation, as_json: Json = False) -> None:
    """Rebuild a damaged conversation from all turns that can be read.

    Turns keep their ids. A turn that can't be read is named and replaced by a note. The damaged file is kept beside the
    new one, and the command prints where. Exits with code 1 if a turn was lost.
    """

    async def work(memory: Memory) -> Repaired:
        try:
            found = await resolve_conversation(memory, conversation)
        except (Corrupt, Unavailable):  # so damaged that not even its id can be read
            found = conversation
        return await memory.repair(found)

    done = with_memory(_options, work)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(f"{output.counted(done.turns, 'turn')} of {done.conversation_id} saved.")
        for index, turn in done.lost:
            typer.echo(f"  lost: {turn or (f't{index}' if index >= 0 else 'a turn at the end')}")
        typer.echo(f"The damaged file is kept as {done.damaged_file}.")
    raise typer.Exit(1 if done.lost else 0)


@app.command(rich_help_panel=CHANGE)
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

    done = with_memory(_options, work)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(f"The head is now {done.head}. The previous head, {done.previous_head}, is kept.")


@app.command(rich_help_panel=CHANGE)
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

    info = with_memory(_options, work)
    expires_at = iso(info.expires)
    if as_json:
        print_json({
            "conversation_id": info.conversation_id, "retention_days": info.retention_days, "expires_at": expires_at,
        })  # fmt: skip
    else:
        days_kept = output.counted(info.retention_days, "day")
        typer.echo(f"{info.conversation_id} is kept for {days_kept} after its last append, until {expires_at}.")


@app.command(rich_help_panel=CHANGE)
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

    async def find(memory: Memory) -> str:
        return await resolve_conversation(memory, conversation)

    found = with_memory(_options, find)
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

    receipt = with_memory(_options, work)
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


# ---------------------------------------------------------------- serve


@app.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    rich_help_panel=SERVER,
)
def serve(context: typer.Context) -> None:
    """Serve MCP over stdio or HTTP; see `serve --help`."""
    from ctxmem_mcp.serve import args

    before = [] if _options.data_dir is None else [f"--data-dir={_options.data_dir}"]
    raise typer.Exit(args.run([*before, *([f"--config={_options.config}"] if _options.config else []), *context.args]))


@app.command(rich_help_panel=SERVER)
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
