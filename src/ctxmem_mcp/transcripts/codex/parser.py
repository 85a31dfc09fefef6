"""Codex's session files ("rollouts"): one JSON object a line, items of the conversation and events for the screen.

The model's input and output are in `response_item` rows; an event counts only if no item has the same text. Text is a
turn; so are a reasoning summary (an assistant turn named `thinking`), a call and a result. AGENTS.md, the environment
and all other text of the host or of other agents are system turns named `injected`; the remains of a compaction are
named `recap`. Encrypted reasoning, settings, token counts and the system prompt are left out. Turns that the user
rolled back are in `abandoned_branches`. Rows from before 2025-08 have no payload; they are read the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ctxmem_mcp.agents import CODEX
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import ParseLog, Transcript, compact_json
from ctxmem_mcp.transcripts.codex.deduplication import deduplicate
from ctxmem_mcp.transcripts.codex.rows import LoggedTurn, read_turns
from ctxmem_mcp.transcripts.content_blocks import name_results
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, count_unread, first_rows, read_rows, text_or_none

AGENT = CODEX.id
_ROW_TYPES = ("session_meta", "response_item", "event_msg", "turn_context", "world_state", "compacted")
_TYPES_WITHOUT_PAYLOAD = (
    "function_call", "function_call_output", "function_result", "local_shell_call", "reasoning",
)  # fmt: skip
_FOREIGN_TYPES = ("user", "assistant", "system", "tool_result")
_TASK_STARTS = ("task_started", "turn_started")
_TASK_ENDS = ("task_complete", "turn_complete", "turn_aborted")


def looks_like(name: str, head: str) -> bool:
    """Recognises rows of a rollout's own types; without payloads, a session's first row, or rows of calls.

    Grok's rows and WorkBuddy's are similar to the latter: there a type is also a role, or each row names the session.
    """
    found = first_rows(head)
    if any(row.get("type") in _ROW_TYPES and isinstance(row.get("payload"), dict) for row in found):
        return True
    if any(row.get("type") in _FOREIGN_TYPES or "sessionId" in row for row in found):
        return False
    has_header = bool(found) and {"id", "timestamp", "instructions"} <= found[0].keys()
    return name.endswith(".jsonl") and (has_header or any(row.get("type") in _TYPES_WITHOUT_PAYLOAD for row in found))


def parse(text: str, name: str) -> Transcript:
    """Returns the session in a rollout file."""
    log = ParseLog()
    rows = [*_without_duplicates(read_rows(text, log))]
    count_unread(rows, lambda pair: next(read_turns(*pair, between_tasks=False), None) is not None, log)
    logged = deduplicate([*_logged_turns(rows)])
    turns = log.sanitize(name_results((one.line, one.turn) for one in logged))
    current, abandoned = _apply_rollbacks(turns, logged, [*_rollbacks(rows)])
    return Transcript(
        AGENT,
        _session_id(rows),
        current,
        _title(rows),
        abandoned_branches=abandoned,
        warnings=tuple(log.warnings),
        cwd=_cwd(rows),
        unread=log.unread,
    )


def _without_duplicates(numbered: Iterable[NumberedRow]) -> Iterator[NumberedRow]:
    """Drops rows appended again: the same item under the same item id."""
    seen: set[str] = set()
    for line, row in numbered:
        item = row.get("payload")
        if isinstance(item, dict) and text_or_none(item.get("id")) and row.get("type") == "response_item":
            if (key := compact_json(item)) in seen:
                continue
            seen.add(key)
        yield line, row


def _logged_turns(numbered: list[NumberedRow]) -> Iterator[LoggedTurn]:
    between_tasks = any(_event_type(row) in _TASK_STARTS for _, row in numbered)
    for line, row in numbered:
        event = _event_type(row)
        if event in _TASK_STARTS:
            between_tasks = False
        elif event in _TASK_ENDS:
            between_tasks = True
        yield from read_turns(line, row, between_tasks=between_tasks)


# ---------------------------------------------------------------- the session


def _event_type(row: Row) -> str | None:
    payload = row.get("payload")
    return text_or_none(payload.get("type")) if isinstance(payload, dict) and row.get("type") == "event_msg" else None


def _session_id(numbered: list[NumberedRow]) -> str:
    """Returns the first session_meta's id: a fork has those of the sessions it comes from after its own."""
    for _, row in numbered:
        payload = row.get("payload")
        if row.get("type") == "session_meta" and isinstance(payload, dict) and text_or_none(payload.get("id")):
            return str(payload["id"])
    first = numbered[0][1] if numbered else {}
    return text_or_none(first.get("id")) or "" if "type" not in first else ""


def _cwd(numbered: list[NumberedRow]) -> str | None:
    """Returns the folder that the session names, or its first turn."""
    payloads = (row.get("payload") for _, row in numbered if row.get("type") in ("session_meta", "turn_context"))
    return next((p["cwd"] for p in payloads if isinstance(p, dict) and text_or_none(p.get("cwd"))), None)


def _title(numbered: list[NumberedRow]) -> str | None:
    named = [row["payload"].get("thread_name") for _, row in numbered if _event_type(row) == "thread_name_updated"]
    return next((title for title in reversed(named) if text_or_none(title)), None)


# ---------------------------------------------------------------- rollbacks


def _rollbacks(numbered: list[NumberedRow]) -> Iterator[tuple[int, int]]:
    """Yields the lines at which the user rolled back, and by how many requests."""
    for line, row in numbered:
        if _event_type(row) == "thread_rolled_back" and isinstance(count := row["payload"].get("num_turns"), int):
            yield line, count


def _apply_rollbacks(
    turns: Sequence[NewTurn], logged: Sequence[LoggedTurn], rollbacks: Sequence[tuple[int, int]]
) -> tuple[tuple[NewTurn, ...], tuple[tuple[NewTurn, ...], ...]]:
    """Returns the current branch, and each that was rolled back, complete from its first turn."""
    branch: list[NewTurn] = []
    abandoned: list[tuple[NewTurn, ...]] = []
    pending = [*rollbacks]
    for one, turn in zip(logged, turns, strict=True):
        while pending and pending[0][0] < one.line:
            abandoned.append(tuple(branch))
            branch = branch[: _length_after(branch, pending.pop(0)[1])]
        branch.append(turn)
    for _, count in pending:
        abandoned.append(tuple(branch))
        branch = branch[: _length_after(branch, count)]
    return tuple(branch), tuple(abandoned)


def _length_after(branch: list[NewTurn], count: int) -> int:
    """Returns how many turns remain when the last `count` requests are rolled back."""
    requests = [i for i, turn in enumerate(branch) if turn.role == "user"]
    return len(branch) if count < 1 or not requests else requests[max(len(requests) - count, 0)]
