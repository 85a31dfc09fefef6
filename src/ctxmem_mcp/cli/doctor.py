"""What `doctor` looks at and how it tells it: the agents' files, then the folder that conversations are kept in."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ctxmem_mcp.capture import spool
from ctxmem_mcp.cli.output import counted
from ctxmem_mcp.cli.runner import GlobalOptions, with_memory
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.inspect import AgentReport, Fault, inspect_agent
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.memory import Memory

FREE_BYTES_MIN = 200 * 1024 * 1024


@dataclass(slots=True)
class Folder:
    """A data folder as it is. agents: those that are registered with it by name."""

    path: str
    agents: list[str] = field(default_factory=list)
    writable: bool = False
    free_bytes: int = 0
    conversations: int | None = None
    spooled: int = 0
    faults: list[Fault] = field(default_factory=list)


def run(host: HostPaths, options: GlobalOptions, as_json: bool) -> int:
    """Looks and tells; gives the exit code, 1 where something is wrong."""
    reports = [inspect_agent(agent, host) for agent in AGENTS.values()]
    usual, *others = folders = _folders(options, reports)
    wrong = sum(len(report.faults) for report in reports) + sum(len(folder.faults) for folder in folders)
    if as_json:
        told = {
            "agents": [_plain(report) for report in reports],
            "data": asdict(usual), "other_data": [asdict(folder) for folder in others], "faults": wrong,
        }  # fmt: skip
        sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")
    else:
        for report in reports:
            _tell(report)
        for folder in folders:
            _tell_folder(folder)
        _say(f"{counted(wrong, 'fault')}." if wrong else "All is well.")
    return 1 if wrong else 0


def _plain(report: AgentReport) -> dict[str, Any]:
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


def _tell(report: AgentReport) -> None:
    _say(f"{report.title}: {'present' if report.present else 'not here'}")
    for server in report.servers:
        _say(f"  server {server.entry.where} in {server.path}: {' '.join(server.entry.command)}")
        if not server.probe.fault:
            _say(f"    starts: {server.probe.name} {server.probe.version}, {server.probe.seconds:.1f} s")
    for path in dict.fromkeys(hook.path for hook in report.hooks):
        events = [hook.entry.where for hook in report.hooks if hook.path == path]
        _say(f"  hooks in {path}: {', '.join(events)}")
    for remark in report.remarks:
        _say(f"  {remark}")
    _tell_faults(report.faults)


def _tell_folder(folder: Folder) -> None:
    of_agents = f" of {', '.join(folder.agents)}" if folder.agents else ""
    _say(f"Data{of_agents}: {folder.path}")
    kept = "" if folder.conversations is None else f"{counted(folder.conversations, 'conversation')}, "
    waiting = f"{counted(folder.spooled, 'event')} waiting in the spool"
    _say(f"  {kept}{waiting}, {folder.free_bytes / 1e9:,.1f} GB free")
    _tell_faults(folder.faults)


def _tell_faults(faults: list[Fault]) -> None:
    for fault in faults:
        _say(f"  WRONG: {fault.what}. {fault.remedy}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


# ---------------------------------------------------------------- the data folders


def _folders(options: GlobalOptions, reports: list[AgentReport]) -> list[Folder]:
    """The usual one, and those that agents' servers and hooks were told to use instead."""
    usual = _folder(options, "name another folder with CTXMEM_DATA_DIR")
    users: dict[Path, list[AgentReport]] = {}
    for report in reports:
        for path in map(Path, report.data_dirs()):
            if path != Path(usual.path):
                users.setdefault(path, []).append(report)
    return [usual, *(_folder_of(users[path], path, options) for path in users)]


def _folder_of(users: list[AgentReport], path: Path, options: GlobalOptions) -> Folder:
    again = f"ctxmem-mcp install {' '.join(report.agent for report in users)} --data-dir DIR"
    folder = _folder(replace(options, data_dir=str(path)), f"run `{again}`")
    folder.agents = [report.title for report in users]
    return folder


def _folder(options: GlobalOptions, other: str) -> Folder:
    """other: how to have another one."""
    try:
        path = options.settings().data_dir
    except CtxmemError as error:
        return Folder("", faults=[Fault(error.message.rstrip("."), error.hint)])
    folder = Folder(str(path), spooled=len(spool.pending(str(path))))
    _judge_disk(folder, path, other)
    if path.is_dir() and folder.writable:
        try:
            folder.conversations = len(with_memory(options, Memory.all_conversations))
        except CtxmemError as error:
            folder.faults.append(Fault(error.message.rstrip("."), error.hint))
    return folder


def _judge_disk(folder: Folder, path: Path, other: str) -> None:
    """A folder that is not there yet is judged by the one it would be made in."""
    there = next(one for one in (path, *path.parents) if one.exists())
    folder.free_bytes = shutil.disk_usage(there).free
    try:
        with tempfile.TemporaryFile(dir=there):
            folder.writable = True
    except OSError as error:
        why = f"{there} can't be written to: {error.strerror}"
        folder.faults.append(Fault(why, f"Take the right to, or {other}."))
    if folder.free_bytes < FREE_BYTES_MIN:
        folder.faults.append(Fault(f"{there} has only {folder.free_bytes / 1e6:,.0f} MB free", "Make room."))
