"""The command `doctor`: checks the agents' config files, then the data folders."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ctxmem_mcp.capture import spool
from ctxmem_mcp.cli import hook_check, neural_check, output, server_check
from ctxmem_mcp.cli.output import counted
from ctxmem_mcp.cli.runner import GlobalOptions, with_memory
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.inspect import AgentReport, Fault, inspect_agent
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.text import embeddings, tokenizer

FREE_BYTES_MIN = 200 * 1024 * 1024
# For a look at the conversations' files; `verify` reads them whole.
CHECK_SECONDS = 5.0


@dataclass(slots=True)
class DataFolder:
    """The state of a data folder. agents: those that are registered with it explicitly."""

    path: str
    agents: list[str] = field(default_factory=list)
    writable: bool = False
    free_bytes: int = 0
    conversations: int | None = None
    spooled: int = 0
    unrecognised: int = 0
    faults: list[Fault] = field(default_factory=list)


def run(host: HostPaths, options: GlobalOptions, as_json: bool) -> int:
    """Checks everything and prints it. Returns the exit code: 1 if there is a problem."""
    probe = server_check.CachedProbe(host.environ)
    reports = [inspect_agent(agent, host, probe) for agent in AGENTS.values()]
    default, *others = folders = _folders(options, reports)
    for report in reports:
        report.faults += hook_check.check_hooks(report, Path(default.path), host)
    counting = tokenizer.method_of()
    counting_faults = _counting_faults(counting)
    faults = sum(len(report.faults) for report in reports) + sum(len(folder.faults) for folder in folders)
    hang_faults, slow_starts = server_check.hang_faults(reports), server_check.slow_starts(reports)
    faults += len(counting_faults) + len(hang_faults)
    without_meaning = _without_meaning(options)
    neural = neural_check.check(options)
    if as_json:
        output.print_json({
            "agents": [_as_dict(report) for report in reports],
            "data": asdict(default), "other_data": [asdict(folder) for folder in others],
            "tokens": {"counted_by": counting.name, "faults": [asdict(fault) for fault in counting_faults]},
            "search": {"by_meaning": not without_meaning, "reason": without_meaning, "neural": asdict(neural)},
            "starts": {"faults": [asdict(fault) for fault in hang_faults], "remarks": slow_starts},
            "faults": faults,
        })  # fmt: skip
    else:
        for report in reports:
            _print_report(report)
        for remark in slow_starts:
            _print(f"Servers: {remark}")
        if hang_faults:
            _print("Servers:")
        _print_faults(hang_faults)
        for folder in folders:
            _print_folder(folder)
        if counting.reason:
            _print(f"Tokens: counted by {counting.name}")
        _print_faults(counting_faults)
        if without_meaning:
            _print(f"Search: by words only, {without_meaning}")
        if neural.model:
            _print(f"Search: {neural}")
        _print(f"{counted(faults, 'problem')} found." if faults else "No problems found.")
    return 1 if faults else 0


def _counting_faults(counting: tokenizer.Method) -> list[Fault]:
    if not counting.reason:
        return []
    effect = "tokens are counted exactly, but slower"
    if counting.name == tokenizer.BYTES:
        effect = "tokens are counted as bytes, so views hold about a quarter of what fits their budget"
    return [Fault(f"{counting.reason}: {effect}", "Reinstall splintr-rs: pip install --force-reinstall splintr-rs")]


def _without_meaning(options: GlobalOptions) -> str:
    """Returns why turns are found by words only, not also by meaning; empty if they are found by both."""
    try:
        if options.settings().embeddings == "off":
            return "because CTXMEM_EMBEDDINGS is off"
    except CtxmemError:
        pass  # reported with the data folder
    missing = embeddings.missing_package()
    if missing is None:
        return ""
    return (
        f"because {missing} is not installed: questions in other words than the text's find about a tenth less. "
        "It has wheels for CPython 3.11 to 3.13 on Linux x86-64 (glibc), macOS arm64 and Windows x86-64."
    )


def _as_dict(report: AgentReport) -> dict[str, Any]:
    return {
        "agent": report.agent,
        "present": report.present,
        "servers": [
            {
                "file": str(one.path), "name": one.entry.where, "command": list(one.entry.command),
                "starts": not one.probe.fault, **asdict(one.probe),
            }
            for one in report.servers
        ],
        "hooks": [
            {"file": str(one.path), "event": one.entry.where, "command": list(one.entry.command)}
            for one in report.hooks
        ],
        "faults": [asdict(fault) for fault in report.faults],
        "remarks": report.remarks,
    }  # fmt: skip


def _print_report(report: AgentReport) -> None:
    _print(f"{report.title}: {'found' if report.present else 'not found'}")
    for server in report.servers:
        _print(f"  server {server.entry.where} in {server.path}: {' '.join(server.entry.command)}")
        if not server.probe.fault:
            _print(f"    starts: {server.probe.name} {server.probe.version}, {server.probe.seconds:.1f} s")
    for path in dict.fromkeys(hook.path for hook in report.hooks):
        events = [hook.entry.where for hook in report.hooks if hook.path == path]
        _print(f"  hooks in {path}: {', '.join(events)}")
    for remark in report.remarks:
        _print(f"  {remark}")
    _print_faults(report.faults)


def _print_folder(folder: DataFolder) -> None:
    of_agents = f" of {', '.join(folder.agents)}" if folder.agents else ""
    _print(f"Data{of_agents}: {folder.path}")
    conversations = "" if folder.conversations is None else f"{counted(folder.conversations, 'conversation')}, "
    spooled = f"{counted(folder.spooled, 'event')} in the spool"
    spooled += f", {folder.unrecognised:,} unrecognised" if folder.unrecognised else ""
    _print(f"  {conversations}{spooled}, {folder.free_bytes / 1e9:,.1f} GB free")
    _print_faults(folder.faults)


def _print_faults(faults: list[Fault]) -> None:
    for fault in faults:
        _print(f"  PROBLEM: {fault.what}. {fault.remedy}".rstrip())


def _print(line: str) -> None:
    output.write(line)


# ---------------------------------------------------------------- the data folders


def _folders(options: GlobalOptions, reports: list[AgentReport]) -> list[DataFolder]:
    """The default folder first, then those that agents' servers and hooks are registered with."""
    default = _folder(options, "choose another folder with CTXMEM_DATA_DIR")
    users: dict[Path, list[AgentReport]] = {}
    for report in reports:
        for path in map(Path, report.data_dirs()):
            if path != Path(default.path):
                users.setdefault(path, []).append(report)
    return [default, *(_folder_of(users[path], path, options) for path in users)]


def _folder_of(users: list[AgentReport], path: Path, options: GlobalOptions) -> DataFolder:
    command = f"ctxmem-mcp install {' '.join(report.agent for report in users)} --data-dir DIR"
    folder = _folder(replace(options, data_dir=str(path)), f"run `{command}`")
    folder.agents = [report.title for report in users]
    return folder


def _folder(options: GlobalOptions, remedy: str) -> DataFolder:
    """Checks the folder of these options. remedy: how to choose another one."""
    try:
        settings = options.settings()
    except CtxmemError as error:
        return DataFolder("", faults=[Fault(error.message.rstrip("."), error.hint)])
    path = settings.data_dir
    folder = DataFolder(str(path))
    _check_disk(folder, path, remedy)
    if settings.store_url is not None or (path.is_dir() and folder.writable):
        try:
            folder.conversations, damaged = with_memory(options, _conversations)
        except CtxmemError as error:
            folder.faults.append(Fault(error.message.rstrip("."), error.hint))
        else:
            for name, what in damaged.items():
                folder.faults.append(_damage_fault(name, what.rstrip(".")))
    folder.spooled = spool.count_pending(str(path))
    folder.unrecognised, faults = hook_check.check_stored(path)
    folder.faults += faults
    return folder


def _damage_fault(name: str, what: str) -> Fault:
    """name: the conversation's id, or its file's path if the id is lost."""
    if os.path.isabs(name):
        return Fault(what, "")
    remedy = f"Run `ctxmem-mcp repair {name}`: it saves all that can be read."
    return Fault(f"Conversation {name} is damaged: {what}", remedy)


async def _conversations(memory: Memory) -> tuple[int, dict[str, str]]:
    """Returns how many conversations there are, and what is wrong with the damaged ones."""
    return len(await memory.all_conversations()), await memory.damaged(seconds=CHECK_SECONDS)


def _check_disk(folder: DataFolder, path: Path, remedy: str) -> None:
    """If the folder does not exist yet, checks the one in which it would be created."""
    existing = next(one for one in (path, *path.parents) if one.exists())
    folder.free_bytes = shutil.disk_usage(existing).free
    try:
        with tempfile.TemporaryFile(dir=existing):
            folder.writable = True
    except OSError as error:
        what = f"{existing} is not writable: {error.strerror}"
        folder.faults.append(Fault(what, f"Change its permissions, or {remedy}."))
    if folder.free_bytes < FREE_BYTES_MIN:
        folder.faults.append(Fault(f"{existing} has only {folder.free_bytes / 1e6:,.0f} MB free", "Free some space."))
