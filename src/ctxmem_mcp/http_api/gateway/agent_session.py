"""A request that names its agent's session: which session it is, and how its messages align with what is stored. Pure.

The agent's hooks store the session from its transcript, which has neither the system prompt nor the host's reminders,
and may be behind the request or ahead of it. So only what the user, the model and the tools say is compared. A request
that begins with neither the session's words nor a recap asks for a title, or the like: it is not the session's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.capture.redaction import PLACEHOLDER_START, load_redactor
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex

# Headers of Claude Code, Codex and opencode.
_HEADERS = ("x-claude-code-session-id", "session_id", "session-id", "x-session-affinity")
# Claude Code's header with the id of the sub-agent whose request it is. Its transcript has the same id.
_SUBAGENT_HEADER = "x-claude-code-agent-id"
# Older versions of Claude Code put the session's id at the end of the user's.
_USER_ID = lazy_regex(r"_session_([0-9a-f-]{36})\Z")
NOT_STORED = -1
# Qwen Code answers its own description of the folder in the model's place, in its requests only.
_ACKNOWLEDGEMENT = "Got it. Thanks for the context!"


@dataclass(frozen=True, slots=True)
class LineTurn:
    """A turn of the session's current branch, as it is stored."""

    turn: NewTurn
    id: str


@dataclass(frozen=True, slots=True)
class SessionAlignment:
    """How the turns of a request continue the session.

    Attributes:
        known: how many of the stored turns the new ones follow.
        new: the turns to store.
        positions: the index of each turn of the request in the branch, NOT_STORED for the host's text.
    """

    known: int
    new: tuple[NewTurn, ...]
    positions: tuple[int, ...]


def conversation_of_session(body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """Returns the id of the conversation of the session that a request names; None if it names none.

    A sub-agent that the request names has a conversation of its own, as in the session's transcripts.

    Args:
        body: the request's body.
        headers: its headers, by lower-case name.
    """
    named = next((value for name in _HEADERS if (value := headers.get(name, "").strip())), None)
    session = named or _session_in_user_id(body.get("metadata")) or _session_in_request(body.get("request"))
    if not session:
        return None
    subagent = headers.get(_SUBAGENT_HEADER, "").strip()
    return conversation_id_for(f"{session}:{subagent}" if subagent else session)


def _session_in_user_id(metadata: object) -> str | None:
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str):
        return None
    if found := _USER_ID.search(user):
        return found[1]
    try:
        fields = json.loads(user)
    except (ValueError, RecursionError):
        return None
    session = fields.get("session_id") if isinstance(fields, dict) else None
    return session if isinstance(session, str) and session else None


def _session_in_request(request: object) -> str | None:
    """The session that Gemini CLI names with a Google login."""
    session = request.get("session_id") if isinstance(request, dict) else None
    return session if isinstance(session, str) and session else None


@dataclass(frozen=True, slots=True)
class AlignedStart:
    """The turns at the beginning of a request that an earlier request had too.

    Attributes:
        positions: the index of each in the branch, NOT_STORED for the host's text.
        calls: the index of each call and result in the branch, by role and call id.
    """

    positions: Sequence[int]
    calls: Mapping[tuple[str, str | None], int]


def align_session(
    sent: Sequence[NewTurn], line: Sequence[LineTurn], start: AlignedStart | None = None
) -> SessionAlignment | None:
    """Aligns a request's turns with the session's current branch; returns None if they are not of the session.

    Args:
        sent: the turns of the request.
        line: the branch.
        start: those that are aligned already.
    """
    begin = len(start.positions) if start else 0
    words = [i for i in range(begin, len(sent)) if sent[i].role != "system" and not _is_acknowledgement(sent, i)]
    known = max(start.positions) + 1 if start else _start(sent, words, line)
    if known is None:
        return None
    calls = start.calls if start else calls_in(line)
    positions = [*(start.positions if start else ()), *[NOT_STORED] * (len(sent) - begin)]
    first_new, thoughts = len(sent), _last_thoughts(sent, positions, begin)
    for i in words:
        call = sent[i].call_id
        at = calls.get((sent[i].role, call)) if call else _find(sent[i], line, known)
        if at is not None:
            positions[i], known, thoughts = at, max(known, at + 1), []
        elif sent[i].name == THINKING:  # a transcript may lack it
            thoughts.append(i)
        else:
            first_new = min([i, *thoughts])
            break
    new = [i for i in words if i >= first_new]
    if new and all(_may_be_left_out(one.turn) for one in line[known:]):
        known = len(line)
    for number, i in enumerate(new):
        positions[i] = known + number
    return SessionAlignment(known, tuple(sent[i] for i in new), tuple(positions))


def calls_in(line: Sequence[LineTurn], first: int = 0) -> dict[tuple[str, str | None], int]:
    """Returns the index of each call and result in a branch, from this turn on."""
    turns = ((at, line[at].turn) for at in range(first, len(line)))
    return {(turn.role, turn.call_id): at for at, turn in turns if turn.call_id}


def _last_thoughts(sent: Sequence[NewTurn], positions: Sequence[int], end: int) -> list[int]:
    """Returns the thoughts before a turn that are stored together with the next turn, if that is new."""
    thoughts: list[int] = []
    for i in range(end - 1, -1, -1):
        if positions[i] != NOT_STORED:
            break
        if sent[i].name == THINKING:
            thoughts.append(i)
    return thoughts


def _start(sent: Sequence[NewTurn], words: Sequence[int], line: Sequence[LineTurn]) -> int | None:
    """Returns the index of the stored turn that the request begins with. A recap replaces all turns before it."""
    if not words:
        return None
    if all(one.turn.role == "system" for one in line):  # an agent may write its context before the prompt
        return len(line)
    found = [at for at, one in enumerate(line) if _is_same(sent[words[0]], one.turn)]
    if any(turn.name == RECAP for turn in sent[: words[0]]):
        return found[-1] if found else len(line)
    return found[0] if found else None


def _find(turn: NewTurn, line: Sequence[LineTurn], at: int) -> int | None:
    while at < len(line):
        if _is_same(turn, line[at].turn):
            return at
        if not _may_be_left_out(line[at].turn):
            return None
        at += 1
    return None


def _is_same(a: NewTurn, b: NewTurn) -> bool:
    if a.call_id:
        return (a.role, a.call_id) == (b.role, b.call_id)
    if (a.role, a.name) != (b.role, b.name):
        return False
    return a.content == b.content or (PLACEHOLDER_START in b.content and _redacted(a.content) == b.content)


def _redacted(text: str) -> str:
    """The text as it is stored if secrets are removed."""
    try:
        return load_redactor()(text)
    except InvalidArgument:  # the redactor is not installed any more
        return text


def _is_acknowledgement(sent: Sequence[NewTurn], at: int) -> bool:
    turn = sent[at]
    return at > 0 and turn.role == "assistant" and turn.content == _ACKNOWLEDGEMENT and sent[at - 1].name == INJECTED


def _may_be_left_out(turn: NewTurn) -> bool:
    """Whether a request may lack a stored turn: the host's text, and a thought."""
    return turn.role == "system" or turn.name == THINKING
