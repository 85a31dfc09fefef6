"""What an agent's event says, in one form for all of them. Pure: bytes in, an Event out.

Agents of one kind write a transcript that has everything: it is the truth, and of their events only the words that it
may not have yet are taken. Cursor's has less than its events: there these are the truth.
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

# A command of the host, which the transcript tells in words of its own.
_COMMAND = "/"
_Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """session_id: as the agent names it. transcript: the file it names, if any. cwd: where it works.

    words: what was said in it, in order. spoken: those of them that the user or the agent said last, which a
    transcript may be late with. ends: nothing will be added to the session's transcript after it. source: why a
    session begins.
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
        return info_of(self.agent).has_transcript


def parse_event(agent: str, raw: bytes, at: float) -> Event | None:
    """The event in what a hook was given at that instant; None where it is nothing that can be read."""
    given = _object(raw)
    if given is None:
        return None
    session = _first(given, "session_id", "conversation_id", "thread-id", "taskId")
    name = _first(given, "hook_event_name", "hookName", "type") or ""
    if session is None:
        return None
    said_at = iso(at)
    words = tuple(turn for turn in _turns(agent, name, given, said_at) if _is_valid(turn))
    spoken = tuple(turn for turn in words if turn.call_id is None and turn.name is None)
    return Event(
        agent,
        name,
        session,
        _first(given, "agent_transcript_path", "transcript_path"),
        _first(given, "cwd") or _first_of(given.get("workspace_roots")) or _first_of(given.get("workspaceRoots")),
        words,
        tuple(turn for turn in spoken if not (turn.role == "user" and turn.content.startswith(_COMMAND))),
        name in SESSION_ENDS,
        _first(given, "source"),
    )


def _object(raw: bytes) -> _Fields | None:
    text = raw.decode("utf-8", "replace")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return _from_truncated(text)
    return given if isinstance(given, dict) else None


def _from_truncated(text: str) -> _Fields | None:
    """What an event that was cut off names at its beginning: the session, the transcript."""
    found: _Fields = {}
    for key in ("session_id", "transcript_path", "cwd", "hook_event_name"):
        match = re.search(rf'"{key}"\s*:\s*("(?:[^"\\]|\\.)*")', text)
        if match:
            try:
                found[key] = json.loads(match[1])
            except ValueError:
                continue
    return found or None


def _turns(agent: str, name: str, given: _Fields, said_at: str) -> Iterator[NewTurn]:
    read = {CURSOR.id: _cursor, CLINE.id: _cline}.get(agent, _claude)
    return read(name, given, said_at)


def _claude(name: str, given: _Fields, said_at: str) -> Iterator[NewTurn]:
    """Claude Code's events, which Codex has taken over, and Codex's older notice of a turn that is complete."""
    if name == "UserPromptSubmit":
        yield from _message("user", given.get("prompt"), said_at)
    elif name == "Stop":
        yield from _message("assistant", given.get("last_assistant_message"), said_at)
    elif name == "PostToolUse" and text_or_none(given.get("tool_name")):
        call = text_or_none(given.get("tool_use_id"))
        yield from _call(given["tool_name"], given.get("tool_input"), given.get("tool_response"), said_at, call)
    elif name == "agent-turn-complete":
        prompts = given.get("input-messages")
        for prompt in prompts if isinstance(prompts, list) else []:
            yield from _message("user", prompt, said_at)
        yield from _message("assistant", given.get("last-assistant-message"), said_at)


def _cursor(name: str, given: _Fields, said_at: str) -> Iterator[NewTurn]:
    if name == "beforeSubmitPrompt":
        yield from _message("user", given.get("prompt"), said_at)
    elif name == "afterAgentResponse":
        yield from _message("assistant", given.get("text"), said_at)
    elif name == "afterAgentThought":
        for turn in _message("assistant", given.get("text"), said_at):
            yield NewTurn("assistant", turn.content, THINKING, said_at)
    elif name == "afterShellExecution":
        yield from _call("shell", given.get("command"), given.get("output"), said_at)
    elif name == "afterMCPExecution" and text_or_none(given.get("tool_name")):
        yield from _call(given["tool_name"], given.get("tool_input"), given.get("result_json"), said_at)
    elif name == "afterFileEdit":
        edit = {"file_path": given.get("file_path"), "edits": given.get("edits")}
        yield NewTurn("assistant", compact_json(edit), "edit_file", said_at)


def _cline(name: str, given: _Fields, said_at: str) -> Iterator[NewTurn]:
    about = given.get(name[:1].lower() + name[1:])
    about = about if isinstance(about, dict) else {}
    if name == "UserPromptSubmit":
        yield from _message("user", about.get("prompt"), said_at)
    elif name == "PostToolUse" and text_or_none(about.get("toolName")):
        if about["toolName"] == "attempt_completion":
            result = about.get("parameters")
            yield from _message("assistant", result.get("result") if isinstance(result, dict) else result, said_at)
        else:
            yield from _call(about["toolName"], about.get("parameters"), about.get("result"), said_at)


def _message(role: Any, text: object, said_at: str) -> Iterator[NewTurn]:
    if text_or_none(text):
        yield NewTurn(role, str(text), None, said_at)


def _call(name: str, given: object, result: object, said_at: str, call: str | None = None) -> Iterator[NewTurn]:
    yield NewTurn("assistant", given if isinstance(given, str) else compact_json(given), name, said_at, call)
    if result is not None:
        yield NewTurn("tool", result if isinstance(result, str) else compact_json(result), name, said_at, call)


def _first(given: _Fields, *keys: str) -> str | None:
    return next((str(given[key]) for key in keys if text_or_none(given.get(key))), None)


def _first_of(roots: object) -> str | None:
    return text_or_none(roots[0]) if isinstance(roots, list) and roots else None


def _is_valid(turn: NewTurn) -> bool:
    """Whether it is Unicode throughout: half a surrogate pair is the transcript's to mend."""
    try:
        "".join((turn.content, turn.name or "", turn.call_id or "")).encode()
    except UnicodeEncodeError:
        return False
    return True
