"""The commands that read: list, show, context, expand, search, hand-off, verify."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console

from ctxmem_mcp.capture import unrecognised
from ctxmem_mcp.cli import conversation_table, output
from ctxmem_mcp.cli.options import (
    HOOK_AGENTS,
    OPTIONS,
    READ,
    Budget,
    Conversation,
    ConversationOrQuery,
    InProject,
    Json,
    OptionalConversation,
    Svg,
)
from ctxmem_mcp.cli.output import print_json, print_view
from ctxmem_mcp.cli.runner import resolve_conversation, with_memory
from ctxmem_mcp.errors import CtxmemError, InvalidArgument, with_name
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.projects import find_project
from ctxmem_mcp.results import ConversationPage, OutlineNode, SearchResult, View
from ctxmem_mcp.text.visible import visible

commands = typer.Typer()


@commands.command("list", rich_help_panel=READ)
def list_(
    limit: Annotated[
        int | None,
        typer.Option(metavar="COUNT", min=1, help=f"Maximum number to list; default: {conversation_table.LISTED}."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="List all, with those of sub-agents.")] = False,
    project: InProject = None,
    space: Annotated[
        str | None, typer.Option(metavar="SPACE", help="Only those in this space.", show_default=False)
    ] = None,
    agent: Annotated[
        str | None, typer.Option(metavar="AGENT", help=f"Only sessions of this agent: {', '.join(HOOK_AGENTS)}.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the conversations, last active first.

    A session was active when its last turn happened, not when it was imported. Conversations of sub-agents are counted
    at their session's. JSON lists all that fit the options, unless `--limit` is given.
    """
    in_project = None if project is None else find_project(project)

    async def work(memory: Memory) -> tuple[ConversationPage, int]:
        return await memory.conversations(limit=sys.maxsize, project=in_project), await memory.count_expired()

    page, expired = with_memory(OPTIONS, work)
    found = conversation_table.select(page.conversations, space=space, agent=agent)
    for path, reason in page.unreadable.items():
        output.write(f"ctxmem-mcp: not listed, because it can't be read: {with_name(path, reason)}", sys.stderr)
    if lost := unrecognised.count(OPTIONS.settings().data_dir):
        events = output.counted(lost, "event")
        typer.echo(f"ctxmem-mcp: {events} of agents' hooks can't be read; `ctxmem-mcp doctor` says which", err=True)
    if expired:
        typer.echo(f"ctxmem-mcp: {output.hidden_by_expiry(expired)}", err=True)
    if as_json:
        print_json([asdict(info) for info in found[:limit]])
    elif found:
        listed = (
            [conversation_table.Listed(info) for info in found]
            if everything
            else conversation_table.fold_subagents(found)
        )
        shown = listed[: limit or (None if everything else conversation_table.LISTED)]
        conversation_table.print_conversations(output.console(), shown)
        if len(shown) < len(listed):
            typer.echo(f"{len(listed) - len(shown):,} more: --all, or --limit COUNT.")
    elif page.conversations or project is not None:
        typer.echo(f"None of {output.counted(len(page.conversations), 'conversation')} fits these options.")
    elif not page.unreadable and not expired:
        typer.echo("No conversations yet. `ctxmem-mcp import --all` imports your agents' sessions.")


@commands.command(rich_help_panel=READ)
def show(
    conversation: Conversation,
    depth: Annotated[
        int | None, typer.Option(metavar="LEVELS", min=0, help="Levels below the roots; default: all.")
    ] = None,
    titles: Annotated[bool, typer.Option("--titles", help="Show only the titles of sections.")] = False,
    turn: Annotated[str | None, typer.Option(metavar="TURN", help="Show the tree as of this turn.")] = None,
    svg: Svg = None,
    as_json: Json = False,
) -> None:
    """Draw the tree of a conversation."""

    async def work(memory: Memory) -> tuple[Any, list[OutlineNode]]:
        found = await resolve_conversation(memory, conversation)
        return await memory.info(found), await memory.outline(found, turn_id=turn, depth=depth)

    info, roots = with_memory(OPTIONS, work)
    if as_json:
        print_json({"conversation_id": info.conversation_id, "roots": [asdict(root) for root in roots]})
        return

    def draw(out: Console) -> None:
        out.print(output.draw_tree(info.title, roots, titles_only=titles, clean=visible if svg else None))
        size = f"{output.counted(info.turns, 'turn')} · {output.short(info.tokens)} tokens"
        out.print(f"{info.conversation_id} · {size}", style="dim")

    if svg is not None:
        from ctxmem_mcp.cli.svg import write_svg

        write_svg(svg, f"ctxmem-mcp show {info.conversation_id}", draw)
    else:
        draw(output.console())


@commands.command(rich_help_panel=READ)
def context(
    conversation: ConversationOrQuery = None,
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="What you need to know.", show_default=False)
    ] = None,
    budget: Budget = 8_000,
    layout: Annotated[
        str, typer.Option(metavar="LAYOUT", help="`tree`, or `stable` for a provider's prompt cache.")
    ] = "tree",
    turn: Annotated[str | None, typer.Option(metavar="TURN", help="Show the view as of this turn.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print why each turn was chosen, to stderr.")] = False,
    project: InProject = None,
    as_json: Json = False,
) -> None:
    """Print the view that an agent gets for a query.

    The view is an outline of the whole conversation, in which the sections that matter to the query are expanded to
    verbatim turns. With `--project` it is of all conversations in a folder, and the only argument is the query.
    """
    if project is not None:
        asked = _only_query(conversation, query, turn=turn, explain=explain, layout=layout)
        found = find_project(project)
        print_view(with_memory(OPTIONS, lambda m: m.project_view(found, query=asked, token_budget=budget)), as_json)
        return
    if conversation is None:
        raise InvalidArgument("ID", "is missing", "Name a conversation, or pass --project DIR.")
    if layout not in ("tree", "stable"):
        raise InvalidArgument("--layout", f"must be one of tree, stable; got {layout!r}")

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.view(found, query=query, token_budget=budget, turn_id=turn, layout=layout, explain=explain)

    print_view(with_memory(OPTIONS, work), as_json)


@commands.command(rich_help_panel=READ)
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

    print_view(with_memory(OPTIONS, work), as_json)


@commands.command(rich_help_panel=READ)
def search(
    query: Annotated[str, typer.Argument(metavar="QUERY", help="Words, names or error text.", show_default=False)],
    conversation: Annotated[
        str | None, typer.Option("--conversation", "-c", metavar="ID", help="Search only this conversation.")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, max=100, help="Maximum number of turns to print.")] = 10,
    project: InProject = None,
    agent: Annotated[
        str | None, typer.Option(metavar="AGENT", help=f"Only sessions of this agent: {', '.join(HOOK_AGENTS)}.")
    ] = None,
    role: Annotated[str | None, typer.Option(metavar="ROLE", help="user, assistant, system or tool.")] = None,
    since: Annotated[str | None, typer.Option(metavar="TIME", help="Earliest time of a turn, in ISO 8601.")] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Latest time of a turn, in ISO 8601.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Print each turn's score and why.")] = False,
    as_json: Json = False,
) -> None:
    """Find turns by words, names or error text, best first.

    A turn without a time of its own has the time at which it was stored.
    """

    in_project = None if project is None else find_project(project)

    async def work(memory: Memory) -> SearchResult:
        found = None if conversation is None else await resolve_conversation(memory, conversation)
        return await memory.search(
            query,
            conversation_id=found,
            project=in_project,
            agent=agent,
            limit=limit,
            role=role,
            since=since,
            until=until,
            explain=explain,
        )

    result = with_memory(OPTIONS, work)
    if as_json:
        print_json([output.hit_record(hit) for hit in result])
    elif result:
        # A turn's id alone opens nothing if all conversations were searched.
        output.print_hits(output.console(), result, with_conversation=conversation is None)
    else:
        typer.echo("Nothing found.")
    if conversation is None:
        output.print_searched(result)


def _only_query(first: str | None, second: str | None, *, turn: str | None, explain: bool, layout: str) -> str | None:
    """Returns the query of a view of a project, which takes no options of a single conversation."""
    for option, given in (("QUERY", second), ("--turn", turn), ("--explain", explain), ("--layout", layout != "tree")):
        if given:
            raise InvalidArgument(option, "is not for --project", "With --project, the only argument is the query.")
    return first


@commands.command("hand-off", rich_help_panel=READ)
def hand_off(
    conversation: OptionalConversation = None,
    budget: Budget = 4_000,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="Your own note to the next run.")] = None,
    project: InProject = None,
    as_json: Json = False,
) -> None:
    """Print a brief for the next agent run.

    It lists the goal, the user's constraints, decisions, changes, errors and how they ended, and open work. With
    `--project` it is that of the newest session in a folder, and lists the sessions before.
    """
    if project is not None:
        in_project = find_project(project)
        brief = with_memory(OPTIONS, lambda m: m.project_hand_off(in_project, token_budget=budget, note=note))
        print_view(brief, as_json)
        return
    if conversation is None:
        raise InvalidArgument("ID", "is missing", "Name a conversation, or pass --project DIR.")

    async def work(memory: Memory) -> View:
        found = await resolve_conversation(memory, conversation)
        return await memory.hand_off(found, token_budget=budget, note=note)

    print_view(with_memory(OPTIONS, work), as_json)


@commands.command(rich_help_panel=READ)
def verify(
    conversations: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Default: all conversations.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Read everything that is stored, and recompute every hash of turns and nodes.

    Exits with code 1 if something is damaged or a file can't be read; `repair` saves all that can be read. A turn that
    a repair could not save is a warning.
    """

    async def work(memory: Memory) -> dict[str, tuple[list[str], list[str]]]:
        ids = [await resolve_conversation(memory, name) for name in conversations or ()]
        unreadable: dict[str, str] = {}
        if not ids:
            page = await memory.conversations(limit=sys.maxsize)
            ids, unreadable = [info.conversation_id for info in page.conversations], page.unreadable
        found = {conversation: await _faults(memory, conversation) for conversation in ids}
        return found | {path: ([reason], []) for path, reason in unreadable.items()}

    found = with_memory(OPTIONS, work)
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
