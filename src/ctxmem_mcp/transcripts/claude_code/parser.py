"""Claude Code's session files: one JSON object a line, rows linked to trees by uuid and parentUuid.

What is said stands in rows of type user and assistant, one content block per row or several. Text is a turn; so is
thinking (an assistant turn named 'thinking'), a call (an assistant turn with the tool's name, its input as JSON) and
a result (a tool turn). What the host put into the user's mouth becomes a system turn: named 'recap' for its summary
of what it threw away, 'injected' for the rest. Sub-agents are threads. A row appended twice counts once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ctxmem_mcp.models import INJECTED, RECAP, NewTurn, Role
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.claude_code import incremental
from ctxmem_mcp.transcripts.claude_code.branches import ways
from ctxmem_mcp.transcripts.claude_code.incremental import Growth
from ctxmem_mcp.transcripts.content_blocks import turns_of_blocks
from ctxmem_mcp.transcripts.json_lines import Row, first_rows, rows, text_of

AGENT = "claude-code"
_SAID = ("user", "assistant", "tool_use", "tool_result")
# The field that holds what a row has to tell.
_BODIES = ("message", "attachment", "data", "content")
_TITLES = {"custom-title": "customTitle", "ai-title": "aiTitle", "summary": "summary"}
# How text begins that stands in a user's row and that no user wrote.
_INJECTED = (
    "<system-reminder>", "<local-command-", "<bash-stdout>", "<bash-stderr>", "<task-notification>",
    "<agent-notification>", "<user-prompt-submit-hook>", "<ide_", "[Request interrupted by user",
    "Operation stopped by hook: ",
)  # fmt: skip
# What the model was shown beside the conversation, and where in the attachment it stands.
_SHOWN = {
    "file": ("content", "file", "content"), "directory": ("content",), "edited_text_file": ("snippet",),
    "selected_lines_in_ide": ("content",), "diagnostics": ("files",),
    "hook_blocking_error": ("blockingError", "blockingError"),
}  # fmt: skip
# A command of the host, typed while it was busy: done by the host, said to nobody.
_COMMAND = "/"

_Numbered = tuple[int, NewTurn]


def looks_like(name: str, head: str) -> bool:
    """Rows that carry a sessionId beside a type; no other agent's do."""
    return name.endswith(".jsonl") and any("sessionId" in row and "type" in row for row in first_rows(head))


def parse(text: str, name: str) -> Transcript:
    """The main thread as one transcript, each sub-agent that is told of in the file as a thread of it."""
    return begun(text, name)[0]


def grown(growth: Growth, text: str) -> tuple[tuple[NewTurn, ...], Growth] | None:
    """The turns that these further lines add, and what going on from there needs; None: only the whole file tells."""
    return incremental.grown(growth, text, _turns_of)


def begun(text: str, name: str) -> tuple[Transcript, Growth]:
    """The transcript, and what going on from its end needs when the file has grown."""
    notes = Notes()
    all_rows = _once(rows(text, notes))
    main = [(line, row) for line, row in all_rows if not row.get("isSidechain")]
    aside = [(line, row) for line, row in all_rows if row.get("isSidechain")]
    own_file = not any(row.get("type") in _SAID for _, row in main)
    if own_file:
        main, aside = [*aside, *main], []
    session = _session(main) or name.removesuffix(".jsonl")
    agent = next((row["agentId"] for _, row in main if text_of(row.get("agentId")) and row.get("isSidechain")), None)
    queued = _queued(main)
    *left, turns = [notes.mended(_turns(way)) for way in ways([*main, *queued])]
    cwd = next((row["cwd"] for _, row in main if text_of(row.get("cwd"))), None)
    threads = [
        Transcript(AGENT, f"{session}:{of}", notes.mended(_turns(thread)), cwd=cwd)
        for of, thread in {**_sidechains(aside), **_told_agents(main)}.items()
    ]
    transcript = Transcript(
        AGENT,
        f"{session}:{agent}" if agent else session,
        turns,
        _title(main),
        tuple(thread for thread in threads if thread.turns),
        tuple(way for way in left if way and way != turns[: len(way)]),
        tuple(notes.warnings),
        cwd,
    )
    unsaid = [row["content"] for _, row in queued]
    return transcript, incremental.growth_of([*main, *queued], session, own_file, unsaid, _turns_of)


def _once(numbered: Iterator[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Rows, those appended again left out: the same uuid with the same in it. Rows that say nothing too: others name
    them as their parents, and one in a second place would make a way of its own."""
    seen: set[tuple[str, str]] = set()
    kept = []
    for line, row in numbered:
        if uuid := text_of(row.get("uuid")):
            key = (uuid, compact(next((row[field] for field in _BODIES if field in row), row)))
            if key in seen:
                continue
            seen.add(key)
        kept.append((line, row))
    return kept


def _session(main: list[tuple[int, Row]]) -> str:
    return next((row["sessionId"] for _, row in reversed(main) if text_of(row.get("sessionId"))), "")


def _title(main: list[tuple[int, Row]]) -> str | None:
    """What the user called it, else what the host did."""
    for kind, field in _TITLES.items():
        for _, row in reversed(main):
            if row.get("type") == kind and text_of(row.get(field)):
                return str(row[field])
    return None


# ---------------------------------------------------------------- turns


def _turns(numbered: list[tuple[int, Row]]) -> Iterator[_Numbered]:
    names: dict[str, str] = {}
    for line, row in numbered:
        for turn in _turns_of(row):
            if turn.role == "assistant" and turn.call_id and turn.name:
                names[turn.call_id] = turn.name
            if turn.role == "tool" and turn.name is None and turn.call_id:
                turn = replace(turn, name=names.get(turn.call_id))
            yield line, turn


def _turns_of(row: Row) -> Iterator[NewTurn]:
    said_at = text_of(row.get("timestamp"))
    said_at = said_at if said_at and said_at[:1].isdigit() else None
    kind, message = row.get("type"), row.get("message")
    if kind in ("user", "assistant") and isinstance(message, dict):
        role: Role = "assistant" if message.get("role", kind) == "assistant" else "user"
        for turn in turns_of_blocks(role, message.get("content"), said_at):
            yield _as_said(turn, row)
    elif kind == "tool_use":
        call = text_of(row.get("tool_use_id")) or text_of(row.get("id"))
        yield NewTurn("assistant", compact(row.get("input")), text_of(row.get("name")), said_at, call)
    elif kind == "tool_result":
        output = row.get("output", row.get("content"))
        content = output if isinstance(output, str) else compact(output)
        yield NewTurn("tool", content, text_of(row.get("name")), said_at, text_of(row.get("tool_use_id")))
    elif kind == "attachment":
        yield from _attached(row, said_at)
    elif kind == "system" and row.get("subtype") == "local_command" and text_of(row.get("content")):
        yield NewTurn("system", row["content"], INJECTED, said_at)


def _as_said(turn: NewTurn, row: Row) -> NewTurn:
    """The turn as its speaker's: what the host says in another's place becomes a system turn."""
    if turn.role == "assistant" and row.get("isApiErrorMessage"):
        return replace(turn, role="system", name=INJECTED)
    if turn.role != "user":
        return turn
    if row.get("isCompactSummary"):
        return replace(turn, role="system", name=RECAP)
    origin = row.get("origin")
    notified = isinstance(origin, dict) and origin.get("kind") == "task-notification"
    if row.get("isMeta") or notified or turn.content.lstrip().startswith(_INJECTED):
        return replace(turn, role="system", name=INJECTED)
    return turn


def _attached(row: Row, said_at: str | None) -> Iterator[NewTurn]:
    """What came beside the conversation: a user's words typed while the agent was busy, a hook's word to the model,
    files and lines that the user pointed to or changed, told below their path."""
    attachment = row.get("attachment")
    if not isinstance(attachment, dict):
        return
    if attachment.get("type") == "queued_command":
        for turn in turns_of_blocks("user", attachment.get("prompt"), said_at):
            yield _as_said(turn, {**row, **attachment})
    elif attachment.get("type") == "hook_additional_context":
        content = attachment.get("content")
        for part in content if isinstance(content, list) else [content]:
            if text := text_of(part):
                yield NewTurn("system", text, INJECTED, said_at)
    elif shown := _shown(attachment):
        path = text_of(attachment.get("filename")) or text_of(attachment.get("path"))
        yield NewTurn("system", f"{path}\n{shown}" if path else shown, INJECTED, said_at)


def _shown(attachment: Row) -> str:
    inner: Any = attachment
    for field in _SHOWN.get(str(attachment.get("type")), ()):
        if not isinstance(inner, dict) or field not in inner:
            break  # a picture, say: told whole
        inner = inner[field]
    return "" if inner is attachment or not inner else inner if isinstance(inner, str) else compact(inner)


# ---------------------------------------------------------------- threads and queues


def _queued(main: list[tuple[int, Row]]) -> list[tuple[int, Row]]:
    """Words that the user typed while the agent was busy and that no other row repeats: taken off the queue, they
    reached the model, but older versions logged them here only. They stand where they were taken off: what was read
    of a file before stays as it is when the file grows."""
    waiting: list[tuple[int, Row]] = []
    taken: list[tuple[int, tuple[int, Row]]] = []
    for line, row in main:
        if row.get("type") != "queue-operation":
            continue
        operation, text = row.get("operation"), text_of(row.get("content"))
        if operation == "enqueue" and text:
            waiting.append((line, row))
        elif operation == "popAll":
            waiting.clear()
        elif operation in ("remove", "dequeue") and waiting:
            taken.append((line, waiting.pop(0)))
    said = [(line, text) for line, row in main for text in _user_texts(row)]
    return [
        (line, {**row, "type": "user", "message": {"role": "user", "content": row["content"]}})
        for line, (typed, row) in taken
        if not row["content"].startswith(_COMMAND) and not _is_told(row["content"], typed, said)
    ]


def _is_told(text: str, typed: int, said: list[tuple[int, str]]) -> bool:
    """Whether a row behind the line where it was typed says it; that row says it for nobody else."""
    row = next(((line, words) for line, words in said if line > typed and words == text), None)
    if row:
        said.remove(row)
    return row is not None


def _user_texts(row: Row) -> Iterator[str]:
    if row.get("type") in ("user", "attachment"):
        yield from (turn.content for turn in _turns_of(row) if turn.role in ("user", "system"))


def _sidechains(aside: list[tuple[int, Row]]) -> dict[str, list[tuple[int, Row]]]:
    """Rows of sub-agents that stand in the main file, by agent; where none is named, by the chain's first row."""
    chain_of: dict[str, str] = {}
    found: dict[str, list[tuple[int, Row]]] = {}
    for line, row in aside:
        uuid, parent = text_of(row.get("uuid")) or f"line{line}", text_of(row.get("parentUuid"))
        chain = text_of(row.get("agentId")) or chain_of.get(parent or "", f"agent-{uuid[:8]}")
        chain_of[uuid] = chain
        found.setdefault(chain, []).append((line, row))
    return found


def _told_agents(main: list[tuple[int, Row]]) -> dict[str, list[tuple[int, Row]]]:
    """What sub-agents said, as the main thread's progress rows repeat it."""
    found: dict[str, list[tuple[int, Row]]] = {}
    for line, row in main:
        data = row.get("data")
        if row.get("type") != "progress" or not isinstance(data, dict) or data.get("type") != "agent_progress":
            continue
        said, agent = data.get("message"), text_of(data.get("agentId"))
        if agent and isinstance(said, dict):
            found.setdefault(agent, []).append((line, said))
    return {agent: _once(iter(said)) for agent, said in found.items()}
