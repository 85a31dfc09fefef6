"""Claude Code's session files: one JSON object a line, the rows linked to trees by `uuid` and `parentUuid`.

The conversation is in rows of type `user` and `assistant`, with one content block a row or several. Text is a turn; so
are thinking (an assistant turn named `thinking`), a call (an assistant turn with the tool's name, its input as JSON)
and a result (a tool turn). The host's text in the user's place becomes a system turn: named `recap` if it summarises a
compacted part, `injected` otherwise. Sub-agents are threads. A row appended twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ctxmem_mcp.agents import CLAUDE_CODE
from ctxmem_mcp.models import INJECTED, RECAP, NewTurn, Role
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, ParseState, Transcript, compact_json, text_or_json
from ctxmem_mcp.transcripts.claude_code import incremental
from ctxmem_mcp.transcripts.claude_code.branches import find_branches
from ctxmem_mcp.transcripts.claude_code.duplicates import without_duplicates
from ctxmem_mcp.transcripts.claude_code.rows import (
    MESSAGE_TYPES,
    TITLE_FIELDS,
    in_parent_order,
    is_hosts_answer,
    is_injected_text,
    is_notification,
)
from ctxmem_mcp.transcripts.content_blocks import name_results, turns_from_blocks
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, count_unread, first_rows, read_rows, text_or_none

AGENT = CLAUDE_CODE.id
_FOREIGN_TYPES = ("message", "function_call", "function_call_result", "reasoning")
# Attachments that the model saw, by type, with the path of fields to their text.
_ATTACHMENT_PATHS = {
    "file": ("content", "file", "content"), "directory": ("content",), "edited_text_file": ("snippet",),
    "selected_lines_in_ide": ("content",), "diagnostics": ("files",),
    "hook_blocking_error": ("blockingError", "blockingError"),
}  # fmt: skip
# Begins a command typed while the host was busy: the host runs it, and the model never sees it.
_COMMAND_PREFIX = "/"


def looks_like(name: str, head: str) -> bool:
    """Recognises rows that have a sessionId beside a type, unless others' rows are among them."""
    rows = [row for row in first_rows(head) if "sessionId" in row and "type" in row]
    return name.endswith(".jsonl") and bool(rows) and not any(_is_foreign(row) for row in rows)


def _is_foreign(row: Row) -> bool:
    """Returns whether a row is of an agent with similar files: Qwen Code has `parts`, WorkBuddy no messages."""
    message = row.get("message")
    if isinstance(message, dict) and ("parts" in message or message.get("role") == "model"):
        return True
    return row["type"] in _FOREIGN_TYPES or "systemPayload" in row


def parse(text: str, name: str) -> Transcript:
    """Returns the main thread, with each sub-agent found in the file as a thread of it."""
    return parse_resumable(text, name)[0]


def resume(state: ParseState, text: str) -> tuple[tuple[NewTurn, ...], ParseState] | None:
    """Returns the turns of the appended lines and the new state; None if the whole file has to be parsed."""
    return incremental.resume(state, text, _turns_from_row)


def parse_resumable(text: str, name: str) -> tuple[Transcript, ParseState]:
    """Returns the transcript, and the state from which `resume` continues when the file has grown."""
    log = ParseLog()
    rows = without_duplicates(read_rows(text, log))
    main = [(line, row) for line, row in rows if not row.get("isSidechain")]
    sidechain = [(line, row) for line, row in rows if row.get("isSidechain")]
    is_sidechain = not any(row.get("type") in MESSAGE_TYPES for _, row in main)  # a sub-agent's own file
    if is_sidechain:
        main, sidechain = [*sidechain, *main], []
    session = _session_id(main) or name.removesuffix(".jsonl")
    agent = next(
        (row["agentId"] for _, row in main if text_or_none(row.get("agentId")) and row.get("isSidechain")), None
    )
    dequeued = _dequeued_prompts(main)
    count_unread(rows, _is_understood, log)
    *abandoned, turns = [log.sanitize(_turns(branch)) for branch in find_branches([*main, *dequeued])]
    cwd = next((row["cwd"] for _, row in main if text_or_none(row.get("cwd"))), None)
    threads = [
        Transcript(AGENT, f"{session}:{agent_id}", log.sanitize(_turns(in_parent_order(thread))), cwd=cwd)
        for agent_id, thread in {**_sidechains(sidechain), **_agents_in_progress(main)}.items()
    ]
    transcript = Transcript(
        AGENT,
        f"{session}:{agent}" if agent else session,
        turns,
        _title(main),
        tuple(thread for thread in threads if thread.turns),
        tuple(branch for branch in abandoned if branch and branch != turns[: len(branch)]),
        tuple(log.warnings),
        cwd,
        log.unread,
    )
    state = incremental.state_after(
        [*main, *dequeued],
        session,
        is_sidechain=is_sidechain,
        dequeued=[row["content"] for _, row in dequeued],
        read_turns=_turns_from_row,
    )
    return transcript, state


def _session_id(main: list[NumberedRow]) -> str:
    return next((row["sessionId"] for _, row in reversed(main) if text_or_none(row.get("sessionId"))), "")


def _title(main: list[NumberedRow]) -> str | None:
    """Returns the user's title for the session, or else the host's. Summaries of other sessions don't count."""
    uuids = {None, *(text_or_none(row.get("uuid")) for _, row in main)}
    for kind, field in TITLE_FIELDS.items():
        for _, row in reversed(main):
            if row.get("type") == kind and text_or_none(row.get(field)) and row.get("leafUuid") in uuids:
                return str(row[field])
    return None


# ---------------------------------------------------------------- turns


def _turns(numbered: list[NumberedRow]) -> Iterator[NumberedTurn]:
    return name_results((line, turn) for line, row in numbered for turn in _turns_from_row(row))


def _turns_from_row(row: Row) -> Iterator[NewTurn]:
    said_at = text_or_none(row.get("timestamp"))
    said_at = said_at if said_at and said_at[:1].isdigit() else None
    kind, message = row.get("type"), row.get("message")
    if kind in ("user", "assistant") and isinstance(message, dict):
        role: Role = "assistant" if message.get("role", kind) == "assistant" else "user"
        for turn in turns_from_blocks(role, message.get("content"), said_at):
            yield _attributed(turn, row)
    elif kind == "tool_use":
        call_id = text_or_none(row.get("tool_use_id")) or text_or_none(row.get("id"))
        yield NewTurn("assistant", compact_json(row.get("input")), text_or_none(row.get("name")), said_at, call_id)
    elif kind == "tool_result":
        content = text_or_json(row.get("output", row.get("content")))
        name, call_id = text_or_none(row.get("name")), text_or_none(row.get("tool_use_id"))
        yield NewTurn("tool", content, name, said_at, call_id)
    elif kind == "attachment":
        yield from _turns_from_attachment(row, said_at)
    elif kind == "system" and row.get("subtype") == "local_command" and text_or_none(row.get("content")):
        yield NewTurn("system", row["content"], INJECTED, said_at)


def _is_understood(numbered: NumberedRow) -> bool:
    return next(_turns_from_row(numbered[1]), None) is not None


def _attributed(turn: NewTurn, row: Row) -> NewTurn:
    """Returns the turn under its author: the host's text in another's place becomes a system turn."""
    if turn.role == "assistant" and is_hosts_answer(row):
        return replace(turn, role="system", name=INJECTED)
    if turn.role != "user":
        return turn
    if row.get("isCompactSummary"):
        return replace(turn, role="system", name=RECAP)
    if row.get("isMeta") or is_notification(row) or is_injected_text(turn.content):
        return replace(turn, role="system", name=INJECTED)
    return turn


def _turns_from_attachment(row: Row, said_at: str | None) -> Iterator[NewTurn]:
    """Yields the turns of an attachment.

    It is a prompt typed while the agent was busy, a hook's text for the model, or a file or lines that the user
    mentioned or changed; these are preceded by their path.
    """
    attachment = row.get("attachment")
    if not isinstance(attachment, dict):
        return
    if attachment.get("type") == "queued_command":
        for turn in turns_from_blocks("user", attachment.get("prompt"), said_at):
            yield _attributed(turn, {**row, **attachment})
    elif attachment.get("type") == "hook_additional_context":
        content = attachment.get("content")
        for part in content if isinstance(content, list) else [content]:
            if text := text_or_none(part):
                yield NewTurn("system", text, INJECTED, said_at)
    elif text := _attachment_text(attachment):
        path = text_or_none(attachment.get("filename")) or text_or_none(attachment.get("path"))
        yield NewTurn("system", f"{path}\n{text}" if path else text, INJECTED, said_at)


def _attachment_text(attachment: Row) -> str:
    inner: Any = attachment
    for field in _ATTACHMENT_PATHS.get(str(attachment.get("type")), ()):
        if not isinstance(inner, dict) or field not in inner:
            break  # an image, for example: it is kept as JSON
        inner = inner[field]
    return "" if inner is attachment or not inner else text_or_json(inner)


# ---------------------------------------------------------------- queued prompts


def _dequeued_prompts(main: list[NumberedRow]) -> list[NumberedRow]:
    """Returns, as user rows, the prompts typed while the agent was busy that no other row repeats.

    They were taken off the queue and reached the model, but older versions log them only as queue operations. Their
    place is where they were taken off, so that the turns already read stay the same when the file grows.
    """
    queue: list[NumberedRow] = []
    taken: list[tuple[int, NumberedRow]] = []
    for line, row in main:
        if row.get("type") != "queue-operation":
            continue
        operation, text = row.get("operation"), text_or_none(row.get("content"))
        if operation == "enqueue" and text:
            queue.append((line, row))
        elif operation == "popAll":
            queue.clear()
        elif operation in ("remove", "dequeue") and queue:
            taken.append((line, queue.pop(0)))
    logged = [(line, text) for line, row in main for text in _user_texts(row)]
    return [
        (line, {**row, "type": "user", "message": {"role": "user", "content": row["content"]}})
        for line, (queued_at, row) in taken
        if not row["content"].startswith(_COMMAND_PREFIX) and not _take_repeat(row["content"], queued_at, logged)
    ]


def _take_repeat(prompt: str, queued_at: int, logged: list[tuple[int, str]]) -> bool:
    """Returns whether a row after the line `queued_at` repeats the prompt; takes it, so that it counts for no other."""
    repeat = next(((line, text) for line, text in logged if line > queued_at and text == prompt), None)
    if repeat:
        logged.remove(repeat)
    return repeat is not None


def _user_texts(row: Row) -> Iterator[str]:
    if row.get("type") in ("user", "attachment"):
        yield from (turn.content for turn in _turns_from_row(row) if turn.role in ("user", "system"))


# ---------------------------------------------------------------- sub-agents


def _sidechains(sidechain: list[NumberedRow]) -> dict[str, list[NumberedRow]]:
    """Groups a main file's rows of sub-agents by agent; if a row names none, by the first row of its chain."""
    chain_of: dict[str, str] = {}
    found: dict[str, list[NumberedRow]] = {}
    for line, row in sidechain:
        uuid, parent = text_or_none(row.get("uuid")) or f"line{line}", text_or_none(row.get("parentUuid"))
        chain = text_or_none(row.get("agentId")) or chain_of.get(parent or "", f"agent-{uuid[:8]}")
        chain_of[uuid] = chain
        found.setdefault(chain, []).append((line, row))
    return found


def _agents_in_progress(main: list[NumberedRow]) -> dict[str, list[NumberedRow]]:
    """Groups by agent the rows of sub-agents that the main thread's progress rows repeat."""
    found: dict[str, list[NumberedRow]] = {}
    for line, row in main:
        data = row.get("data")
        if row.get("type") != "progress" or not isinstance(data, dict) or data.get("type") != "agent_progress":
            continue
        message, agent = data.get("message"), text_or_none(data.get("agentId"))
        if agent and isinstance(message, dict):
            found.setdefault(agent, []).append((line, message))
    return {agent: without_duplicates(rows) for agent, rows in found.items()}
