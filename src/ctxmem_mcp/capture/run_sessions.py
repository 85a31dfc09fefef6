"""Records which sessions an agent has in a run of `ctxmem-mcp wrap`, for requests that name none.

`wrap` sets the run's id in the agent's environment, which its hooks inherit. They add the session of each event to a
file of the run; the gateway reads it. The file is deleted with the run, or after a week. Imports nothing slow.
"""

from __future__ import annotations

import os

from ctxmem_mcp.agents import info_of
from ctxmem_mcp.capture.session_files import name_of, remove_old
from ctxmem_mcp.private_files import create_folder

# The environment variable with the run's id.
VARIABLE = "CTXMEM_RUN"
FOLDER = "runs"
# The events, by Claude Code's names, after which the session's first request may follow. Other events are recorded too,
# in case the hooks of the start and the prompt did not run in time.
_FIRST_EVENTS = ("SessionStart", "UserPromptSubmit")
_BYTES_MAX = 1 << 20


def note(data_dir: str, run: str, agent: str, raw: bytes) -> None:
    """Records the session of an event, unless the event is a sub-agent's.

    Args:
        data_dir: the data folder.
        run: the run's id.
        agent: the agent's id.
        raw: the event as the agent sent it.

    Raises:
        OSError: the file can't be written.
        ValueError: the event is not JSON.
    """
    import json

    event = json.loads(raw)
    name, session = str(event.get("hook_event_name")), event.get("session_id")
    if event.get("agent_id") or not isinstance(session, str) or not name_of(run):
        return
    is_first = info_of(agent).event_names.get(name, name) in _FIRST_EVENTS
    if not is_first and session in read(data_dir, run):
        return
    folder = os.path.join(data_dir, FOLDER)
    create_folder(folder)
    remove_old(folder)
    file = os.open(os.path.join(folder, name_of(run)), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # Any other event's session is written as a one-item list, so that `read` sorts it last.
        os.write(file, json.dumps(session if is_first else [session]).encode() + b"\n")
    finally:
        os.close(file)


def read(data_dir: str, run: str) -> list[str]:
    """Returns the ids of a run's sessions: that of the latest start or prompt first, those without either last."""
    import json

    try:
        with open(os.path.join(data_dir, FOLDER, name_of(run)), "rb") as file:
            lines = [json.loads(line) for line in reversed(file.read(_BYTES_MAX).splitlines())]
    except OSError:
        return []
    first = [line for line in lines if isinstance(line, str)]
    return list(dict.fromkeys([*first, *(line[0] for line in lines if isinstance(line, list))]))


def remove(data_dir: str, run: str) -> None:
    """Deletes the file of a run that has ended."""
    try:
        os.unlink(os.path.join(data_dir, FOLDER, name_of(run)))
    except OSError:
        return
