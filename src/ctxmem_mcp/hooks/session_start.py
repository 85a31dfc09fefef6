"""Responds to a session's start with its context.

An agent waits for its hooks, and one that takes longer than the agent allows is silently lost. So the time limit counts
from the process's start, and what takes long is imported while it runs: after it the process exits without a context. A
session is better started without its memory than late.
"""

from __future__ import annotations

import _thread
import gc
import json
import os
import time
from collections.abc import Callable, Collection
from typing import Any

from ctxmem_mcp.agents import info_of
from ctxmem_mcp.capture import session_files
from ctxmem_mcp.hooks import compactions
from ctxmem_mcp.hooks.process_age import process_age

SECONDS_MAX = 5.0
# Returns quotations for a prompt, none of them of a turn with one of the given keys, and the keys of their turns.
Quote = Callable[[Collection[str]], tuple[str, Collection[str]]]
# The context that such a session starts with has the history already, or the user has just cleared it.
_SOURCES_WITHOUT = ("resume", "fork", "clear")


def respond(agent: str, raw: bytes, data_dir: str) -> None:
    """Writes the session's context to stdout in the agent's format; nothing if there is none.

    Args:
        agent: the agent's id.
        raw: the event as the agent sent it. Events that bring no context are ignored.
        data_dir: the data folder.
    """
    _thread.start_new_thread(_exit_after_time_limit, ())
    event = _fields_of(raw)
    if event.get("source") in _SOURCES_WITHOUT or (info_of(agent).context_event and _has_begun(event)):
        return
    _write_context(agent, raw, data_dir)


def note_compaction(agent: str, raw: bytes, data_dir: str) -> bool:
    """Records that a session was compacted, if the event says so and its reply can't bring what the recap left out.

    Returns:
        Whether it was recorded.
    """
    event, causes = _fields_of(raw), info_of(agent).compaction_events
    name = str(event.get("hook_event_name"))
    cause = causes.get(name)
    if name not in causes or (cause is not None and event.get(cause[0]) != cause[1]):
        return False
    compactions.note(data_dir, str(event.get("session_id")))
    return True


def respond_after_compaction(agent: str, raw: bytes, data_dir: str, quote: Quote) -> bool:
    """Writes what the recap left out to stdout, if the event is the session's first since it was compacted.

    Args:
        agent: the agent's id.
        raw: the event as the agent sent it.
        data_dir: the data folder.
        quote: returns the quotations for the event's prompt, which are added; empty if there are none. It is called
            with the keys of the turns that are quoted already, and raises nothing.

    Returns:
        Whether it is that event.
    """
    event = _fields_of(raw)
    session = str(event.get("session_id"))
    is_main = event.get("hook_event_name") in info_of(agent).recap_events and not event.get("agent_id")
    if is_main and compactions.take(data_dir, session):

        def note_again() -> None:  # too late now, the next event may bring it
            compactions.note(data_dir, session)

        _thread.start_new_thread(_exit_after_time_limit, (note_again,))
        _write_context(agent, raw, data_dir, quote, note_again, after_compaction=True)
        return True
    return False


def _write_context(
    agent: str,
    raw: bytes,
    data_dir: str,
    quote: Quote = lambda _: ("", ()),
    if_late: Callable[[], None] = lambda: None,
    *,
    after_compaction: bool = False,
) -> None:
    gc.disable()  # the process ends before there is much to collect
    from ctxmem_mcp.hooks.session_context import add_quotations, build_response, quoted_keys

    response = build_response(agent, raw, data_dir, _seconds_left(), after_compaction=after_compaction)
    event, keys = _fields_of(raw), quoted_keys(response or {})
    # Only now, because the context may have stored turns, and what it quotes is not quoted again.
    quotations, more_keys = quote(keys)
    if quotations:
        response = add_quotations(response, str(event.get("hook_event_name")), quotations)
    if response is None:
        return
    if _seconds_left() <= 0:
        if_late()
        return
    os.write(1, json.dumps(response).encode() + b"\n")
    # Only what was written is not quoted again. Agents whose prompts get quotations name the session so.
    session = event.get("session_id")
    if isinstance(session, str) and (keys := keys.union(more_keys)):
        session_files.note_lines(data_dir, session, sorted(keys))


def _fields_of(raw: bytes) -> dict[str, Any]:
    try:
        event = json.loads(raw.decode("utf-8-sig", "replace").lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}


def _has_begun(event: dict[str, Any]) -> bool:
    """Whether a prompt is not the first of its session: the agent writes the transcript after the first one's hook."""
    path = event.get("transcript_path")
    return not isinstance(path, str) or os.path.exists(path)


def _exit_after_time_limit(before: Callable[[], None] = lambda: None) -> None:
    time.sleep(max(0.0, _seconds_left()))
    try:
        before()
    finally:
        os._exit(0)


def _seconds_left() -> float:
    return SECONDS_MAX - process_age()
