"""Parses the events that agents send to their hooks. Pure: bytes in, an Event out.

Most agents write a complete transcript. It is stored, and their events only supply the messages that it may
lack at that moment. Cursor's transcript has less than its events, so the events are stored instead.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.agents import CLINE, CURSOR, SESSION_ENDS, info_of
from ctxmem_mcp.models import THINKING, NewTurn, iso
from ctxmem_mcp.transcripts.base import compact_json
from ctxmem_mcp.transcripts.json_lines import text_or_none

# A host's command, which its transcript writes in another form.
_COMMAND = "/"
# May come before the JSON; the first is the byte order mark.
_BLANK = "\ufeff \t\r\n"
_Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A hook event of any agent.

    Attributes:
        agent: the agent's id.
        name: the event's name, as the agent spells it.
        session_id: the agent's id of the session.
        transcript: the path of the session's transcript, if the event names it.
        cwd: the folder the session works in.
        turns: what the event contains, in order.
        messages: those of the turns that are prompts or replies, which the transcript may not contain yet.
        ends_session: nothing is added to the transcript after this event.
        source: why a session starts ("startup", "resume", "clear", "compact").
    """

    agent: str
    name: str
    session_id: str
    transcript: str | None = None
    cwd: str | None = None
    turns: tuple[NewTurn, ...] = ()
    messages: tuple[NewTurn, ...] = ()
    ends_session: bool = False
    source: str | None = None

    @property
    def has_transcript(self) -> bool:
        """Whether the agent's transcript contains everything that its events do."""
        return info_of(self.agent).has_transcript


def parse_event(agent: str, raw: bytes, at: float) -> Event | None:
    """Parses what a hook received.

    Args:
        agent: the agent's id. An agent that is not in the table is read like Claude Code.
        raw: the event's JSON; it may be cut off.
        at: when it was received, in seconds since 1970.

    Returns:
        The event; None if it is not JSON or names no session.
    """
    fields = _object(raw)
    if fields is None:
        return None
    session = _first(fields, "session_id", "conversation_id", "thread-id", "taskId")
    name = _first(fields, "hook_event_name", "hookName", "type") or ""
    if session is None:
        return None
    said_at = iso(at)
    turns = tuple(turn for turn in _turns(agent, name, fields, said_at) if _is_valid(turn))
    messages = tuple(turn for turn in turns if turn.call_id is None and turn.name is None)
    return Event(
        agent,
        name,
        session,
        _first(fields, "agent_transcript_path", "transcript_path"),
        _first(fields, "cwd") or _first_of(fields.get("workspace_roots")) or _first_of(fields.get("workspaceRoots")),
        turns,
        tuple(turn for turn in messages if not (turn.role == "user" and turn.content.startswith(_COMMAND))),
        name in SESSION_ENDS,
        _first(fields, "source"),
    )


def decode_event(raw: bytes) -> str:
    """The text of an event without byte order marks before it: PowerShell on Windows writes one, or two."""
    return raw.decode("utf-8", "replace").lstrip(_BLANK)


def _object(raw: bytes) -> _Fields | None:
    text = decode_event(raw)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return _from_truncated(text)
    return fields if isinstance(fields, dict) else None


def _from_truncated(text: str) -> _Fields | None:
    """The session and the transcript that an event names at its start, if it was cut off."""
    found: _Fields = {}
    for key in ("session_id", "transcript_path", "cwd", "hook_event_name"):
        match = re.search(rf'"{key}"\s*:\s*("(?:[^"\\]|\\.)*")', text)
        if match:
            try:
                found[key] = json.loads(match[1])
            except ValueError:
                continue
    return found or None


def _turns(agent: str, name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    read = {CURSOR.id: _cursor, CLINE.id: _cline}.get(agent, _claude)
    return read(name, fields, said_at)


def _claude(name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    """Claude Code's events, which Codex adopted, and Codex's older notification of a completed turn."""
    if name == "UserPromptSubmit":
        yield from _message("user", fields.get("prompt"), said_at)
    elif name == "Stop":
        yield from _message("assistant", fields.get("last_assistant_message"), said_at)
    elif name == "PostToolUse" and text_or_none(fields.get("tool_name")):
        call = text_or_none(fields.get("tool_use_id"))
        yield from _call(fields["tool_name"], fields.get("tool_input"), fields.get("tool_response"), said_at, call)
    elif name == "agent-turn-complete":
        prompts = fields.get("input-messages")
        for prompt in prompts if isinstance(prompts, list) else []:
            yield from _message("user", prompt, said_at)
        yield from _message("assistant", fields.get("last-assistant-message"), said_at)


def _cursor(name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    if name == "beforeSubmitPrompt":
        yield from _message("user", fields.get("prompt"), said_at)
    elif name == "afterAgentResponse":
        yield from _message("assistant", fields.get("text"), said_at)
    elif name == "afterAgentThought":
        for turn in _message("assistant", fields.get("text"), said_at):
            yield NewTurn("assistant", turn.content, THINKING, said_at)
    elif name == "afterShellExecution":
        yield from _call("shell", fields.get("command"), fields.get("output"), said_at)
    elif name == "afterMCPExecution" and text_or_none(fields.get("tool_name")):
        yield from _call(fields["tool_name"], fields.get("tool_input"), fields.get("result_json"), said_at)
    elif name == "afterFileEdit":
        edit = {"file_path": fields.get("file_path"), "edits": fields.get("edits")}
        yield NewTurn("assistant", compact_json(edit), "edit_file", said_at)


def _cline(name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    details = fields.get(name[:1].lower() + name[1:])
    details = details if isinstance(details, dict) else {}
    if name == "UserPromptSubmit":
        yield from _message("user", details.get("prompt"), said_at)
    elif name == "PostToolUse" and text_or_none(details.get("toolName")):
        if details["toolName"] == "attempt_completion":
            result = details.get("parameters")
            yield from _message("assistant", result.get("result") if isinstance(result, dict) else result, said_at)
        else:
            yield from _call(details["toolName"], details.get("parameters"), details.get("result"), said_at)


def _message(role: Any, text: object, said_at: str) -> Iterator[NewTurn]:
    if text_or_none(text):
        yield NewTurn(role, str(text), None, said_at)


def _call(name: str, fields: object, result: object, said_at: str, call: str | None = None) -> Iterator[NewTurn]:
    yield NewTurn("assistant", fields if isinstance(fields, str) else compact_json(fields), name, said_at, call)
    if result is not None:
        yield NewTurn("tool", result if isinstance(result, str) else compact_json(result), name, said_at, call)


def _first(fields: _Fields, *keys: str) -> str | None:
    return next((str(fields[key]) for key in keys if text_or_none(fields.get(key))), None)


def _first_of(roots: object) -> str | None:
    return text_or_none(roots[0]) if isinstance(roots, list) and roots else None


def _is_valid(turn: NewTurn) -> bool:
    """Whether its text is valid Unicode. Half a surrogate pair is left to the transcript's parser, which repairs it."""
    try:
        "".join((turn.content, turn.name or "", turn.call_id or "")).encode()
    except UnicodeEncodeError:
        return False
    return True
