"""Reports that a call which an agent is about to make has failed before, with what solved it. Blocks nothing.

    [ctxmem-mcp recalls] This call failed before, on 2026-01-09 (...): zsh: command not found: staticcheck ...

A failure that editing can mend is reported only in its own session, and only if nothing was changed and the user sent
nothing since: running the tests again is no mistake. A line appears once in a session.
"""

from __future__ import annotations

import json
import os

from ctxmem_mcp.capture import failed_calls, session_files
from ctxmem_mcp.text.recall_marks import RECALL_END, RECALL_START

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ctxmem_mcp.capture.failed_calls import FailedCall

# How far back in the transcript the failed call is looked for.
TAIL_BYTES = 400_000
_READING_TOOLS = frozenset(
    ("Read", "Grep", "Glob", "LS", "TodoWrite", "TaskUpdate", "TaskCreate", "WebFetch", "WebSearch")
)
_READING_COMMANDS = frozenset("ls cat grep rg head tail wc find pwd which echo type file stat tree".split())
_READING_GIT = frozenset("status diff log show branch".split())


def respond(event_name: str, raw: bytes, data_dir: str, is_on: bool) -> bool:
    """Writes the line to stdout in Claude Code's format, if there is one.

    Args:
        event_name: the name of the agent's event before a call.
        raw: the event as the agent sent it.
        data_dir: the data folder.
        is_on: whether a line may be written.

    Returns:
        Whether it is that event, which has nothing to store.
    """
    event = json.loads(raw.decode("utf-8-sig", "replace"))
    if event.get("hook_event_name") != event_name:
        return False
    if is_on and (line := line_for(event, data_dir)):
        output = {"hookEventName": event_name, "additionalContext": line}
        os.write(1, json.dumps({"hookSpecificOutput": output}).encode() + b"\n")
    return True


def line_for(event: dict[str, Any], data_dir: str) -> str:
    """Returns the line about an event's call; empty if there is none, or if the session has had it."""
    secret, arguments = failed_calls.load_secret(data_dir), event.get("tool_input")
    cwd, session = event.get("cwd"), event.get("session_id")
    if not (secret and isinstance(arguments, dict) and isinstance(cwd, str) and isinstance(session, str)):
        return ""
    key = failed_calls.key_of(str(event.get("tool_name")), arguments, secret)
    failed = failed_calls.find(data_dir, cwd, key) if key else None
    if failed is None or not (failed.lasts or _nothing_changed(str(event.get("transcript_path")), failed.call_id)):
        return ""
    return describe(failed) if session_files.take_first_time(data_dir, session, key) else ""


def describe(failed: FailedCall) -> str:
    """Returns the line about a failure."""
    solved = f"What solved it: {failed.ending}." if failed.ending else "Nothing is recorded that solved it."
    day = f" on {failed.day}" if failed.day else ""
    return (
        f"{RECALL_START} This call failed before{day} (conversation {failed.conversation}, {failed.turn}), quoted: "
        f"{failed.error!r}. {solved} {RECALL_END}"
    )


def _nothing_changed(transcript: str, call_id: str) -> bool:
    """Whether the transcript has the call, and after it no user's message and no call that may change anything."""
    try:
        with open(transcript, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
            tail = file.read(TAIL_BYTES)
    except OSError:
        return False
    at = tail.find(f'"tool_use_id":"{call_id}"'.encode()) if call_id else -1
    at = tail.find(f'"tool_use_id": "{call_id}"'.encode()) if at < 0 and call_id else at
    lines = tail[at:].split(b"\n")[1:] if at >= 0 else [b"?"]
    return not any(_changes(line) for line in lines if line.strip())


def _changes(line: bytes) -> bool:
    try:
        row = json.loads(line)
        content = row["message"]["content"] if row.get("type") in ("user", "assistant") else ()
    except (ValueError, KeyError, TypeError, AttributeError):
        return line == b"?"
    if isinstance(content, str):
        return row.get("type") == "user" and not row.get("isMeta")
    return any(_block_changes(block, str(row["type"])) for block in content if isinstance(block, dict))


def _block_changes(block: dict[str, Any], role: str) -> bool:
    if block.get("type") == "text":
        return role == "user"
    if block.get("type") != "tool_use" or block.get("name") in _READING_TOOLS:
        return False
    words = str((block.get("input") or {}).get("command", "")).split() or [""]
    is_plain = not any(sign in word for word in words for sign in (">", "|", "&", ";", "$("))
    if words[0] == "git" and len(words) > 1:
        return not (is_plain and words[1] in _READING_GIT)
    return not (is_plain and words[0] in _READING_COMMANDS)
