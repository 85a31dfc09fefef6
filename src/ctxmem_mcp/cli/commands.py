"""The commands, one function each."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ctxmem_mcp.agents import AGENTS
from ctxmem_mcp.cli import import_export, install, output
from ctxmem_mcp.cli.output import print_json, print_view
from ctxmem_mcp.cli.runner import GlobalOptions, resolve_conversation, with_memory
from ctxmem_mcp.errors import CtxmemError, InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import Hit, OutlineNode, View

app = typer.Typer(
    name="ctxmem-mcp",
    help="Lossless, hierarchical memory of conversations. Without a command it serves MCP over stdio.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
)
_options = GlobalOptions()
_HOOK_AGENTS = [agent.id for agent in AGENTS.values() if agent.events]

Conversation = Annotated[
    str, typer.Argument(help="An id, a beginning of it that only one has, or `last`.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="For scripts: JSON on standard output.")]
Budget = Annotated[int, typer.Option("--budget", "-b", min=1, help="Tokens that the answer may take.")]


def _version(asked: bool) -> None:
    if asked:
        from ctxmem_mcp import __version__

        typer.echo(f"ctxmem-mcp {__version__}")
        raise typer.Exit


@app.callback()
def common(
    data_dir: Annotated[
        # No Path: that makes the folder one is in of "", which a script passes for a variable that is not set.
        str | None, typer.Option(metavar="<path>", help="The folder conversations are kept in.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="A config file other than the platform's.")] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Says the version.")
    ] = False,
) -> None:
    _options.data_dir, _options.config = data_dir, config


@app.command(context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []})
def serve(context: typer.Context) -> None:
    """Serve MCP: over stdio for the agent that starts it, or with --transport http. `serve --help` says more."""
    from ctxmem_mcp.serve import args

    before = [] if _options.data_dir is None else [f"--data-dir={_options.data_dir}"]
    raise typer.Exit(args.run([*before, *([f"--config={_options.config}"] if _options.config else []), *context.args]))


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Who will ask with it.", show_default=False)], as_json: Json = False
) -> None:
    """Make a token for the HTTP service: said once, and the line that goes into CTXMEM_TOKENS_FILE."""
    from ctxmem_mcp.http_api.auth.static_tokens import new_token

    made, line = new_token(name)
    if as_json:
        print_json({"token": made, "line": line})
    else:
        typer.echo(
            f"The token, which is not kept anywhere:\n\n    {made}\n\nThe line for CTXMEM_TOKENS_FILE:\n\n    {line}"
        )


# ---------------------------------------------------------------- in


@app.command("import")
def import_(
    paths: Annotated[list[Path] | None, typer.Argument(help="Transcripts, or folders.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="All that agents keep on this machine.")] = False,
    retention_days: Annotated[int | None, typer.Option(min=1, max=365, help="Days kept; 30 unless set.")] = None,
    as_json: Json = False,
) -> None:
    """Bring in transcripts: Claude Code, Codex, OpenAI messages, JSON Lines of turns and more. What is known stays."""
    if everything == bool(paths):
        raise InvalidArgument("PATH", "or --all is needed, and one of them alone", "For example: import --all.")
    if everything:
        import_export.import_all(_options, retention_days, as_json)
    else:
        raise typer.Exit(import_export.import_paths(_options, paths or (), retention_days, as_json))


@app.command("export")
def export_(
    conversation: Conversation,
    path: Annotated[Path | None, typer.Argument(help="Default: its id and .ctxmem.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Write a conversation to one file, with its branches, for another machine or run to import."""
    import_export.export(_options, conversation, path, force, as_json)


@app.command()
def watch(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Default: all agents' folders.", show_default=False)
    ] = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = import_export.POLL_SECONDS,
    as_json: Json = False,
) -> None:
    """Follow transcripts as they grow, until control-C: for agents without hooks."""
    import_export.watch(_options, paths or [], every, as_json)


@app.command(context_settings={"ignore_unknown_options": True})
def hook(
    agent: Annotated[str, typer.Argument(help=f"{', '.join(_HOOK_AGENTS)}.")],
    event: Annotated[str | None, typer.Argument(help="The event, where it is not on stdin.")] = None,
) -> None:
    """What an agent calls at its events, with the event on stdin. Answers at once, always with exit code 0."""
    from ctxmem_mcp.hooks import entry

    before = ["--data-dir", _options.data_dir] if _options.data_dir else []
    entry.run([*before, agent, *([event] if event else [])])


# ---------------------------------------------------------------- out


@app.command("list")
def list_(as_json: Json = False) -> None:
    """The conversations, last active first."""
    found = with_memory(_options, Memory.all_conversations)
    if as_json:
        print_json([asdict(info) for info in found])
    elif found:
        output.listed(output.console(), found)
    else:
        typer.echo("No conversations yet. `ctxmem-mcp import PATH` brings in transcripts; `ctxmem-mcp demo` shows one.")


@app.command()
def show(
    conversation: Conversation,
    depth: Annotated[int | None, typer.Option(min=0, help="Levels under the roots; default: all.")] = None,
    titles: Annotated[bool, typer.Option("--titles", help="Only the titles of sections.")] = False,
    turn: Annotated[str | None, typer.Option(help="The tree as of that turn.")] = None,
    as_json: Json = False,
) -> None:
    """Draw the tree of a conversation."""

    async def work(memory: Memory) -> tuple[Any, list[OutlineNode]]:
        found = await resolve_conversation(memory, conversation)
        return await memory.info(found), await memory.outline(found, turn_id=turn, depth=depth)

    state, roots = with_memory(_options, work)
    if as_json:
        print_json({"conversation_id": state.conversation_id, "roots": [asdict(root) for root in roots]})
        return
    out = output.console()
    out.print(output.tree_of(state.title, roots, titles_only=titles))
    size = f"{output.counted(state.turns, 'turn')} · {output.short(state.tokens)} tokens"
    out.print(f"{state.conversation_id} · {size}", style="dim")


@app.command()
def context(
    conversation: Conversation,
    query: Annotated[str | None, typer.Argument(help="What you need to know.", show_default=False)] = None,
    budget: Budget = 8_000,
    layout: Annotated[str, typer.Option(help="tree, or stable for prompt caches.")] = "tree",
    turn: Annotated[str | None, typer.Option(help="The view as of that turn.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Say why each turn was chosen.")] = False,
    as_json: Json = False,
) -> None:
    """The view that an agent gets: everything in outline, what matters to the query opened."""
    if layout not in ("tree", "stable"):
        raise InvalidArgument("--layout", f"is {layout!r}; takes tree or stable")

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.view(found, query=query, token_budget=budget, turn_id=turn, layout=layout, explain=explain)

    print_view(with_memory(_options, work), as_json)


@app.command()
def expand(
    conversation: Conversation,
    node: Annotated[str, typer.Argument(help="A node n40-55-213, a turn t41-837, a span t42-t47.")],
    budget: Budget = 4_000,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    as_json: Json = False,
) -> None:
    """Open a node or a turn, down to the verbatim text."""

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.expand(found, node, token_budget=budget, cursor=cursor)

    print_view(with_memory(_options, work), as_json)


@app.command("hand-off")
def hand_off(
    conversation: Conversation,
    budget: Budget = 4_000,
    note: Annotated[str | None, typer.Option(help="A word of your own to the next run.")] = None,
    as_json: Json = False,
) -> None:
    """A brief for the next run: goal, terms, decisions, changes, errors and endings, what is open."""

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.hand_off(found, token_budget=budget, note=note)

    print_view(with_memory(_options, work), as_json)


@app.command()
def search(
    query: Annotated[str, typer.Argument(help="What to look for.", show_default=False)],
    conversation: Annotated[str | None, typer.Option("--conversation", "-c", help="Default: all of them.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 10,
    role: Annotated[str | None, typer.Option(help="user, assistant, system or tool.")] = None,
    since: Annotated[str | None, typer.Option(help="ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(help="ISO 8601.")] = None,
    as_json: Json = False,
) -> None:
    """Turns that speak of something, best first."""

    async def work(memory: Memory) -> list[Hit]:
        found = None if conversation is None else await resolve_conversation(memory, conversation)
        return await memory.search(query, conversation_id=found, limit=limit, role=role, since=since, until=until)

    hits = with_memory(_options, work)
    if as_json:
        print_json([asdict(hit) for hit in hits])
        return
    out = output.console()
    for hit in hits:
        # Where all were searched, a turn's id alone opens nothing.
        where = hit.conversation_id if conversation is None else None
        said = " ".join(part for part in (where, hit.turn_id, hit.role, hit.name, hit.said_at) if part)
        out.print(f"{said}  {' > '.join(hit.path)}  {output.short(hit.tokens)} tokens", style="bold", markup=False)
        out.print(f"  {hit.snippet}", markup=False)
        out.print(f"  why: {', '.join(hit.why)}", style="dim", markup=False)
    if not hits:
        typer.echo("Nothing found.")


# ---------------------------------------------------------------- changing


@app.command()
def revert(
    conversation: Conversation, turn: Annotated[str, typer.Argument(help="t41-837")], as_json: Json = False
) -> None:
    """Move the head to a turn; nothing is deleted, and reverting to the previous head undoes it."""

    async def work(memory: Memory) -> Any:
        return await memory.revert(await resolve_conversation(memory, conversation), turn)

    done = with_memory(_options, work)
    if as_json:
        print_json(asdict(done))
    else:
        typer.echo(f"The head is {done.head}; before it was {done.previous_head}, which is kept.")


@app.command()
def forget(
    conversation: Conversation,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove every byte of a conversation. Can't be undone."""

    async def find(memory: Memory) -> str:
        return await resolve_conversation(memory, conversation)

    found = with_memory(_options, find)
    if not yes:
        if not sys.stdin.isatty():
            raise InvalidArgument("--yes", "is needed where nobody can be asked", f"It would forget {found}.")
        typer.confirm(f"Forget {found}? This can't be undone.", abort=True)

    async def work(memory: Memory) -> Any:
        return await memory.forget(found, found)

    receipt = with_memory(_options, work)
    if as_json:
        print_json(asdict(receipt))
        return
    turns, nodes = output.counted(receipt.turns, "turn"), output.counted(receipt.nodes, "node")
    typer.echo(f"Forgot {found}: {turns}, {nodes}, {receipt.bytes:,} bytes.")
    for checked in receipt.checked:
        typer.echo(f"  checked: {checked}")
    for other in receipt.others:
        typer.echo(f"  still there, of a sub-agent of it: {other}")


@app.command()
def retention(
    conversation: Conversation,
    days: Annotated[int | None, typer.Argument(min=1, max=365, help="Days after its last append.")] = None,
    as_json: Json = False,
) -> None:
    """Say, or set, how long a conversation is kept after its last append."""

    async def work(memory: Memory) -> Any:
        found = await resolve_conversation(memory, conversation)
        return await (memory.info(found) if days is None else memory.set_retention(found, days))

    from ctxmem_mcp.models import iso

    state = with_memory(_options, work)
    told = {
        "conversation_id": state.conversation_id, "retention_days": state.retention_days,
        "expires_at": iso(state.expires),
    }  # fmt: skip
    if as_json:
        print_json(told)
    else:
        kept = output.counted(state.retention_days, "day")
        typer.echo(f"{state.conversation_id} is kept {kept}, until {told['expires_at']}.")


@app.command()
def verify(
    conversations: Annotated[list[str] | None, typer.Argument(help="Default: all of them.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Recompute every hash of stored turns and nodes. Exit code 1 when something is wrong."""

    async def work(memory: Memory) -> dict[str, list[str]]:
        named = [await resolve_conversation(memory, given) for given in conversations or ()]
        wanted = named or [info.conversation_id for info in await memory.all_conversations()]
        return {conversation: await _faults(memory, conversation) for conversation in wanted}

    found = with_memory(_options, work)
    if as_json:
        print_json(found)
    else:
        for conversation, faults in found.items():
            typer.echo(f"{conversation}: {'all is well' if not faults else ''}".rstrip(" "))
            for fault in faults:
                typer.echo(f"  {fault}")
        typer.echo(f"{len(found)} verified, {sum(map(bool, found.values()))} with faults.")
    raise typer.Exit(1 if any(found.values()) else 0)


async def _faults(memory: Memory, conversation: str) -> list[str]:
    try:
        return await memory.verify(conversation)
    except CtxmemError as error:
        return [str(error)]


@app.command()
def demo() -> None:
    """Run the example session: its tree, a question, and what an agent is shown. Leaves nothing behind."""
    from ctxmem_mcp.cli import demo as shown

    shown.run()


install.add_to(app, _options)
