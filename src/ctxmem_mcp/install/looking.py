"""What is registered where, and what is wrong with it."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ctxmem_mcp.install import files, probing
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.entries import data_dir_of
from ctxmem_mcp.install.hook_parts import JsonHooks
from ctxmem_mcp.install.parts import Found, Part, Role
from ctxmem_mcp.install.places import Machine
from ctxmem_mcp.install.probing import Answer
from ctxmem_mcp.install.unfit import Unfit


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


@dataclass(frozen=True, slots=True)
class Hook:
    path: Path
    found: Found


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


def look(agent: Agent, machine: Machine, ask: Callable[[Found], Answer] | None = None) -> Report:
    """Reads the agent's files, the user's and this project's, and starts what is registered."""
    report = Report(agent.name, agent.title, agent.is_present(machine))
    # Who stands in the home folder has the same files twice.
    both = [*agent.parts(machine, project=False), *agent.parts(machine, project=True)]
    parts = list({part.path: part for part in reversed(both)}.values())[::-1]
    ask = ask or (lambda found: probing.ask(found.command, {**machine.environ, **found.environment}))
    answers: dict[tuple[object, ...], Answer] = {}
    for part in parts:
        for found in _found(part, report):
            if part.role == "hooks":
                report.hooks.append(Hook(part.path, found))
                continue
            key = (found.command, *sorted(found.environment.items()))
            answers[key] = answers.get(key) or ask(found)
            report.servers.append(Registered(part.path, found, answers[key]))
    _judge(report, parts)
    return report


def _found(part: Part, report: Report) -> list[Found]:
    try:
        return part.found(files.read(part.path))
    except Unfit as why:
        report.faults.append(Fault(f"{part.path} {why}", "Mend the file; its agent may not read it either."))
        return []


def _judge(report: Report, parts: Iterable[Part]) -> None:
    again = f"ctxmem-mcp install {report.agent}"
    for server in report.servers:
        if server.answer.fault:
            command = " ".join(server.found.command)
            report.faults.append(Fault(f"`{command}` in {server.path} {server.answer.fault}", f"Run `{again}`."))
    _judge_twice(report)
    _judge_hooks(report, parts, again)
    if report.present and not report.servers:
        report.remarks.append(f"not registered; `{again}` does it")
    elif report.servers and not report.hooks and _has(parts, "hooks"):
        report.remarks.append(f"no hooks, so nothing is captured by itself; `{again}` registers them")


def _judge_twice(report: Report) -> None:
    seen = Counter((server.path, data_dir_of({"args": list(server.found.command)})) for server in report.servers)
    for (path, _), count in seen.items():
        if count > 1:
            report.faults.append(Fault(f"{path} has the server {count} times", "Take all but one out of it."))


def _judge_hooks(report: Report, parts: Iterable[Part], again: str) -> None:
    counts = Counter(hook.found.where for hook in report.hooks)
    twice = sorted(event for event, count in counts.items() if count > 1)
    if twice:
        files_with = ", ".join(sorted({str(hook.path) for hook in report.hooks}))
        what = f"hooks are registered more than once for {', '.join(twice)} ({files_with})"
        report.faults.append(Fault(what, f"Run `{again}`, or `ctxmem-mcp uninstall {report.agent} --project`."))
    missing = [event for event in _events(parts) if event not in counts]
    if counts and missing:
        report.faults.append(Fault(f"no hook for {', '.join(missing)}", f"Run `{again}`."))
    for program in sorted({hook.found.command[0] for hook in report.hooks}):
        if shutil.which(program) is None:
            report.faults.append(Fault(f"the hooks call {program}, which is not there", f"Run `{again}`."))
    _judge_folders(report, again)


def _judge_folders(report: Report, again: str) -> None:
    """Hooks that write where the server does not read are worth nothing."""
    read = {_folder(server.found) for server in report.servers}
    written = {_folder(hook.found) for hook in report.hooks}
    if read and written - read:
        usual = "the usual folder"
        what = f"the hooks write to {', '.join(sorted(one or usual for one in written))}"
        what += f", the server reads {', '.join(sorted(one or usual for one in read))}"
        report.faults.append(Fault(what, f"Run `{again} --data-dir DIR`."))


def _folder(found: Found) -> str | None:
    return data_dir_of({"args": list(found.command), "env": found.environment})


def _events(parts: Iterable[Part]) -> list[str]:
    """The events that hooks are to be registered for."""
    names: dict[str, None] = {}
    for part in parts:
        if part.role == "hooks":
            names |= dict.fromkeys(part.events if isinstance(part, JsonHooks) else [part.path.name])
    return list(names)


def _has(parts: Iterable[Part], role: Role) -> bool:
    return any(part.role == role for part in parts)
