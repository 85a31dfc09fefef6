"""Going on in a Claude Code session's file where it was read up to, without what came before.

What is added is usually more of the same: rows that follow the section the file ended in. Then their turns follow the
turns that are known. Whether it is so shows in the rows themselves, because each names its parent. Where it is not
(a rewind, history appended again, another session's rows, a sub-agent's, a queue), nothing is said here: the whole
file has to be read. What is kept from one time to the next holds ids and hashes, no words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import Notes
from ctxmem_mcp.transcripts.claude_code.branches import is_prompt, sections
from ctxmem_mcp.transcripts.json_lines import Row, rows, text_of

Growth = dict[str, Any]
TurnsOf = Callable[[Row], Iterable[NewTurn]]
_Numbered = tuple[int, Row]
_SAID = ("user", "assistant", "tool_use", "tool_result")
# So many rows and calls back, what is added may refer to.
KEPT = 200


def growth_of(main: list[_Numbered], session: str, aside: bool, unsaid: Iterable[str], turns_of: TurnsOf) -> Growth:
    """What going on from these rows needs. aside: they are a sub-agent's own file. unsaid: words that were taken off
    the queue and that no row has said yet."""
    placed, _ = sections(sorted(main, key=lambda pair: pair[0]))
    here = placed[-1][0] if placed else None
    recent = [row["uuid"] for section, (_, row) in placed if section == here and text_of(row.get("uuid"))]
    names: dict[str, str] = {}
    for _, row in main[-2 * KEPT :]:
        _name_calls(names, turns_of(row))
    return _kept(session, aside, recent, names, [_hash(words) for words in unsaid])


def grown(growth: Growth, text: str, turns_of: TurnsOf) -> tuple[tuple[NewTurn, ...], Growth] | None:
    """The turns of the rows that were added and what going on from there needs; None: read the whole file."""
    recent, names = list(growth["recent"]), dict(growth["names"])
    found: list[tuple[int, NewTurn]] = []
    notes = Notes()
    for line, row in rows(text, notes):
        turns = [_named(turn, names) for turn in turns_of(row)]
        if not _follows(row, growth, set(recent)) or _says_late(turns, growth):
            return None
        _name_calls(names, turns)
        found += [(line, turn) for turn in turns]
        if text_of(row.get("uuid")):
            recent = [row["uuid"]] if is_prompt(row) else [*recent, row["uuid"]]
    if any(turn.role == "tool" and turn.call_id and turn.name is None for _, turn in found):
        return None
    kept = _kept(growth["session"], growth["aside"], recent, names, growth["unsaid"])
    return notes.mended(found), kept


def _kept(session: str, aside: bool, recent: list[str], names: dict[str, str], unsaid: list[str]) -> Growth:
    last = dict(list(names.items())[-KEPT:])
    return {"session": session, "aside": aside, "recent": recent[-KEPT:], "names": last, "unsaid": unsaid}


def _follows(row: Row, growth: Growth, recent: set[str]) -> bool:
    """Whether a row goes on in the section that the file was in, and is there for the first time."""
    parent = text_of(row.get("parentUuid")) or text_of(row.get("logicalParentUuid"))
    return (
        row.get("type") != "queue-operation"
        and not _tells_of_agent(row)
        and (row.get("type") not in _SAID or bool(row.get("isSidechain")) == growth["aside"])
        and row.get("sessionId", growth["session"]) == growth["session"]
        and row.get("uuid") not in recent
        and (parent is None or parent in recent)
    )


def _tells_of_agent(row: Row) -> bool:
    data = row.get("data")
    return isinstance(data, dict) and data.get("type") == "agent_progress"


def _says_late(turns: Iterable[NewTurn], growth: Growth) -> bool:
    return bool(growth["unsaid"]) and any(_hash(turn.content) in growth["unsaid"] for turn in turns)


def _name_calls(names: dict[str, str], turns: Iterable[NewTurn]) -> None:
    for turn in turns:
        if turn.role == "assistant" and turn.call_id and turn.name:
            names[turn.call_id] = turn.name


def _named(turn: NewTurn, names: dict[str, str]) -> NewTurn:
    if turn.role == "tool" and turn.name is None and turn.call_id in names:
        return NewTurn(turn.role, turn.content, names[turn.call_id], turn.said_at, turn.call_id)
    return turn


def _hash(words: str) -> str:
    return hashlib.blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
