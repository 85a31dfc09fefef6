"""Cline's conversations, and those of its forks (Roo Code, Kilo Code): Anthropic's messages with wrapping of its own.

Two kinds of files: a task's `api_conversation_history.json`, a list of messages, whose folder names the task; and a
session's `ID.messages.json`, which newer versions write. The user's words stand in tags and are the user's turns;
`<environment_details>` and all else that the host puts beside them are system turns named 'injected'. Calls are blocks,
or tags in the text; results are blocks, or texts headed `[tool for '...'] Result:`, which find the call of that name.
The system prompt is left out: the host writes it anew each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript
from ctxmem_mcp.transcripts.cline.user_messages import folder_in, headed, is_wrapped, turns_of_result, turns_of_said
from ctxmem_mcp.transcripts.cline.xml_tool_calls import turns_of_call, turns_of_text
from ctxmem_mcp.transcripts.content_blocks import named_by_calls, turns_of_blocks
from ctxmem_mcp.transcripts.json_documents import document
from ctxmem_mcp.transcripts.json_lines import Row, instant_of_millis, text_of

AGENT = "cline"
TASK_FILE = "api_conversation_history.json"
SESSION_SUFFIX = ".messages.json"
_DETAILS = "<environment_details>"


def looks_like(name: str, head: str) -> bool:
    """A file of that name, or a list of messages in which the host tells of its environment."""
    start = head.lstrip()
    if name.endswith(SESSION_SUFFIX):
        return start[:1] == "{" and '"messages"' in head
    return start[:1] == "[" and (_file_of(name) == TASK_FILE or ('"role"' in head and _DETAILS in head))


def parse(text: str, name: str) -> Transcript:
    """name: with its folder where that one names the task."""
    notes = Notes()
    body = document(text, notes)
    of_session = isinstance(body, dict)
    messages = [*_messages(body.get("messages") if isinstance(body, dict) else body, notes)]
    reader = _Reader(tagged=not of_session and _is_tagged(messages))
    turns = notes.mended(named_by_calls([*reader.turns(messages)]))
    return Transcript(AGENT, _session_id(name), turns, warnings=tuple(notes.warnings), cwd=_folder(turns))


def _file_of(name: str) -> str:
    return name.rpartition("/")[2]


def _session_id(name: str) -> str:
    folder, _, file = name.rpartition("/")
    if not file.endswith(SESSION_SUFFIX):
        return folder
    own = file.removesuffix(SESSION_SUFFIX)
    # A sub-agent's file lies in its session's folder and is called after the sub-agent.
    return own if folder in ("", own) else f"{folder}:{own}"


def _messages(body: object, notes: Notes) -> Iterator[tuple[int, Row]]:
    for number, message in enumerate(body if isinstance(body, list) else [], 1):
        if isinstance(message, dict):
            yield number, message
        else:
            notes.warnings.append(f"message {number}: is no object and was left out")


def _is_tagged(messages: list[tuple[int, Row]]) -> bool:
    """Whether the host puts the user's words into tags: it does so from the first message on, or never."""
    first = next((message.get("content") for _, message in messages if message.get("role") == "user"), None)
    return any(is_wrapped(turn.content) for turn in turns_of_blocks("user", first))


def _folder(turns: tuple[NewTurn, ...]) -> str | None:
    details = (turn.content for turn in turns if turn.role == "system" and turn.content.startswith(_DETAILS))
    return next((folder for text in details if (folder := folder_in(text))), None)


# ---------------------------------------------------------------- turns


class _Reader:
    """Reads messages in order. waiting: calls of the last reply whose results did not come yet."""

    def __init__(self, *, tagged: bool) -> None:
        self._tagged = tagged
        self._waiting: list[NewTurn] = []

    def turns(self, messages: list[tuple[int, Row]]) -> Iterator[tuple[int, NewTurn]]:
        for number, message in messages:
            said_at = instant_of_millis(message.get("ts"))
            if message.get("role") == "assistant":
                told = [*_replied(message.get("content"), number, said_at)]
                self._waiting = [turn for turn in told if turn.call_id]
            else:
                told = [*self._heard(message.get("content"), said_at)]
            yield from ((number, turn) for turn in told if turn.content or turn.call_id)

    def _heard(self, content: object, said_at: str | None) -> Iterator[NewTurn]:
        """A user message's turns. The line that heads a result may be a part of its own; the part behind it is the
        result then."""
        headless: NewTurn | None = None
        for part in content if isinstance(content, list) else [content]:
            told = [*turns_of_blocks("user", [part], said_at)]
            text = told[0].content if told and _is_text(part) else None
            found = headed(text) if text else None
            if found:
                headless = self._answering(found[0], found[1], said_at)
                if found[2]:
                    yield from turns_of_result(headless, found[2])
                    headless = None
            elif headless is not None and told and not told[0].content.startswith(_DETAILS):
                yield from turns_of_result(headless, told[0].content)
                headless = None
            elif text is not None:
                yield from turns_of_said(text, said_at, tagged=self._tagged)
            else:
                for turn in told:
                    yield from turns_of_result(replace(turn, content=""), turn.content) if turn.call_id else [turn]

    def _answering(self, name: str, line: str, said_at: str | None) -> NewTurn:
        """A result without its words yet. Where no call of that name waits, the line that heads it stays; a call that
        waits alone is meant all the same."""
        calls = [call for call in self._waiting if call.name == name] or self._waiting
        if calls and (calls[0].name == name or len(calls) == 1):
            self._waiting = [call for call in self._waiting if call is not calls[0]]
            return NewTurn("tool", "" if calls[0].name == name else line, calls[0].name, said_at, calls[0].call_id)
        return NewTurn("tool", line, name, said_at)


def _is_text(part: object) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text")


def _replied(content: object, place: int, said_at: str | None) -> Iterator[NewTurn]:
    blocks = content if isinstance(content, list) else [content]
    for at, block in enumerate(blocks):
        call = text_of(block.get("id")) if isinstance(block, dict) else None
        if isinstance(block, dict) and block.get("type") == "tool_use" and text_of(block.get("name")):
            yield from turns_of_call(block["name"], block.get("input"), call or f"call-{place}-{at}", said_at)
            continue
        for turn in turns_of_blocks("assistant", [block], said_at):
            if turn.name == THINKING or turn.call_id or turn.role == "tool":
                yield turn
            else:
                yield from turns_of_text(turn.content, place, said_at)
