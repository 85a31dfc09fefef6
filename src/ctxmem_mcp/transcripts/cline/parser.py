"""Conversations of Cline and its forks (Roo Code, Kilo Code): Anthropic's messages in wrapping of its own.

There are two kinds of files: a task's `api_conversation_history.json`, a list of messages, whose folder names the task;
and a session's `ID.messages.json`, which newer versions write. The user's words are in tags and become the user's
turns; `<environment_details>` and all else that the host puts beside them are system turns named `injected`. Calls are
blocks, or tags in the text; results are blocks, or texts with the header `[tool for '...'] Result:`, which go to the
call of that name. The system prompt is left out: the host writes it again each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.agents import CLINE, CLINE_SESSION_SUFFIX, CLINE_TASK_FILE
from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, Transcript
from ctxmem_mcp.transcripts.cline.user_messages import (
    has_user_tags,
    match_result_header,
    turns_from_result,
    turns_from_user_text,
    working_directory,
)
from ctxmem_mcp.transcripts.cline.xml_tool_calls import turns_from_assistant_text, turns_from_call
from ctxmem_mcp.transcripts.content_blocks import name_results, turns_from_blocks
from ctxmem_mcp.transcripts.json_documents import numbered_objects, read_document
from ctxmem_mcp.transcripts.json_lines import NumberedRow, text_or_none, timestamp_from_millis

AGENT = CLINE.id
_ENVIRONMENT_TAG = "<environment_details>"


def looks_like(name: str, head: str) -> bool:
    """Recognises the two file names, or a list of messages in which the host describes its environment."""
    start = head.lstrip()
    if name.endswith(CLINE_SESSION_SUFFIX):
        return start[:1] == "{" and '"messages"' in head
    return start[:1] == "[" and (_file_name(name) == CLINE_TASK_FILE or ('"role"' in head and _ENVIRONMENT_TAG in head))


def parse(text: str, name: str) -> Transcript:
    """Returns the task or session in a file, named by its folder (see `registry.name_for_parser`)."""
    log = ParseLog()
    body = read_document(text, log)
    is_session = isinstance(body, dict)
    messages = [*numbered_objects(body.get("messages") if isinstance(body, dict) else body, log)]
    reader = _MessageReader(tagged=not is_session and _is_tagged(messages))
    turns = log.sanitize(name_results([*reader.turns(messages)]))
    return Transcript(AGENT, _session_id(name), turns, warnings=tuple(log.warnings), cwd=_cwd(turns))


def _file_name(name: str) -> str:
    return name.rpartition("/")[2]


def _session_id(name: str) -> str:
    folder, _, file = name.rpartition("/")
    if not file.endswith(CLINE_SESSION_SUFFIX):
        return folder
    own_id = file.removesuffix(CLINE_SESSION_SUFFIX)
    # A sub-agent's file is in its session's folder, under the sub-agent's id.
    return own_id if folder in ("", own_id) else f"{folder}:{own_id}"


def _is_tagged(messages: list[NumberedRow]) -> bool:
    """Returns whether the host puts the user's words in tags: it does so from the first message on, or never."""
    first = next((message.get("content") for _, message in messages if message.get("role") == "user"), None)
    return any(has_user_tags(turn.content) for turn in turns_from_blocks("user", first))


def _cwd(turns: tuple[NewTurn, ...]) -> str | None:
    texts = (turn.content for turn in turns if turn.role == "system" and turn.content.startswith(_ENVIRONMENT_TAG))
    return next((folder for text in texts if (folder := working_directory(text))), None)


# ---------------------------------------------------------------- turns


class _MessageReader:
    """Reads messages in order and pairs results with calls."""

    def __init__(self, *, tagged: bool) -> None:
        self._tagged = tagged
        self._pending: list[NewTurn] = []  # calls of the last reply that have no result yet

    def turns(self, messages: list[NumberedRow]) -> Iterator[NumberedTurn]:
        for number, message in messages:
            said_at = timestamp_from_millis(message.get("ts"))
            if message.get("role") == "assistant":
                turns = [*_assistant_turns(message.get("content"), number, said_at)]
                self._pending = [turn for turn in turns if turn.call_id]
            else:
                turns = [*self._user_turns(message.get("content"), said_at)]
            yield from ((number, turn) for turn in turns if turn.content or turn.call_id)

    def _user_turns(self, content: object, said_at: str | None) -> Iterator[NewTurn]:
        """Yields a user message's turns. A result's header may be a part of its own, followed by the result."""
        headed: NewTurn | None = None  # the result of a header without text behind it
        for part in content if isinstance(content, list) else [content]:
            turns = [*turns_from_blocks("user", [part], said_at)]
            text = turns[0].content if turns and _is_text(part) else None
            header = match_result_header(text) if text else None
            if header:
                headed = self._result_for(header.tool, header.line, said_at)
                if header.result:
                    yield from turns_from_result(headed, header.result)
                    headed = None
            elif headed is not None and turns and not turns[0].content.startswith(_ENVIRONMENT_TAG):
                yield from turns_from_result(headed, turns[0].content)
                headed = None
            elif text is not None:
                yield from turns_from_user_text(text, said_at, tagged=self._tagged)
            else:
                for turn in turns:
                    yield from turns_from_result(replace(turn, content=""), turn.content) if turn.call_id else [turn]

    def _result_for(self, tool: str, header: str, said_at: str | None) -> NewTurn:
        """Returns a result without its text yet, paired with the pending call of that tool.

        A single pending call is the one meant even if it has another name. If no call fits or the names differ, the
        header is kept, because the turn's name does not say the same.
        """
        calls = [call for call in self._pending if call.name == tool] or self._pending
        if calls and (calls[0].name == tool or len(calls) == 1):
            self._pending = [call for call in self._pending if call is not calls[0]]
            return NewTurn("tool", "" if calls[0].name == tool else header, calls[0].name, said_at, calls[0].call_id)
        return NewTurn("tool", header, tool, said_at)


def _is_text(part: object) -> bool:
    return isinstance(part, str) or (isinstance(part, dict) and part.get("type") == "text")


def _assistant_turns(content: object, number: int, said_at: str | None) -> Iterator[NewTurn]:
    blocks = content if isinstance(content, list) else [content]
    for i, block in enumerate(blocks):
        call_id = text_or_none(block.get("id")) if isinstance(block, dict) else None
        if isinstance(block, dict) and block.get("type") == "tool_use" and text_or_none(block.get("name")):
            yield from turns_from_call(block["name"], block.get("input"), call_id or f"call-{number}-{i}", said_at)
            continue
        for turn in turns_from_blocks("assistant", [block], said_at):
            if turn.name == THINKING or turn.call_id or turn.role == "tool":
                yield turn
            else:
                yield from turns_from_assistant_text(turn.content, number, said_at)
