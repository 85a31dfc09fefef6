"""What is registered where, and what is wrong with it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from ctxmem_mcp.install import config_files, probe
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.config_edits import Found, Part, Role
from ctxmem_mcp.install.errors import Unfit
from ctxmem_mcp.install.hook_edits import JsonHooks
from ctxmem_mcp.install.machine import Machine
from ctxmem_mcp.install.probe import Answer
from ctxmem_mcp.install.server_entry import data_dir_of, with_slashes


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, and what to do."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Registered:
    """A server as it is registered in one file, and what came of starting it."""

    path: Path
    found: Found
    answer: Answer
    of_project: bool = False

    @property
    def folder(self) -> str | None:
        """The data folder it uses; None: the usual one."""
        return _folder(self.found)


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook as it is registered in one file. program: what its shell will start."""

    path: Path
    found: Found
    program: str
    of_project: bool = False

    @property
    def folder(self) -> str | None:
        """The data folder it writes to; None: the usual one."""
        return _folder(self.found)


@dataclass(slots=True)
class Report:
    """An agent, seen from here. A remark is no fault."""

    agent: str
    title: str
    present: bool
    servers: list[Registered] = field(default_factory=list)
    hooks: list[Hook] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def folders(self) -> list[str]:
        """The data folders that its servers and hooks were told to use instead of the usual one."""
        named = [*(server.folder for server in self.servers), *(hook.folder for hook in self.hooks)]
        return list(dict.fromkeys(folder for folder in named if folder))


def look(agent: Agent, machine: Machine, ask: Callable[[Found], Answer] | None = None) -> Report:
    """Reads the agent's files, the user's and this project's, and starts what is registered."""
    report = Report(agent.name, agent.title, agent.is_present(machine))
    # Who stands in the home folder has the same files twice.
    own = agent.parts(machine, project=False)
    both = [*own, *agent.parts(machine, project=True)]
    parts = list({part.path: part for part in reversed(both)}.values())[::-1]
    users = {part.path for part in own}
    ask = ask or (lambda found: probe.ask(found.command, {**machine.environ, **found.environment}))
    answers: dict[tuple[object, ...], Answer] = {}
    for part in parts:
        of_project = part.path not in users
        for found in _found(part, report):
            if part.role == "hooks":
                report.hooks.append(Hook(part.path, found, _expanded(found.command[0], machine), of_project))
                continue
            key = (found.command, *sorted(found.environment.items()))
            answers[key] = answers.get(key) or ask(found)
            report.servers.append(Registered(part.path, found, answers[key], of_project))
    _judge(report, parts)
    _remark_others(report, agent, machine)
    return report


def _remark_others(report: Report, agent: Agent, machine: Machine) -> None:
    """What the agent's own command registered for one folder: it goes before ours there, whatever ours says."""
    for part in agent.others(machine):
        with suppress(Unfit):  # told of the file already
            for found in part.found(config_files.read(part.path)):
                report.remarks.append(
                    f"server {found.where} in {part.path} holds in {machine.project} before any other; "
                    f"`{agent.remove_others}` takes it out"
                )


def _found(part: Part, report: Report) -> list[Found]:
    try:
        text = config_files.read(part.path)
        found = part.found(text)
    except Unfit as why:
        report.faults.append(Fault(f"{part.path} {why}", "Mend the file; its agent may not read it either."))
        return []
    try:
        part.folder(text)
    except Unfit as why:
        report.remarks.append(f"{part.path} {why}, then run `ctxmem-mcp install {report.agent}`")
    return found


def _expanded(program: str, machine: Machine) -> str:
    """A hook's program as its shell will read it."""
    named = Template(program).safe_substitute({"HOME": str(machine.home), **machine.environ})
    return f"{machine.home}{named[1:]}" if named.startswith("~/") else named


def _judge(report: Report, parts: Iterable[Part]) -> None:
    again = f"ctxmem-mcp install {report.agent}"
    unclear = bool(report.faults or report.remarks)
    for server in report.servers:
        _judge_answer(report, server, again)
    _judge_twice(report)
    _judge_hooks(report, parts, again)
    _remark_off(report)
    if unclear:  # What can't be read, or is somebody else's, says nothing of what is registered.
        return
    if report.present and not report.servers:
        report.remarks.append(f"not registered; `{again}` does it")
    elif report.servers and not report.hooks and _has(parts, "hooks"):
        report.remarks.append(f"no hooks, so nothing is captured by itself; `{again}` registers them")


def _judge_answer(report: Report, server: Registered, again: str) -> None:
    if server.answer.fault:
        what = f"`{' '.join(server.found.command)}` in {server.path} {server.answer.fault}"
        remedy = f"run `{_again(again, [server])}`."
        if server.answer.said:
            what, remedy = f"{what}, saying: {server.answer.said.rstrip('.')}", f"put that right, or {remedy}"
        report.faults.append(Fault(what, remedy[0].upper() + remedy[1:]))


def _again(again: str, meant: Sequence[Registered | Hook]) -> str:
    """The command that brings these up to date: in the project, if they are all of it."""
    return f"{again} --project" if all(one.of_project for one in meant) else again


def _judge_twice(report: Report) -> None:
    seen = Counter((server.path, server.folder) for server in report.servers)
    for (path, _), count in seen.items():
        if count > 1:
            report.faults.append(Fault(f"{path} has the server {count} times", "Take all but one out of it."))


def _remark_off(report: Report) -> None:
    """What a person switched off is no fault, but starts nothing."""
    for server in report.servers:
        if server.found.off:
            report.remarks.append(f"server {server.found.where} in {server.path} is switched off there")
    for path in dict.fromkeys(hook.path for hook in report.hooks if hook.found.off):
        report.remarks.append(f"hooks in {path} are switched off there")


def _judge_hooks(report: Report, parts: Iterable[Part], again: str) -> None:
    if not report.hooks:
        return
    _judge_hooks_twice(report, again)
    events = {hook.found.where for hook in report.hooks}
    if missing := [event for event in _events(parts) if event not in events]:
        report.faults.append(Fault(f"no hook for {', '.join(missing)}", f"Run `{_again(again, report.hooks)}`."))
    for program in sorted({hook.program for hook in report.hooks}):
        if shutil.which(program) is None:
            remedy = f"Run `{_again(again, [hook for hook in report.hooks if hook.program == program])}`."
            report.faults.append(Fault(f"the hooks call {program}, which is not there", remedy))
    _judge_folders(report, again)


def _judge_hooks_twice(report: Report, again: str) -> None:
    """Within one file, installing again mends it; hooks of the user and of the project both run."""
    counts = Counter(hook.found.where for hook in report.hooks)
    twice = sorted(event for event, count in counts.items() if count > 1)
    if not twice:
        return
    in_one_file = Counter((hook.found.where, hook.path) for hook in report.hooks)
    doubled = [hook for hook in report.hooks if in_one_file[hook.found.where, hook.path] > 1]
    files_with = ", ".join(sorted({str(hook.path) for hook in report.hooks}))
    what = f"hooks are registered more than once for {', '.join(twice)} ({files_with})"
    mended = _again(again, doubled) if doubled else f"ctxmem-mcp uninstall {report.agent} --project"
    report.faults.append(Fault(what, f"Run `{mended}`."))


def _judge_folders(report: Report, again: str) -> None:
    """Hooks that write where the server does not read are worth nothing."""
    read = {server.folder for server in report.servers}
    lost = [hook for hook in report.hooks if hook.folder not in read]
    if read and lost:
        usual = "the usual folder"
        what = f"the hooks write to {', '.join(sorted({hook.folder or usual for hook in report.hooks}))}"
        what += f", the server reads {', '.join(sorted(one or usual for one in read))}"
        report.faults.append(Fault(what, f"Run `{_again(again, lost)} --data-dir DIR`."))


def _folder(found: Found) -> str | None:
    folder = data_dir_of({"args": list(found.command), "env": found.environment})
    return with_slashes(folder) if folder else None


def _events(parts: Iterable[Part]) -> list[str]:
    """The events that hooks are to be registered for."""
    names: dict[str, None] = {}
    for part in parts:
        if part.role == "hooks":
            names |= dict.fromkeys(part.events if isinstance(part, JsonHooks) else [part.path.name])
    return list(names)


def _has(parts: Iterable[Part], role: Role) -> bool:
    return any(part.role == role for part in parts)
