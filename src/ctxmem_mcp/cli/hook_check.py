"""Checks for `doctor` that the events of agents' hooks arrive, and that they are stored."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ctxmem_mcp.agents import CLINE, CURSOR, info_of
from ctxmem_mcp.capture import arrivals, locations, spool, unrecognised
from ctxmem_mcp.capture.spool_worker import drain
from ctxmem_mcp.cli.output import counted
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.inspect import AgentReport, Fault, RegisteredHook
from ctxmem_mcp.install.registry import AGENTS
from ctxmem_mcp.models import iso
from ctxmem_mcp.settings import Settings

# How long a hook may take to start on a busy machine; it takes milliseconds otherwise.
PROBE_SECONDS = 30.0
# An agent writes to its transcript for some time after its last event.
LAG_SECONDS = 120.0
# Pending events older than this could have been stored.
STUCK_SECONDS = 60.0
_SESSION, _PROMPT, _PROMPT_EVENT = "ctxmem-doctor", "Does this event arrive?", "UserPromptSubmit"
_DATA_DIR = "--data-dir"


def check_hooks(report: AgentReport, default_dir: Path, host: HostPaths) -> Iterator[Fault]:
    """Yields the problems with an agent's hooks: they fail, or the agent does not call them.

    Args:
        report: the agent and its registered hooks.
        default_dir: the data folder of hooks that name none. Its events have been drained.
        host: where the agent's files are.
    """
    hooks = [hook for hook in report.hooks if not hook.entry.off and shutil.which(hook.program)]
    for command in dict.fromkeys(_command(hook) for hook in hooks):
        if fault := _probe(report.agent, command, host):
            yield Fault(f"`{' '.join(command)}` {fault}", f"Run `ctxmem-mcp install {report.agent}`.")
    yield from _check_arrivals(report, hooks, default_dir, host)


def check_stored(data_dir: Path) -> tuple[int, list[Fault]]:
    """Returns the number of unrecognised events in a data folder whose spool was just drained, and the problems."""
    faults = []
    groups = unrecognised.summarize(data_dir)
    for group in groups:
        title = AGENTS[group.agent].title if group.agent in AGENTS else group.agent or "unknown origin"
        newest = f"the newest, {group.newest or 'without a name'!r}, is of {iso(group.at)}"
        are = "is" if group.count == 1 else "are"
        events = f"{counted(group.count, 'event')} of {title}"
        what = f"{events} can't be read ({newest}) and {are} kept in {group.folder}"
        remedy = "Update ctxmem-mcp: it reads them again. Report the agent's version if it can't."
        if group.cause:
            what += f": {group.cause}"
            remedy = "Have the hook pass the path of the session's file as transcript_path, then delete the events."
        faults.append(Fault(what, remedy))
    stuck = [event.at for event in spool.pending(str(data_dir)) if event.at < time.time() - STUCK_SECONDS]
    if stuck:
        what = f"{counted(len(stuck), 'event')} can't be stored, the oldest of {iso(stuck[0])}"
        faults.append(Fault(what, "Run `ctxmem-mcp list`: it tries again and prints the reason."))
    return sum(group.count for group in groups), faults


def _command(hook: RegisteredHook) -> tuple[str, ...]:
    """The hook's command line without its data folder."""
    words = [hook.program, *hook.entry.command[1:]]
    if _DATA_DIR in words[:-1]:
        at = words.index(_DATA_DIR)
        del words[at : at + 2]
    return tuple(words)


def _probe(agent: str, command: Sequence[str], host: HostPaths) -> str:
    """Runs a hook with an event in a data folder of its own; returns what is wrong, or nothing."""
    with tempfile.TemporaryDirectory(prefix="ctxmem-doctor-") as folder:
        environment = {**host.environ, "CTXMEM_DATA_DIR": folder}
        try:
            done = subprocess.run(
                command, input=_event(agent), env=environment, capture_output=True, timeout=PROBE_SECONDS, check=False
            )
        except OSError as error:
            return f"can't be started: {error.strerror}"
        except subprocess.TimeoutExpired:
            return f"does not end within {PROBE_SECONDS:.0f} s"
        if not spool.has_pending(folder):
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            return f"spools no event{f', with the message: {said}' if said else ''}"
        return asyncio.run(_store(Path(folder)))


async def _store(folder: Path) -> str:
    """Stores the event that a hook has spooled; returns what is wrong, or nothing."""
    try:
        async with open_memory(Settings(folder)) as memory:
            await drain(memory, folder, wait=True)
            turns = await memory.turns(_SESSION)
    except CtxmemError as error:
        return f"spools an event that can't be stored: {error.message.rstrip('.')}"
    return "" if [turn.content for turn in turns] == [_PROMPT] else "spools an event that is not stored"


def _event(agent: str) -> bytes:
    names = info_of(agent).event_names
    own_name = next((own for own, name in names.items() if name == _PROMPT_EVENT), _PROMPT_EVENT)
    event: dict[str, object] = {"session_id": _SESSION, "hook_event_name": own_name, "prompt": _PROMPT}
    if agent == CURSOR.id:
        event = {"conversation_id": _SESSION, "hook_event_name": "beforeSubmitPrompt", "prompt": _PROMPT}
    elif agent == CLINE.id:
        event = {"taskId": _SESSION, "hookName": "UserPromptSubmit", "userPromptSubmit": {"prompt": _PROMPT}}
    return json.dumps(event).encode()


def _check_arrivals(
    report: AgentReport, hooks: Iterable[RegisteredHook], default_dir: Path, host: HostPaths
) -> Iterator[Fault]:
    """Compares the last event with the agent's transcripts: these grow although no event arrives if the agent does not
    call the hooks."""
    latest = _latest_transcript(report.agent, host)
    since = [max(_mtime(hook.path), _last_arrival(report.agent, hook, default_dir)) for hook in hooks]
    if latest is None or not since or latest[1] <= max(since) + LAG_SECONDS:
        return
    what = f"no event has arrived since {iso(max(since))}, although {latest[0]} was written at {iso(latest[1])}"
    advice = AGENTS[report.agent].after_hooks
    yield Fault(what, f"{advice} A session that runs already does not know new hooks.".strip())


def _last_arrival(agent: str, hook: RegisteredHook, default_dir: Path) -> float:
    return arrivals.read(Path(hook.data_dir) if hook.data_dir else default_dir).get(agent, 0.0)


def _latest_transcript(agent: str, host: HostPaths) -> tuple[Path, float] | None:
    found = [
        (file, _mtime(file))
        for location in locations.find_locations(host.environ)
        if location.agent == agent
        for file in location.folder.glob(location.files)
    ]
    return max(found, key=lambda one: one[1], default=None)


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
