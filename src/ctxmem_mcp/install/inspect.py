"""What is registered where, and what is wrong with it."""

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
    """What is wrong, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class RegisteredServer:
    """A server as it is registered in one file, and what came of starting it."""

    path: Path
    entry: FoundEntry
    probe: ProbeResult
    in_project: bool = False

    @property
    def data_dir(self) -> str | None:
        """The data folder it uses; None: the usual one."""
        return _data_dir(self.entry)


@dataclass(frozen=True, slots=True)
class RegisteredHook:
    """A hook as it is registered in one file. program: what its shell will start."""

    path: Path
    entry: FoundEntry
    program: str
    in_project: bool = False

    @property
    def data_dir(self) -> str | None:
        """The data folder it writes to; None: the usual one."""
        return _data_dir(self.entry)


@dataclass(slots=True)
class AgentReport:
    """An agent, seen from here. A remark is no fault."""

    agent: str
    title: str
    present: bool
    servers: list[RegisteredServer] = field(default_factory=list)
    hooks: list[RegisteredHook] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def data_dirs(self) -> list[str]:
        """The data folders that its servers and hooks were told to use instead of the usual one."""
        named = [*(server.data_dir for server in self.servers), *(hook.data_dir for hook in self.hooks)]
        return list(dict.fromkeys(data_dir for data_dir in named if data_dir))


def inspect_agent(
    agent: Agent, host: HostPaths, probe: Callable[[FoundEntry], ProbeResult] | None = None
) -> AgentReport:
    """Reads the agent's files, the user's and this project's, and starts what is registered."""
    report = AgentReport(agent.name, agent.title, agent.is_present(host))
    # Who stands in the home folder has the same files twice.
    user_edits = agent.edits(host, project=False)
    all_edits = [*user_edits, *agent.edits(host, project=True)]
    edits = list({edit.path: edit for edit in reversed(all_edits)}.values())[::-1]
    user_paths = {edit.path for edit in user_edits}
    probe = probe or (lambda found: probe_server(found.command, {**host.environ, **found.environment}))
    probes: dict[tuple[object, ...], ProbeResult] = {}
    for edit in edits:
        in_project = edit.path not in user_paths
        for found in _find_entries(edit, report):
            if edit.role == "hooks":
                report.hooks.append(RegisteredHook(edit.path, found, _expand(found.command[0], host), in_project))
                continue
            key = (found.command, *sorted(found.environment.items()))
            probes[key] = probes.get(key) or probe(found)
            report.servers.append(RegisteredServer(edit.path, found, probes[key], in_project))
    _check(report, edits)
    _remark_foreign_servers(report, agent, host)
    return report


def _remark_foreign_servers(report: AgentReport, agent: Agent, host: HostPaths) -> None:
    """What the agent's own command registered for one folder: it goes before ours there, whatever ours says."""
    for edit in agent.foreign_servers(host):
        with suppress(CannotEdit):  # told of the file already
            for found in edit.find(config_files.read(edit.path)):
                report.remarks.append(
                    f"server {found.where} in {edit.path} holds in {host.project} before any other; "
                    f"`{agent.foreign_removal_command}` takes it out"
                )


def _find_entries(edit: ConfigEdit, report: AgentReport) -> list[FoundEntry]:
    try:
        text = config_files.read(edit.path)
        found = edit.find(text)
    except CannotEdit as why:
        report.faults.append(Fault(f"{edit.path} {why}", "Mend the file; its agent may not read it either."))
        return []
    try:
        edit.data_dir(text)
    except CannotEdit as why:
        report.remarks.append(f"{edit.path} {why}, then run `ctxmem-mcp install {report.agent}`")
    return found


def _expand(program: str, host: HostPaths) -> str:
    """A hook's program as its shell will read it."""
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
    if unclear:  # What can't be read, or is somebody else's, says nothing of what is registered.
        return
    if report.present and not report.servers:
        report.remarks.append(f"not registered; `{install}` does it")
    elif report.servers and not report.hooks and _has(edits, "hooks"):
        report.remarks.append(f"no hooks, so nothing is captured by itself; `{install}` registers them")


def _check_probe(report: AgentReport, server: RegisteredServer, install: str) -> None:
    if server.probe.fault:
        what = f"`{' '.join(server.entry.command)}` in {server.path} {server.probe.fault}"
        remedy = f"run `{_reinstall_command(install, [server])}`."
        if server.probe.said:
            what, remedy = f"{what}, saying: {server.probe.said.rstrip('.')}", f"put that right, or {remedy}"
        report.faults.append(Fault(what, remedy[0].upper() + remedy[1:]))


def _reinstall_command(install: str, entries: Sequence[RegisteredServer | RegisteredHook]) -> str:
    """The command that brings these up to date: in the project, if they are all of it."""
    return f"{install} --project" if all(one.in_project for one in entries) else install


def _check_duplicate_servers(report: AgentReport) -> None:
    seen = Counter((server.path, server.data_dir) for server in report.servers)
    for (path, _), count in seen.items():
        if count > 1:
            report.faults.append(Fault(f"{path} has the server {count} times", "Take all but one out of it."))


def _remark_disabled(report: AgentReport) -> None:
    """What a person switched off is no fault, but starts nothing."""
    for server in report.servers:
        if server.entry.off:
            report.remarks.append(f"server {server.entry.where} in {server.path} is switched off there")
    for path in dict.fromkeys(hook.path for hook in report.hooks if hook.entry.off):
        report.remarks.append(f"hooks in {path} are switched off there")


def _check_hooks(report: AgentReport, edits: Iterable[ConfigEdit], install: str) -> None:
    if not report.hooks:
        return
    _check_duplicate_hooks(report, install)
    events = {hook.entry.where for hook in report.hooks}
    if missing := [event for event in _events(edits) if event not in events]:
        report.faults.append(
            Fault(f"no hook for {', '.join(missing)}", f"Run `{_reinstall_command(install, report.hooks)}`.")
        )
    for program in sorted({hook.program for hook in report.hooks}):
        if shutil.which(program) is None:
            remedy = f"Run `{_reinstall_command(install, [hook for hook in report.hooks if hook.program == program])}`."
            report.faults.append(Fault(f"the hooks call {program}, which is not there", remedy))
    _check_data_dirs(report, install)


def _check_duplicate_hooks(report: AgentReport, install: str) -> None:
    """Within one file, installing again mends it; hooks of the user and of the project both run."""
    counts = Counter(hook.entry.where for hook in report.hooks)
    twice = sorted(event for event, count in counts.items() if count > 1)
    if not twice:
        return
    in_one_file = Counter((hook.entry.where, hook.path) for hook in report.hooks)
    doubled = [hook for hook in report.hooks if in_one_file[hook.entry.where, hook.path] > 1]
    files_with = ", ".join(sorted({str(hook.path) for hook in report.hooks}))
    what = f"hooks are registered more than once for {', '.join(twice)} ({files_with})"
    mended = _reinstall_command(install, doubled) if doubled else f"ctxmem-mcp uninstall {report.agent} --project"
    report.faults.append(Fault(what, f"Run `{mended}`."))


def _check_data_dirs(report: AgentReport, install: str) -> None:
    """Hooks that write where the server does not read are worth nothing."""
    read = {server.data_dir for server in report.servers}
    unread = [hook for hook in report.hooks if hook.data_dir not in read]
    if read and unread:
        usual = "the usual folder"
        what = f"the hooks write to {', '.join(sorted({hook.data_dir or usual for hook in report.hooks}))}"
        what += f", the server reads {', '.join(sorted(one or usual for one in read))}"
        report.faults.append(Fault(what, f"Run `{_reinstall_command(install, unread)} --data-dir DIR`."))


def _data_dir(found: FoundEntry) -> str | None:
    data_dir = data_dir_of({"args": list(found.command), "env": found.environment})
    return with_forward_slashes(data_dir) if data_dir else None


def _events(edits: Iterable[ConfigEdit]) -> list[str]:
    """The events that hooks are to be registered for."""
    names: dict[str, None] = {}
    for edit in edits:
        if edit.role == "hooks":
            names |= dict.fromkeys(edit.agent.events if isinstance(edit, JsonHooks) else [edit.path.name])
    return list(names)


def _has(edits: Iterable[ConfigEdit], role: Role) -> bool:
    return any(edit.role == role for edit in edits)
