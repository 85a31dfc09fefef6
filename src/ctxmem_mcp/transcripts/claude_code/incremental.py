"""Parses the lines appended to a Claude Code session file without the lines before them.

Appended rows usually continue the exchange that the file ended in; then their turns follow the turns already known. The
rows show whether they do, because each names its parent. If they don't (a rewind, history appended again, rows of
another session or a sub-agent, a queue operation), `resume` returns None and the whole file has to be parsed. The state
holds ids and hashes, none of the text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import NumberedTurn, ParseLog, ParseState
from ctxmem_mcp.transcripts.claude_code.branches import Exchanges, split_exchanges
from ctxmem_mcp.transcripts.claude_code.duplicates import keys_of_copies, message_keys
from ctxmem_mcp.transcripts.claude_code.rows import (
    MESSAGE_TYPES,
    TITLE_FIELDS,
    in_parent_order,
    is_compaction,
    is_prompt,
    parent_uuid,
)
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, read_rows, text_or_none

ReadTurns = Callable[[Row], Iterable[NewTurn]]
# How many rows, and how many calls, appended rows may refer back to.
_REMEMBERED = 200
# How many rows back a copy under another uuid is recognised.
_REMEMBERED_COPIES = 60


def state_after(
    rows: list[NumberedRow], session: str, *, is_sidechain: bool, dequeued: Iterable[str], read_turns: ReadTurns
) -> ParseState:
    """Returns the state from which `resume` continues after these rows.

    Args:
        rows: the main thread's rows, and the dequeued prompts as rows.
        session: the session's id.
        is_sidechain: the file is a sub-agent's own.
        dequeued: prompts that were taken off the queue and that no later row repeats yet.
        read_turns: returns a row's turns.
    """
    exchanges = split_exchanges(rows)
    uuids = {text_or_none(row.get("uuid")) or "" for _, row in rows}
    names: dict[str, str] = {}
    for _, row in rows[-2 * _REMEMBERED :]:
        _collect_call_names(names, read_turns(row))
    return {
        "session": session,
        "aside": is_sidechain,
        "recent": [
            row["uuid"]
            for exchange, (_, row) in exchanges.placed
            if exchange == exchanges.end and _anchor(exchanges, row) == exchange
        ][-_REMEMBERED:],
        "names": _last(names),
        "unsaid": [_hash(prompt) for prompt in dequeued],
        "absent": [parent for _, row in rows if (parent := parent_uuid(row)) and parent not in uuids][-_REMEMBERED:],
        "keys": [key for _, row in rows[-_REMEMBERED_COPIES:] for key in _key_hashes(row)],
    }


def resume(state: ParseState, text: str, read_turns: ReadTurns) -> tuple[tuple[NewTurn, ...], ParseState] | None:
    """Returns the turns of the appended rows and the new state; None if the whole file has to be parsed."""
    if "keys" not in state:
        return None  # an older version's state
    recent, names = list(state["recent"]), dict(state["names"])
    found: list[NumberedTurn] = []
    log = ParseLog()
    appended = in_parent_order(read_rows(text, log))
    keys = list(state["keys"])
    for line, row in appended:
        turns = [_with_name(turn, names) for turn in read_turns(row)]
        if not _continues(row, state, set(recent)) or _repeats_dequeued(turns, state):
            return None
        if any(_hash(key) in keys for key in message_keys(row)):
            return None
        keys += _key_hashes(row)
        _collect_call_names(names, turns)
        found += [(line, turn) for turn in turns]
        if text_or_none(row.get("uuid")):
            recent = [row["uuid"]] if is_prompt(row) else [*recent, row["uuid"]]
    if any(turn.role == "tool" and turn.call_id and turn.name is None for _, turn in found):
        return None
    return log.sanitize(found), {
        **state,
        "recent": recent[-_REMEMBERED:],
        "names": _last(names),
        "keys": keys[-3 * _REMEMBERED_COPIES :],
    }


def _anchor(exchanges: Exchanges, row: Row) -> int | None:
    return exchanges.anchor_of.get(text_or_none(row.get("uuid")) or "")


def _last(names: dict[str, str]) -> dict[str, str]:
    return dict(list(names.items())[-_REMEMBERED:])


def _key_hashes(row: Row) -> list[str]:
    return [_hash(key) for key in keys_of_copies(row)]


def _continues(row: Row, state: ParseState, recent: set[str]) -> bool:
    """Returns whether a row continues the exchange that the file was in and is there for the first time."""
    parent = parent_uuid(row)
    return (
        row.get("type") not in ("queue-operation", *TITLE_FIELDS)
        and not _is_agent_progress(row)
        and (row.get("type") not in MESSAGE_TYPES or bool(row.get("isSidechain")) == state["aside"])
        and row.get("sessionId", state["session"]) == state["session"]
        and row.get("uuid") not in recent
        and row.get("uuid") not in state["absent"]
        and (parent is None or parent in recent or is_compaction(row))
    )


def _is_agent_progress(row: Row) -> bool:
    data = row.get("data")
    return isinstance(data, dict) and data.get("type") == "agent_progress"


def _repeats_dequeued(turns: Iterable[NewTurn], state: ParseState) -> bool:
    return bool(state["unsaid"]) and any(_hash(turn.content) in state["unsaid"] for turn in turns)


def _collect_call_names(names: dict[str, str], turns: Iterable[NewTurn]) -> None:
    for turn in turns:
        if turn.role == "assistant" and turn.call_id and turn.name:
            names[turn.call_id] = turn.name


def _with_name(turn: NewTurn, names: dict[str, str]) -> NewTurn:
    if turn.role == "tool" and turn.name is None and turn.call_id in names:
        return replace(turn, name=names[turn.call_id])
    return turn


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
