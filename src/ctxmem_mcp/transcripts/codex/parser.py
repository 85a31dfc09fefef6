"""Codex's session files ("rollouts"): one JSON object a line, items of the conversation beside events for the screen.

What the model was sent and sent back is told by `response_item` rows; events are taken where no item says the same.
Text is a turn; so is a reasoning summary (an assistant turn named 'thinking'), a call and a result. AGENTS.md, the
environment and all other words of the host or of other agents are system turns named 'injected', what a compaction
left is named 'recap'. Encrypted reasoning, settings, token counts and the system prompt are left out. Turns that the
user rolled back stand in `left`. Rows of before 2025-08 had no payload, and read the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.codex.dedupe import told_once
from ctxmem_mcp.transcripts.codex.rows import Said, said_in
from ctxmem_mcp.transcripts.json_lines import Row, first_rows, rows, text_of

AGENT = "codex"
_ROWS = ("session_meta", "response_item", "event_msg", "turn_context", "world_state", "compacted")
_BARE_ROWS = ("function_call", "function_call_output", "function_result", "local_shell_call", "reasoning")


def looks_like(name: str, head: str) -> bool:
    """Rows of a rollout's own types; those without a payload are told by what a session begins with, or by calls."""
    found = first_rows(head)
    if any(row.get("type") in _ROWS and isinstance(row.get("payload"), dict) for row in found):
        return True
    began = bool(found) and {"id", "timestamp", "instructions"} <= found[0].keys()
    return name.endswith(".jsonl") and (began or any(row.get("type") in _BARE_ROWS for row in found))


def parse(text: str, name: str) -> Transcript:
    """The session in a rollout file."""
    notes = Notes()
    all_rows = [*_once(rows(text, notes))]
    said = told_once([*_said(all_rows)])
    turns = notes.mended(_named(said))
    kept, left = _rolled_back([*turns], said, [*_rollbacks(all_rows)])
    return Transcript(
        AGENT,
        _session(all_rows),
        kept,
        _title(all_rows),
        left=left,
        warnings=tuple(notes.warnings),
        cwd=_cwd(all_rows),
    )


def _once(numbered: Iterator[tuple[int, Row]]) -> Iterator[tuple[int, Row]]:
    """Rows, those appended again left out: the same item id with the same item."""
    seen: set[str] = set()
    for line, row in numbered:
        item = row.get("payload")
        if isinstance(item, dict) and text_of(item.get("id")) and row.get("type") == "response_item":
            if (key := compact(item)) in seen:
                continue
            seen.add(key)
        yield line, row


def _said(numbered: list[tuple[int, Row]]) -> Iterator[Said]:
    apart = any(_event(row) in ("task_started", "turn_started") for _, row in numbered)
    for line, row in numbered:
        event = _event(row)
        if event in ("task_started", "turn_started"):
            apart = False
        elif event in ("task_complete", "turn_complete", "turn_aborted"):
            apart = True
        yield from said_in(line, row, apart)


def _named(said: list[Said]) -> Iterator[tuple[int, NewTurn]]:
    """Turns with their lines, each result with its tool's name."""
    names: dict[str, str] = {}
    for one in said:
        turn = one.turn
        if turn.role == "assistant" and turn.call_id and turn.name:
            names[turn.call_id] = turn.name
        if turn.role == "tool" and turn.call_id and turn.name is None:
            turn = replace(turn, name=names.get(turn.call_id))
        yield one.line, turn


# ---------------------------------------------------------------- what stands around it


def _event(row: Row) -> str | None:
    payload = row.get("payload")
    return text_of(payload.get("type")) if isinstance(payload, dict) and row.get("type") == "event_msg" else None


def _session(numbered: list[tuple[int, Row]]) -> str:
    """The first session_meta's: a fork carries those of the sessions it came from after its own."""
    for _, row in numbered:
        payload = row.get("payload")
        if row.get("type") == "session_meta" and isinstance(payload, dict) and text_of(payload.get("id")):
            return str(payload["id"])
    first = numbered[0][1] if numbered else {}
    return text_of(first.get("id")) or "" if "type" not in first else ""


def _cwd(numbered: list[tuple[int, Row]]) -> str | None:
    """The folder that the session, or its first turn, names."""
    payloads = (row.get("payload") for _, row in numbered if row.get("type") in ("session_meta", "turn_context"))
    return next((p["cwd"] for p in payloads if isinstance(p, dict) and text_of(p.get("cwd"))), None)


def _title(numbered: list[tuple[int, Row]]) -> str | None:
    named = [row["payload"].get("thread_name") for _, row in numbered if _event(row) == "thread_name_updated"]
    return next((title for title in reversed(named) if text_of(title)), None)


def _rollbacks(numbered: list[tuple[int, Row]]) -> Iterator[tuple[int, int]]:
    """Lines where the user went back, and by how many requests."""
    for line, row in numbered:
        if _event(row) == "thread_rolled_back" and isinstance(count := row["payload"].get("num_turns"), int):
            yield line, count


def _rolled_back(
    turns: list[NewTurn], said: list[Said], rollbacks: list[tuple[int, int]]
) -> tuple[tuple[NewTurn, ...], tuple[tuple[NewTurn, ...], ...]]:
    """The way that stands, and each one that was left, whole."""
    way: list[NewTurn] = []
    left: list[tuple[NewTurn, ...]] = []
    pending = [*rollbacks]
    for one, turn in zip(said, turns, strict=True):
        while pending and pending[0][0] < one.line:
            left.append(tuple(way))
            way = way[: _requests_back(way, pending.pop(0)[1])]
        way.append(turn)
    for _, count in pending:
        left.append(tuple(way))
        way = way[: _requests_back(way, count)]
    return tuple(way), tuple(left)


def _requests_back(way: list[NewTurn], count: int) -> int:
    requests = [i for i, turn in enumerate(way) if turn.role == "user"]
    return len(way) if count < 1 or not requests else requests[max(len(requests) - count, 0)]
