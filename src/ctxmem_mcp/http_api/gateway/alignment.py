"""Aligns a client's messages with what is stored of the conversation. Pure.

Clients change their own history: they drop a model's reasoning, move their reminders, and serialise a tool call's
arguments again, with other spaces or another order of keys. Taken as they are, such messages would make a branch of the
conversation at every answer. Aligned, they are the turns that are stored, in the stored bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn, is_tool_call
from ctxmem_mcp.text.json_values import is_same_json


@dataclass(frozen=True, slots=True)
class Alignment:
    """Turns as they are stored or to be stored.

    Attributes:
        turns: the turns.
        positions: the index in `turns` of each of the client's turns.
        known: how many of `turns` are the stored ones.
    """

    turns: tuple[NewTurn, ...]
    positions: tuple[int, ...]
    known: int


def align(sent: Sequence[NewTurn], stored: Sequence[NewTurn]) -> Alignment:
    """Returns the client's turns in their stored form, as far as they follow the stored turns.

    Args:
        sent: the turns of a client's request.
        stored: a branch of the conversation, from its first turn.
    """
    turns: list[NewTurn] = []
    positions: list[int] = []
    known = 0
    for i, turn in enumerate(sent):
        at = _position(turn, stored, known) if len(turns) == known else None
        if at is None:
            positions.extend(range(len(turns), len(turns) + len(sent) - i))
            return Alignment((*turns, *sent[i:]), tuple(positions), known)
        turns += stored[known : at + 1]
        positions.append(at)
        known = at + 1
    return Alignment(tuple(turns), tuple(positions), known)


def best_alignment(sent: Sequence[NewTurn], branches: Iterable[Sequence[NewTurn]]) -> tuple[Alignment, int | None]:
    """Returns the alignment with the branch that has most in common with the client's turns, and its index."""
    best, chosen = align(sent, ()), None
    for i, branch in enumerate(branches):
        found = align(sent, branch)
        if found.known > best.known:
            best, chosen = found, i
    return best, chosen


def _position(turn: NewTurn, stored: Sequence[NewTurn], at: int) -> int | None:
    """Returns where a turn is stored: at `at`, or after reasoning and reminders there that the client dropped."""
    while at < len(stored):
        if is_same_turn(turn, stored[at]):
            return at
        if stored[at].name not in (THINKING, INJECTED):
            return None
        at += 1
    return None


def is_same_turn(a: NewTurn, b: NewTurn) -> bool:
    """Returns whether two turns say the same: a tool call's arguments are compared as JSON values."""
    if (a.role, a.name, a.call_id) != (b.role, b.name, b.call_id):
        return False
    if a.content == b.content:
        return True
    return is_tool_call(a) and is_same_json(a.content, b.content)
