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

from ctxmem_mcp.agents import CLAUDE_CODE, CLINE, COPILOT_CLI, CURSOR, SESSION_ENDS, VSCODE, info_of
from ctxmem_mcp.capture import whole_outputs
from ctxmem_mcp.models import INJECTED, THINKING, NewTurn, iso
from ctxmem_mcp.text.host_text import split_hook_context
from ctxmem_mcp.transcripts.base import ParseLog, compact_json
from ctxmem_mcp.transcripts.json_lines import text_or_none

# Codex's older notification of a completed turn.
_NOTIFICATION = "agent-turn-complete"
# A host's command, which its transcript writes in another form.
_COMMAND = "/"
# May come before the JSON; the first is the byte order mark.
_BLANK = "\ufeff \t\r\n"
# VS Code's names of the session and of the event. It runs the hooks of these agents.
_VSCODE_SESSION, _VSCODE_NAME, _RUN_BY_VSCODE = "sessionId", "hookEventName", (CLAUDE_CODE.id, COPILOT_CLI.id)
# The events of Cline's CLI, by the names of their hooks, which the extension's events have.
_CLINE_NAMES = {
    "prompt_submit": "UserPromptSubmit", "tool_call": "PreToolUse", "tool_result": "PostToolUse",
    "agent_start": "TaskStart", "agent_resume": "TaskResume", "agent_end": "TaskComplete", "agent_abort": "TaskCancel",
    "agent_error": "TaskError", "pre_compact": "PreCompact", "session_shutdown": "SessionShutdown",
}  # fmt: skip
_Fields = dict[str, Any]


class _NotRecognised(ValueError):
    """An event does not have the words that events of its name carry."""


@dataclass(frozen=True, slots=True)
class Event:
    """A hook event of any agent.

    Attributes:
        agent: the agent's id.
        name: the event's name; for Cline's CLI, that of its hook.
        session_id: the agent's id of the session.
        transcript: the path of the session's transcript, if the event names it.
        cwd: the folder the session works in.
        turns: what the event contains, in order.
        messages: those of the turns that are prompts or replies, which the transcript may not contain yet.
        ends_session: nothing is added to the transcript after this event.
        source: why a session starts ("startup", "resume", "clear", "compact").
        recognised: it is a whole event of a known kind, with the words that this kind carries. Of any other, only the
            session's transcript can be stored.
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
    recognised: bool = True

    @property
    def has_transcript(self) -> bool:
        """Whether the agent's transcript contains everything that its events do."""
        return info_of(self.agent).has_transcript and self.name != whole_outputs.EVENT


def parse_event(agent: str, raw: bytes, at: float) -> Event | None:
    """Parses what a hook received.

    Args:
        agent: the id of the agent that the hook is registered for, which VS Code runs too. An agent that is not in the
            table is read like Claude Code.
        raw: the event's JSON; it may be cut off.
        at: when it was received, in seconds since 1970.

    Returns:
        The event; None if it is not JSON or names no session.
    """
    fields, whole = _object(raw)
    if agent in _RUN_BY_VSCODE and _VSCODE_NAME in fields:
        agent = VSCODE.id
    session, name = _session_of(agent, fields), _name_of(agent, fields)
    if session is None:
        return None
    turns, has_words = _read_turns(agent, name, fields, iso(at))
    # What a sub-agent says is not part of the session's own conversation.
    own = not (agent == CLINE.id and fields.get("parent_agent_id"))
    messages = tuple(turn for turn in turns if own and turn.call_id is None and turn.name is None)
    return Event(
        agent,
        name,
        session,
        _first(fields, "agent_transcript_path", "transcript_path"),
        _first(fields, "cwd") or _first_of(fields.get("workspace_roots")) or _first_of(fields.get("workspaceRoots")),
        turns if own else (),
        tuple(turn for turn in messages if not (turn.role == "user" and turn.content.startswith(_COMMAND))),
        name in SESSION_ENDS,
        _first(fields, "source"),
        whole and has_words and _is_known(agent, name),
    )


def _session_of(agent: str, fields: _Fields) -> str | None:
    """The session's id. Cline's CLI names a run's conversation beside the session, after which the file is named."""
    context = fields.get("sessionContext")
    root = text_or_none(context.get("rootSessionId")) if agent == CLINE.id and isinstance(context, dict) else None
    return root or _first(fields, "session_id", "conversation_id", "thread-id", "taskId", _VSCODE_SESSION)


def _name_of(agent: str, fields: _Fields) -> str:
    name = _first(fields, "hook_event_name", "hookName", "type", _VSCODE_NAME) or ""
    return _CLINE_NAMES.get(name, name) if agent == CLINE.id else name


def _is_known(agent: str, name: str) -> bool:
    known = info_of(agent)
    if not known.events:
        known = CLAUDE_CODE
    return name in known.events or name in known.wordless_events or name in (_NOTIFICATION, whole_outputs.EVENT)


def _read_turns(agent: str, name: str, fields: _Fields, said_at: str) -> tuple[tuple[NewTurn, ...], bool]:
    """Returns the turns in an event, and whether it has all the words that an event of its name carries."""
    try:
        turns = tuple(_turns(agent, name, fields, said_at))
    except _NotRecognised:
        return (), False
    if name == whole_outputs.EVENT or not info_of(agent).has_transcript:
        return ParseLog().sanitize((0, turn) for turn in turns), True
    valid = tuple(turn for turn in turns if _is_valid(turn))
    return valid, len(valid) == len(turns)


def decode_event(raw: bytes) -> str:
    """The text of an event without byte order marks before it: PowerShell on Windows writes one, or two."""
    return raw.decode("utf-8", "replace").lstrip(_BLANK)


def _object(raw: bytes) -> tuple[_Fields, bool]:
    """Returns the event's fields, and whether these are all."""
    text = decode_event(raw)
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        return _from_truncated(text), False
    return (fields, True) if isinstance(fields, dict) else ({}, False)


def _from_truncated(text: str) -> _Fields:
    """The session and the transcript that an event names at its start, if it was cut off."""
    found: _Fields = {}
    for key in ("session_id", "transcript_path", "cwd", "hook_event_name", _VSCODE_SESSION, _VSCODE_NAME):
        match = re.search(rf'"{key}"\s*:\s*("(?:[^"\\]|\\.)*")', text)
        if match:
            try:
                found[key] = json.loads(match[1])
            except ValueError:
                continue
    return found


def _turns(agent: str, name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    known = info_of(agent)
    if name in known.wordless_events:
        return iter(())
    if name == whole_outputs.EVENT:
        return _claude("PostToolUse", fields, said_at)
    read = {CURSOR.id: _cursor, CLINE.id: _cline}.get(agent, _claude)
    return read(known.event_names.get(name, name), fields, said_at)


def _claude(name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    """Claude Code's events, which Codex adopted, and Codex's older notification of a completed turn."""
    if name == "UserPromptSubmit":
        context, prompt = split_hook_context(_words(fields, "prompt"))
        if context:
            yield NewTurn("system", context, INJECTED, said_at)
        yield from _message("user", prompt, said_at)
    elif name == "Stop":
        yield from _message("assistant", _words(fields, "last_assistant_message"), said_at)
    elif name == "PostToolUse":
        call = text_or_none(fields.get("tool_use_id"))
        tool = _words(fields, "tool_name")
        yield from _call(tool, fields.get("tool_input"), fields.get("tool_response"), said_at, call)
    elif name == _NOTIFICATION:
        prompts = fields.get("input-messages")
        for prompt in prompts if isinstance(prompts, list) else []:
            yield from _message("user", prompt, said_at)
        yield from _message("assistant", fields.get("last-assistant-message"), said_at)


def _cursor(name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    if name == "beforeSubmitPrompt":
        yield from _message("user", _words(fields, "prompt"), said_at)
    elif name == "afterAgentResponse":
        yield from _message("assistant", _words(fields, "text"), said_at)
    elif name == "afterAgentThought":
        for turn in _message("assistant", _words(fields, "text"), said_at):
            yield NewTurn("assistant", turn.content, THINKING, said_at)
    elif name == "afterShellExecution":
        yield from _call("shell", _words(fields, "command"), fields.get("output"), said_at)
    elif name == "afterMCPExecution":
        yield from _call(_words(fields, "tool_name"), fields.get("tool_input"), fields.get("result_json"), said_at)
    elif name == "afterFileEdit":
        edit = {"file_path": fields.get("file_path"), "edits": fields.get("edits")}
        yield NewTurn("assistant", compact_json(edit), "edit_file", said_at)


def _cline(name: str, fields: _Fields, said_at: str) -> Iterator[NewTurn]:
    details = fields.get(name[:1].lower() + name[1:])
    details = details if isinstance(details, dict) else {}
    if name == "UserPromptSubmit":
        yield from _message("user", _words(details, "prompt"), said_at)
    elif name == "PostToolUse":
        yield from _cline_call(fields.get("tool_result"), details, said_at)
    elif name == "TaskComplete" and isinstance(fields.get("turn"), dict):
        yield from _message("assistant", _words(fields["turn"], "outputText"), said_at)


def _cline_call(record: object, details: _Fields, said_at: str) -> Iterator[NewTurn]:
    """A completed call. The CLI's record of it has the call's id and its arguments unchanged."""
    if isinstance(record, dict) and text_or_none(record.get("name")):
        call = text_or_none(record.get("id"))
        result = record.get("output") if record.get("output") is not None else record.get("error")
        yield from _call(record["name"], record.get("input"), result, said_at, call)
    elif _words(details, "toolName") == "attempt_completion":
        result = details.get("parameters")
        yield from _message("assistant", result.get("result") if isinstance(result, dict) else result, said_at)
    else:
        yield from _call(details["toolName"], details.get("parameters"), details.get("result"), said_at)


def _words(fields: _Fields, key: str) -> str:
    """The text in a field that is always there, empty if it is null. Raises _NotRecognised."""
    value = fields.get(key, _NotRecognised)
    if value is not None and not isinstance(value, str):
        raise _NotRecognised(key)
    return value or ""


def _message(role: Any, text: object, said_at: str) -> Iterator[NewTurn]:
    if text_or_none(text):
        yield NewTurn(role, str(text), None, said_at)


def _call(name: str, fields: object, result: object, said_at: str, call: str | None = None) -> Iterator[NewTurn]:
    if not name:
        raise _NotRecognised("name")
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
