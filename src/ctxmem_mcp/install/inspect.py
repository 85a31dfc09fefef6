"""Finds the registered entries of each config file, and their problems."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from ctxmem_mcp.install import config_files
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import ConfigEdit, FoundEntry, Role
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.probe import ProbeResult, probe_server
from ctxmem_mcp.install.server_entry import data_dir_of, with_forward_slashes


@dataclass(frozen=True, slots=True)
class Fault:
    """A problem and its remedy."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class RegisteredServer:
    """A server that is registered in one file.

    Attributes:
        path: the file.
        entry: the entry in the file.
        probe: what came of starting its command.
        in_project: whether it is a project's file.
    """

    path: Path
    entry: FoundEntry
    probe: ProbeResult
    in_project: bool = False

    @property
    def data_dir(self) -> str | None:
        """The data folder it uses; None for the default one."""
        return _data_dir(self.entry)


@dataclass(frozen=True, slots=True)
class RegisteredHook:
    """A hook that is registered in one file.

    Attributes:
        path: the file.
        entry: the entry in the file.
        program: the program that its shell starts.
        in_project: whether it is a project's file.
    """

    path: Path
    entry: FoundEntry
    program: str
    in_project: bool = False

    @property
    def data_dir(self) -> str | None:
        """The data folder it writes to; None for the default one."""
        return _data_dir(self.entry)


@dataclass(slots=True)
class AgentReport:
    """What was found for one agent. Faults are problems; remarks are not."""

    agent: str
    title: str
    present: bool
    servers: list[RegisteredServer] = field(default_factory=list)
    hooks: list[RegisteredHook] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def data_dirs(self) -> list[str]:
        """Returns the data folders that its servers and hooks name instead of the default one."""
        named = [*(server.data_dir for server in self.servers), *(hook.data_dir for hook in self.hooks)]
        return list(dict.fromkeys(data_dir for data_dir in named if data_dir))


def inspect_agent(
    agent: Agent, host: HostPaths, probe: Callable[[FoundEntry], ProbeResult] | None = None
) -> AgentReport:
    """Reads the agent's files, the user's and this project's, and starts the registered servers.

    Args:
        agent: the agent.
        host: where its files are.
        probe: starts a server; by default `probe_server`, in the entry's environment.
    """
    report = AgentReport(agent.name, agent.title, agent.is_present(host))
    # In the home folder, the user's files and the project's are the same.
    user_edits = agent.edits(host, project=False)
    all_edits = [*user_edits, *agent.edits(host, project=True)]
    edits = list({(edit.path, edit.role): edit for edit in reversed(all_edits)}.values())[::-1]
    user_paths = {edit.path for edit in user_edits}
    probe = probe or (lambda entry: probe_server(entry.command, {**host.environ, **entry.environment}))
    probes: dict[tuple[object, ...], ProbeResult] = {}
    for edit in edits:
        in_project = edit.path not in user_paths
        for entry in _find_entries(edit, report):
            if edit.role == "hooks":
                report.hooks.append(RegisteredHook(edit.path, entry, _expand(entry.command[0], host), in_project))
                continue
            key = (entry.command, *sorted(entry.environment.items()))
            probes[key] = probes.get(key) or probe(entry)
            report.servers.append(RegisteredServer(edit.path, entry, probes[key], in_project))
    _check(report, edits)
    _remark_foreign_servers(report, agent, host)
    return report


def _remark_foreign_servers(report: AgentReport, agent: Agent, host: HostPaths) -> None:
    """Reports what the agent's own command registered for this folder: it takes precedence over our entry."""
    for edit in agent.foreign_servers(host):
        with suppress(CannotEdit):  # already a fault
            for entry in edit.find(config_files.read(edit.path)):
                report.remarks.append(
                    f"server {entry.where} in {edit.path} takes precedence in {host.project}; "
                    f"`{agent.foreign_removal_command}` removes it"
                )


def _find_entries(edit: ConfigEdit, report: AgentReport) -> list[FoundEntry]:
    try:
        text = config_files.read(edit.path)
        entries = edit.find(text)
    except CannotEdit as why:
        report.faults.append(Fault(f"{edit.path} {why}", "Repair the file; its agent may be unable to read it too."))
        return []
    try:
        edit.data_dir(text)
    except CannotEdit as why:
        report.remarks.append(f"{edit.path} {why}, then run `ctxmem-mcp install {report.agent}`")
    return entries


def _expand(program: str, host: HostPaths) -> str:
    """A hook's program after its shell's expansion."""
    named = Template(program).safe_substitute({"HOME": str(host.home), **host.environ})
    return f"{host.home}{named[1:]}" if named.startswith("~/") else named


def _check(report: AgentReport, edits: Iterable[ConfigEdit]) -> None:
    install = f"ctxmem-mcp install {report.agent}"
    unclear = bool(report.faults or report.remarks)
    for server in report.servers:
        _check_probe(report, server, install)
    _check_duplicate_servers(report)
    _check_hooks(report, edits, install)
    _remark_disabled(report)
    if unclear:  # A file that can't be read or edited may contain our entries.
        return
    if report.present and not report.servers:
        report.remarks.append(f"not registered; `{install}` registers it")
    elif report.servers and not report.hooks and _has(edits, "hooks"):
        report.remarks.append(f"no hooks, so nothing is captured automatically; `{install}` registers them")


def _check_probe(report: AgentReport, server: RegisteredServer, install: str) -> None:
    # A server that hangs would do so after another installation, too; doctor reports it once for all agents.
    if server.probe.fault and not server.probe.timed_out:
        what = f"`{' '.join(server.entry.command)}` in {server.path} {server.probe.fault}"
        remedy = f"run `{_reinstall_command(install, [server])}`."
        if server.probe.said:
            what, remedy = f"{what}, with the message: {server.probe.said.rstrip('.')}", f"correct that, or {remedy}"
        report.faults.append(Fault(what, remedy[0].upper() + remedy[1:]))


def _reinstall_command(install: str, entries: Sequence[RegisteredServer | RegisteredHook]) -> str:
    """The command that updates these entries: with --project if all of them are the project's."""
    return f"{install} --project" if all(one.in_project for one in entries) else install


def _check_duplicate_servers(report: AgentReport) -> None:
    seen = Counter((server.path, server.data_dir) for server in report.servers)
    for (path, _), count in seen.items():
        if count > 1:
            report.faults.append(Fault(f"{path} has the server {count} times", "Remove all but one."))


def _remark_disabled(report: AgentReport) -> None:
    """What the user disabled is not a fault, but it doesn't run."""
    for server in report.servers:
        if server.entry.off:
            report.remarks.append(f"server {server.entry.where} in {server.path} is disabled there")
    for path in dict.fromkeys(hook.path for hook in report.hooks if hook.entry.off):
        report.remarks.append(f"hooks in {path} are disabled there")


def _check_hooks(report: AgentReport, edits: Iterable[ConfigEdit], install: str) -> None:
    if not report.hooks:
        return
    _check_duplicate_hooks(report, install)
    events = {hook.entry.where for hook in report.hooks}
    if missing := [event for event in _events(edits) if event not in events]:
        report.faults.append(
            Fault(f"no hook for {', '.join(missing)}", f"Run `{_reinstall_command(install, report.hooks)}`.")
        )
    if early := [hook for hook in report.hooks if hook.entry.in_background]:
        what = f"outputs are not shortened: the agent does not wait for the hook for {early[0].entry.where}"
        report.faults.append(Fault(what, f"Run `{_reinstall_command(install, early)}`."))
    for program in sorted({hook.program for hook in report.hooks}):
        if shutil.which(program) is None:
            remedy = f"Run `{_reinstall_command(install, [hook for hook in report.hooks if hook.program == program])}`."
            report.faults.append(Fault(f"the hooks call {program}, which does not exist", remedy))
    _check_data_dirs(report, install)


def _check_duplicate_hooks(report: AgentReport, install: str) -> None:
    """Duplicates within one file are removed by installing again. The user's hooks and the project's both run."""
    counts = Counter(hook.entry.where for hook in report.hooks)
    repeated = sorted(event for event, count in counts.items() if count > 1)
    if not repeated:
        return
    in_one_file = Counter((hook.entry.where, hook.path) for hook in report.hooks)
    duplicates = [hook for hook in report.hooks if in_one_file[hook.entry.where, hook.path] > 1]
    files_with = ", ".join(sorted({str(hook.path) for hook in report.hooks}))
    what = f"hooks are registered more than once for {', '.join(repeated)} ({files_with})"
    uninstall = f"ctxmem-mcp uninstall {report.agent} --project"
    command = _reinstall_command(install, duplicates) if duplicates else uninstall
    report.faults.append(Fault(what, f"Run `{command}`."))


def _check_data_dirs(report: AgentReport, install: str) -> None:
    """The hooks must write to a folder that a server reads."""
    read = {server.data_dir for server in report.servers}
    unread = [hook for hook in report.hooks if hook.data_dir not in read]
    if read and unread:
        default = "the default folder"
        what = f"the hooks write to {', '.join(sorted({hook.data_dir or default for hook in report.hooks}))}"
        what += f", the server reads {', '.join(sorted(one or default for one in read))}"
        report.faults.append(Fault(what, f"Run `{_reinstall_command(install, unread)} --data-dir DIR`."))


def _data_dir(entry: FoundEntry) -> str | None:
    data_dir = data_dir_of({"args": list(entry.command), "env": entry.environment})
    return with_forward_slashes(data_dir) if data_dir else None


def _events(edits: Iterable[ConfigEdit]) -> list[str]:
    """The events that need a hook."""
    names: dict[str, None] = {}
    for edit in edits:
        if edit.role == "hooks":
            names |= dict.fromkeys(edit.events if isinstance(edit, JsonHooks) else [edit.path.name])
    return list(names)


def _has(edits: Iterable[ConfigEdit], role: Role) -> bool:
    return any(edit.role == role for edit in edits)
