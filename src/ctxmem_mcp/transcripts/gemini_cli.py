"""Gemini CLI's sessions (`chats/session-*.json` and `.jsonl`), and what it prints with `--output-format stream-json`.

Of a message of the model, thoughts are turns named `thinking`, then its text, then each call with its result. The CLI's
own context and notes are system turns named `injected`. In a `.jsonl` file a row with a known id replaces the message,
and `$rewindTo` takes back the message and all after it: they are in `abandoned_branches`. A `$set` of messages adds
those that are new; the ones it leaves out were compacted, and stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.text.host_text import split_hook_context
from ctxmem_mcp.transcripts.base import text_or_json
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, either, json_document, json_lines, objects
from ctxmem_mcp.transcripts.gemini_contents import PARTS
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none, timestamp_of
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import text_at

AGENT = "gemini"
_FIELDS = Fields(role="type", id="id", roles={"gemini": "assistant"})
_HOST_PREFIXES = ("<session_context>", "This is the Gemini CLI. We are setting up the context")
_STREAM_TYPES = ("init", "message", "tool_use", "tool_result", "result", "error")


def _is_session(row: Row) -> bool:
    return "sessionId" in row and ("projectHash" in row or "startTime" in row) and "requests" not in row


def _is_own_document(value: object) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        return False
    return _is_session(value) or any(row.get("type") == "gemini" for _, row in objects(value["messages"]))


def _is_own_lines(rows: list[Row]) -> bool:
    is_log = any(_is_session(row) and "messages" not in row for row in rows)
    return is_log or any("$rewindTo" in row for row in rows) or _is_stream(rows)


def _is_stream(rows: list[Row]) -> bool:
    return bool(rows) and all(row.get("type") in _STREAM_TYPES for row in rows) and any(
        ("session_id" in row and "model" in row) or "tool_id" in row for row in rows
    )  # fmt: skip


# ---------------------------------------------------------------- sessions


def _read_document(reader: Reader, value: object) -> Chat:
    session = value if isinstance(value, dict) else {}
    rows = objects(session.get("messages"), reader.log)
    return _chat(session, [reader.message(number, row, _turns(row), _FIELDS) for number, row in rows])


def _read_lines(reader: Reader, rows: list[NumberedRow]) -> Chat:
    if _is_stream([row for _, row in rows]):
        return _read_stream(reader, rows)
    header = next((row for _, row in rows if _is_session(row)), {})
    log = _SessionLog(reader)
    for number, row in rows:
        log.add(number, row)
    return _chat(header, log.messages, log.tip)


def _chat(session: Row, messages: list[Message], tip: str | None = None) -> Chat:
    directories = session.get("directories")
    cwd = text_or_none(directories[0]) if isinstance(directories, list) and directories else None
    return Chat(_without_repeats(messages), text_at(session, "sessionId"), text_at(session, "summary"), cwd, tip)


def _without_repeats(messages: list[Message]) -> list[Message]:
    """Returns the messages without the results that a call's row has already, and that a row of their own repeats."""
    seen: set[tuple[str | None, str]] = set()
    kept: list[Message] = []
    for message in messages:
        results = {(turn.call_id, turn.content) for turn in message.turns if turn.role == "tool" and turn.call_id}
        turns = (turn for turn in message.turns if turn.role != "tool" or (turn.call_id, turn.content) not in seen)
        kept.append(replace(message, turns=tuple(turns)))
        seen |= results
    return kept


class _SessionLog:
    """Replays the rows of a `.jsonl` session into a tree of messages."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.messages: list[Message] = []
        self.tip: str | None = None
        self._place_of: dict[str, int] = {}

    def add(self, number: int, row: Row) -> None:
        if "$rewindTo" in row:
            self._rewind(str(row["$rewindTo"]))
        elif isinstance(row.get("$set"), dict):
            known = {message.turns for message in self.messages}
            for _, message in objects(row["$set"].get("messages")):
                if tuple(_turns(message)) not in known:
                    self._add_message(number, message)
        elif not _is_session(row):
            self._add_message(number, row)

    def _add_message(self, number: int, row: Row) -> None:
        message = self._reader.message(number, row, _turns(row), _FIELDS)
        own = message.id or f"line {number}"
        if own in self._place_of:
            at = self._place_of[own]
            self.messages[at] = replace(self.messages[at], turns=message.turns)
            return
        self._place_of[own] = len(self.messages)
        self.messages.append(replace(message, id=own, parent=self.tip, is_root=self.tip is None))
        self.tip = own

    def _rewind(self, id: str) -> None:
        if id in self._place_of:
            self.tip = self.messages[self._place_of[id]].parent


def _turns(row: Row) -> Iterator[NewTurn]:
    kind, said_at = row.get("type"), timestamp_of(row)
    for _, thought in objects(row.get("thoughts")):
        if text := "\n".join(filter(None, (text_at(thought, "subject"), text_at(thought, "description")))):
            yield NewTurn("assistant", text, THINKING, said_at)
    calls = objects(row.get("toolCalls"))
    own_ids = {text_or_none(call.get("id")) for _, call in calls}
    if text_or_none(kind):
        role, name = _FIELDS.author(row)
        for turn in PARTS.turns(role, row.get("content"), said_at, name):
            # After a resume the content has the calls too.
            if turn.call_id is None or turn.call_id not in own_ids:
                yield from _user_turns(turn) if role == "user" else [turn]
    for _, call in calls:
        yield from _call(call, said_at)


def _user_turns(turn: NewTurn) -> Iterator[NewTurn]:
    """Separates the user's words from those of the CLI and of hooks."""
    context, words = split_hook_context(turn.content)
    if turn.content.lstrip().startswith(_HOST_PREFIXES):
        yield replace(turn, role="system", name=INJECTED)
        return
    if context:
        yield replace(turn, role="system", name=INJECTED, content=context)
    if words:
        yield replace(turn, content=words)


def _call(call: Row, said_at: str | None) -> Iterator[NewTurn]:
    name, call_id = text_or_none(call.get("name")), text_or_none(call.get("id"))
    yield NewTurn("assistant", text_or_json(call.get("args", {})), name, said_at, call_id)
    results = call.get("result")
    if results is None and call.get("resultDisplay") is not None:
        results = [text_or_json(call["resultDisplay"])]
    for turn in PARTS.turns("tool", results, said_at, name):
        yield replace(turn, role="tool", name=name, call_id=call_id)


# ---------------------------------------------------------------- the stream of a headless run


def _read_stream(reader: Reader, rows: list[NumberedRow]) -> Chat:
    session = next((text_at(row, "session_id") for _, row in rows if "session_id" in row), None)
    return Chat([reader.message(n, row, _stream_turns(row), Fields()) for n, row in _joined(rows)], session)


def _joined(rows: Iterable[NumberedRow]) -> Iterator[NumberedRow]:
    """Yields the rows, the pieces of a streamed message joined into one."""
    pending: NumberedRow | None = None
    for number, row in rows:
        if row.get("type") == "message" and row.get("delta") and isinstance(row.get("content"), str):
            if pending and pending[1].get("role") == row.get("role"):
                pending = (pending[0], {**pending[1], "content": pending[1]["content"] + row["content"]})
                continue
            if pending:
                yield pending
            pending = (number, row)
            continue
        if pending:
            yield pending
        pending = None
        yield number, row
    if pending:
        yield pending


def _stream_turns(row: Row) -> Iterator[NewTurn]:
    said_at, call_id = timestamp_of(row), text_at(row, "tool_id")
    if row.get("type") == "message":
        role, name = Fields().author(row)
        yield from PARTS.turns(role, row.get("content"), said_at, name)
    elif row.get("type") == "tool_use":
        yield NewTurn("assistant", text_or_json(row.get("parameters", {})), text_at(row, "tool_name"), said_at, call_id)
    elif row.get("type") == "tool_result":
        text = row.get("output") or text_at(row, "error.message") or row.get("error") or ""
        yield NewTurn("tool", text_or_json(text), None, said_at, call_id)


looks_like, parse = either(
    json_lines(AGENT, _is_own_lines, _read_lines), json_document(AGENT, _is_own_document, _read_document)
)
