"""The commands `install`, `uninstall` and `doctor`."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.doctor import run as run_doctor
from ctxmem_mcp.cli.output import counted
from ctxmem_mcp.cli.runner import GlobalOptions
from ctxmem_mcp.errors import ConfigRefused, InvalidArgument
from ctxmem_mcp.home_folder import has_home, home_folder
from ctxmem_mcp.install import apply
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.apply import Change
from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.host_paths import HostPaths, system_of
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.install.server_entry import PROGRAM, ServerCommand
from ctxmem_mcp.models import RETENTION_DAYS_DEFAULT
from ctxmem_mcp.settings import SETTINGS, Settings

Names = Annotated[list[str] | None, typer.Argument(metavar="AGENT", help=f"{', '.join(AGENTS)}.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="Every agent found on this machine.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would change, and change nothing.")]
Diff = Annotated[bool, typer.Option("--diff", help="Print each change of a file as a diff.")]
Project = Annotated[bool, typer.Option("--project", help="Only in the current folder's project.")]


RETENTION = (
    "What is captured is kept for as many days after its last turn as CTXMEM_RETENTION_DAYS says (default: "
    f"{RETENTION_DAYS_DEFAULT}); `ctxmem-mcp retention ID DAYS` changes it for one conversation."
)


class Output(NamedTuple):
    """What to print. dry_run: only the diffs, and nothing is changed. diff: also the diffs."""

    dry_run: bool
    diff: bool

    @property
    def has_diffs(self) -> bool:
        return self.dry_run or self.diff


def add_commands(app: typer.Typer, options: GlobalOptions, panel: str) -> None:
    """Adds the three commands under a heading of the command list."""

    @app.command(rich_help_panel=panel)
    def install(
        agents: Names = None,
        every: All = False,
        dry_run: DryRun = False,
        data_dir: Annotated[
            str | None, typer.Option(metavar="DIR", help="Folder that stores the conversations of these agents.")
        ] = None,
        no_hooks: Annotated[
            bool, typer.Option("--no-hooks", help="Register only the server; nothing is captured.")
        ] = False,
        project: Project = False,
        diff: Diff = False,
    ) -> None:
        """Register the server and the hooks with agents.

        Prints which files it changes, and keeps a backup of each.
        """
        given = options.data_dir if data_dir is None else data_dir
        folder = None if given is None else str(SETTINGS["data_dir"].parse(given, "--data-dir"))
        server = ServerCommand(_command(), folder, system_of(sys.platform))

        def edits_of(agent: Agent) -> list[ConfigEdit]:
            return [edit for edit in _edits(agent, project) if edit.role == "server" or not no_hooks]

        def plan(edits: list[ConfigEdit]) -> list[Change]:
            return apply.plan_install(edits, server)

        _for_each(_chosen_agents(agents, every, project), edits_of, plan, Output(dry_run, diff), installing=True)

    @app.command(rich_help_panel=panel)
    def uninstall(
        agents: Names = None,
        every: All = False,
        dry_run: DryRun = False,
        project: Project = False,
        diff: Diff = False,
    ) -> None:
        """Remove what `install` added.

        A file that has not been changed since `install` is restored exactly.
        """
        chosen = _chosen_agents(agents, every, project)
        shown = Output(dry_run, diff)
        _for_each(chosen, lambda agent: _edits(agent, project), apply.plan_uninstall, shown, installing=False)

    @app.command(rich_help_panel=panel)
    def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False) -> None:
        """Check the agents' configs, the server and the data.

        Prints which servers and hooks are registered in which file, and whether the servers start. Exits with code 1 if
        there is a problem.
        """
        raise typer.Exit(run_doctor(host(), options, as_json))


def host() -> HostPaths:
    """This machine, seen from the current folder. Raises InvalidArgument if that was removed."""
    try:
        here = Path.cwd()
    except FileNotFoundError as error:
        raise InvalidArgument("the current folder", "no longer exists", "Change to one that does.") from error
    return HostPaths(system_of(sys.platform), Path(home_folder()), here, dict(os.environ), _shortens_outputs())


def _shortens_outputs() -> bool:
    try:
        return Settings.load().output_tokens > 0
    except InvalidArgument:  # `doctor` reports it
        return False


def _chosen_agents(names: list[str] | None, every: bool, project: bool) -> list[Agent]:
    """The named agents, or with --all those found here. Raises InvalidArgument."""
    here = host()
    if not has_home():
        raise InvalidArgument("HOME", "is not set, and this user has no home folder", "Set HOME to the agents' user's.")
    if every == bool(names):
        raise InvalidArgument("AGENT", "give either agents or --all", f"Agents are {', '.join(AGENTS)}.")
    for name in names or ():
        if name not in AGENTS:
            raise InvalidArgument("AGENT", f"{name!r} is not a known agent", f"Agents are {', '.join(AGENTS)}.")
        if project and not AGENTS[name].edits(here, project=True):
            raise InvalidArgument("--project", f"{AGENTS[name].title} has no config of a project", "Leave it out.")
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
    shown: Output,
    installing: bool,
) -> None:
    """Plans and applies the changes of each agent; if one fails, the others are done all the same.

    What the user has to do next comes last.
    """
    refused = False
    next_steps: list[str] = []
    if not agents:
        typer.echo(f"No agent was found on this machine. To configure one anyway, name it: {', '.join(AGENTS)}.")
    for agent in agents:
        try:
            edits = edits_of(agent)
            if _apply_changes(agent, plan(edits), shown, installing) and installing:
                next_steps.append(f"{agent.title}: {agent.next_steps(edits)}")
        except ConfigRefused as error:
            refused = True
            typer.echo(f"{PROGRAM}: {agent.title}: {error}", err=True)
    if next_steps:
        typer.echo("\n".join(["", RETENTION, *next_steps]))
    raise typer.Exit(1 if refused else 0)


def _apply_changes(agent: Agent, changes: list[Change], shown: Output, installing: bool) -> bool:
    """Makes the changes and prints a line for each file. Returns whether any was made."""
    for change in changes:
        if shown.has_diffs:
            output.write(change.diff())
        if shown.dry_run:
            continue
        backup = apply.apply_change(change, datetime.now())
        verb = "Removed" if change.after is None else "Created" if change.before is None else "Changed"
        typer.echo(f"{verb} {change.path} ({change.size})" + (f"; backup: {backup}" if backup else ""))
    if shown.dry_run:
        files = counted(len(changes), "file")
        typer.echo(f"{agent.title}: {f'{files} would change' if changes else 'nothing to change'}.")
    elif not changes:
        typer.echo(f"{agent.title}: {'already registered' if installing else 'not registered'}; nothing changed.")
    else:
        typer.echo(f"{agent.title}: {'registered' if installing else 'no longer registered'}.")
    return bool(changes) and not shown.dry_run


def _command() -> str:
    """The absolute path with which agents start this command. Raises InvalidArgument."""
    started, beside = Path(sys.argv[0]), Path(sys.executable).parent
    candidates = [str(started.absolute())] if started.name.startswith(PROGRAM) else []
    candidates += [str(beside / PROGRAM), PROGRAM]
    for candidate in candidates:
        if found := shutil.which(candidate):
            return os.path.abspath(found)
    raise InvalidArgument(
        PROGRAM, "is not installed as a command", f"Install it in a permanent environment; it is not in {beside}."
    )
