"""Events of agents' hooks from which nothing could be read. They are kept in a folder of their own and reported.

An agent that changes the format of its events would otherwise lose its conversations without a sign. `doctor` and
`list` report the events, and a newer version of this program reads them again. They are deleted with the conversation
that they name, after DAYS_MAX, and beyond EVENTS_MAX or BYTES_MAX, the oldest first.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.events import decode_event, parse_event
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.home_folder import expand_user
from ctxmem_mcp.private_files import create_folder, open_new, read_file

FOLDER = "unrecognised"
DAYS_MAX, EVENTS_MAX, BYTES_MAX = 30, 1_000, 64 * 1024 * 1024
# The version that could not read the events.
_VERSION, _PACKAGE = "version", "ctxmem-mcp"
_NAME_CHARS_MAX = 60


@dataclass(frozen=True, slots=True)
class UnrecognisedEvents:
    """The unrecognised events of one agent.

    Attributes:
        agent: the agent's id; empty if the files are not spooled events.
        count: how many there are.
        newest: the name of the newest one; empty if it has none.
        at: when that was received, in seconds since 1970.
        folder: where they are.
        cause: why they could not be read, if that is known: the transcript that the newest one names is not a file.
    """

    agent: str
    count: int
    newest: str
    at: float
    folder: str
    cause: str = ""


def keep(data_dir: Path, spooled: spool.SpooledEvent) -> None:
    """Moves an event from the spool to the folder of unrecognised events."""
    folder = data_dir / FOLDER
    create_folder(folder)
    spooled.move_to(str(folder))
    _record_version(folder)


def trim(data_dir: Path) -> None:
    """Deletes the events that are too old, and the oldest if there are too many."""
    kept, size, oldest = 0, 0, time.time() - DAYS_MAX * 86_400
    for spooled in reversed(_events(data_dir)):
        kept, size = kept + 1, size + _size(spooled)
        if kept > EVENTS_MAX or size > BYTES_MAX or spooled.at < oldest:
            spooled.remove()


def spool_again_after_update(data_dir: Path) -> None:
    """Moves the events back to the spool if another version of this program could not read them."""
    folder = data_dir / FOLDER
    try:
        if read_file(folder / _VERSION).decode("utf-8", "replace") == version(_PACKAGE):
            return
    except OSError:
        return
    for spooled in _events(data_dir):
        spooled.move_to(str(data_dir / spool.FOLDER))
    _record_version(folder)


def purge(data_dir: Path, conversation_ids: Collection[str]) -> None:
    """Deletes the events that name one of these conversations."""
    for spooled in _events(data_dir):
        try:
            agent, raw, _ = spooled.read()
        except (OSError, ValueError):
            agent, raw = "", read_file(spooled.path)
        event = parse_event(agent, raw, spooled.at)
        text = decode_event(raw)
        if (event and conversation_id_for(event.session_id) in conversation_ids) or any(
            conversation in text for conversation in conversation_ids
        ):
            spooled.remove()


def summarize(data_dir: Path) -> list[UnrecognisedEvents]:
    """Returns the unrecognised events by agent."""
    by_agent: dict[str, list[tuple[spool.SpooledEvent, bytes]]] = {}
    for spooled in _events(data_dir):
        try:
            agent, raw, _ = spooled.read()
        except (OSError, ValueError):
            agent, raw = "", b""
        by_agent.setdefault(agent, []).append((spooled, raw))
    return [_summary(data_dir, agent, events) for agent, events in sorted(by_agent.items())]


def count(data_dir: Path) -> int:
    """Returns the number of unrecognised events."""
    return len(_events(data_dir))


def _summary(data_dir: Path, agent: str, events: list[tuple[spool.SpooledEvent, bytes]]) -> UnrecognisedEvents:
    newest, raw = events[-1]
    event = parse_event(agent, raw, newest.at)
    name = event.name[:_NAME_CHARS_MAX] if event else ""
    cause = _cause(event.transcript) if event and event.transcript else ""
    return UnrecognisedEvents(agent, len(events), name, newest.at, str(data_dir / FOLDER), cause)


def what_is_at(transcript: Path) -> str:
    """Says what a path leads to that is not a transcript; empty if it is a regular file, or nothing."""
    if transcript.is_dir():
        return "a folder"
    return "" if transcript.is_file() or not transcript.exists() else "not a regular file"


def _cause(transcript: str) -> str:
    what = what_is_at(path := Path(expand_user(transcript)))
    return f"the transcript that it names, {path}, is {what}" if what else ""


def _events(data_dir: Path) -> list[spool.SpooledEvent]:
    return spool.events_in(str(data_dir / FOLDER))


def _size(spooled: spool.SpooledEvent) -> int:
    try:
        return os.stat(spooled.path).st_size
    except OSError:
        return 0


def _record_version(folder: Path) -> None:
    path = folder / _VERSION
    path.unlink(missing_ok=True)
    with os.fdopen(open_new(path), "w", encoding="utf-8") as file:
        file.write(version(_PACKAGE))
