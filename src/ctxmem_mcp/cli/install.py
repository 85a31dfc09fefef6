"""`install`, `uninstall` and `doctor`: registering with agents, taking it back, and looking whether it works."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from ctxmem_mcp.cli.doctor import run as run_doctor
from ctxmem_mcp.cli.runner import GlobalOptions
from ctxmem_mcp.errors import ConfigRefused, InvalidArgument
from ctxmem_mcp.install import apply
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.apply import Change
from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.host_paths import HostPaths, system_of
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.install.server_entry import PROGRAM, ServerCommand
from ctxmem_mcp.settings import SETTINGS

Names = Annotated[
    list[str] | None, typer.Argument(metavar="AGENT...", help=f"{', '.join(AGENTS)}.", show_default=False)
]
All = Annotated[bool, typer.Option("--all", help="All that are there.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")]
Project = Annotated[bool, typer.Option("--project", help="In this folder's project, not for all of them.")]


def add_to(app: typer.Typer, options: GlobalOptions) -> None:
    """Adds the three commands."""

    @app.command()
    def install(
        agents: Names = None,
        every: All = False,
        dry_run: DryRun = False,
        data_dir: Annotated[
            str | None, typer.Option(metavar="<path>", help="The folder the agent's memory is kept in.")
        ] = None,
        no_hooks: Annotated[bool, typer.Option("--no-hooks", help="Only the server: nothing is captured.")] = False,
        project: Project = False,
    ) -> None:
        """Register the server, and hooks where the agent has them. Shows each change, keeps a copy of each file."""
        given = options.data_dir if data_dir is None else data_dir
        folder = None if given is None else str(SETTINGS["data_dir"].parse(given, "--data-dir"))
        server = ServerCommand(_command(), folder, system_of(sys.platform))

        def edits_of(agent: Agent) -> list[ConfigEdit]:
            return [edit for edit in _edits(agent, project) if edit.role == "server" or not no_hooks]

        def plan(edits: list[ConfigEdit]) -> list[Change]:
            return apply.plan_install(edits, server)

        _for_each(_chosen_agents(agents, every, project), edits_of, plan, dry_run, done="is registered")

    @app.command()
    def uninstall(agents: Names = None, every: All = False, dry_run: DryRun = False, project: Project = False) -> None:
        """Take out what install put in; a file that is else untouched is as it was before."""
        chosen = _chosen_agents(agents, every, project)
        _for_each(chosen, lambda agent: _edits(agent, project), apply.plan_uninstall, dry_run, done="")

    @app.command()
    def doctor(
        as_json: Annotated[bool, typer.Option("--json", help="For scripts: JSON on standard output.")] = False,
    ) -> None:
        """Say what is registered where, whether it starts, and what is wrong. Exit code 1 when something is."""
        raise typer.Exit(run_doctor(host(), options, as_json))


def host() -> HostPaths:
    """This machine, seen from the current folder. Raises InvalidArgument if that was removed."""
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise InvalidArgument("the current folder", "no longer exists", "Change to one that does.") from error
    return HostPaths(system_of(sys.platform), Path.home(), here, dict(os.environ))


def _chosen_agents(names: list[str] | None, every: bool, project: bool) -> list[Agent]:
    """The agents that are meant. Raises InvalidArgument."""
    here = host()
    if every == bool(names):
        raise InvalidArgument("AGENT", "name agents, or say --all", f"Agents are {', '.join(AGENTS)}.")
    for name in names or ():
        if name not in AGENTS:
            raise InvalidArgument("AGENT", f"{name!r} is no agent that we know", f"Agents are {', '.join(AGENTS)}.")
        if project and not AGENTS[name].edits(here, project=True):
            raise InvalidArgument("--project", f"{AGENTS[name].title} keeps nothing in a project", "Leave it out.")
    if names:
        return [AGENTS[name] for name in dict.fromkeys(names)]
    found = [agent for agent in AGENTS.values() if agent.is_present(here)]
    return [agent for agent in found if not project or agent.edits(here, project=True)]


def _edits(agent: Agent, project: bool) -> list[ConfigEdit]:
    return agent.edits(host(), project=project)


def _for_each(
    agents: list[Agent],
    edits_of: Callable[[Agent], list[ConfigEdit]],
    plan: Callable[[list[ConfigEdit]], list[Change]],
    dry_run: bool,
    done: str,
) -> None:
    """Does for each agent what is planned for it; one that can't be done keeps none of the others back."""
    refused = False
    if not agents:
        typer.echo(f"None of the agents is there: {', '.join(AGENTS)}. Name one to do it all the same.")
    for agent in agents:
        try:
            edits = edits_of(agent)
            _apply_changes(agent, edits, plan(edits), dry_run, done)
        except ConfigRefused as error:
            refused = True
            typer.echo(f"{PROGRAM}: {agent.title}: {error}", err=True)
    raise typer.Exit(1 if refused else 0)


def _apply_changes(agent: Agent, edits: list[ConfigEdit], changes: list[Change], dry_run: bool, done: str) -> None:
    for change in changes:
        typer.echo(change.diff())
        if dry_run:
            continue
        kept = apply.apply_change(change, datetime.now())
        verb = "Removed" if change.after is None else "Made" if change.before is None else "Changed"
        typer.echo(f"{verb} {change.path}" + (f"; as it was before: {kept}" if kept else ""))
    if dry_run:
        files = "1 file" if len(changes) == 1 else f"{len(changes)} files"
        typer.echo(f"{agent.title}: {f'{files} would change' if changes else 'nothing to change'}.")
    elif not changes:
        typer.echo(f"{agent.title}: {f'{done} already' if done else 'has nothing of ours'}; nothing changed.")
    else:
        typer.echo(f"{agent.title}: {f'{done}. {agent.next_steps(edits)}' if done else 'as it was without us.'}")


def _command() -> str:
    """The absolute path of this command, as an agent has to start it. Raises InvalidArgument."""
    ran, beside = Path(sys.argv[0]), Path(sys.executable).parent
    candidates = [str(ran.absolute())] if ran.name.startswith(PROGRAM) else []
    candidates += [str(beside / PROGRAM), PROGRAM]
    for candidate in candidates:
        if found := shutil.which(candidate):
            return os.path.abspath(found)
    raise InvalidArgument(
        PROGRAM, "is not installed as a command", f"Run `pip install .` in an environment that stays; tried {beside}."
    )
