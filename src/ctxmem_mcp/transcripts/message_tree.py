"""Messages that form a tree, as most chat programs keep them: the current branch and the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.content_blocks import name_results

Branch = tuple[NewTurn, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a chat, in the order of the file.

    Attributes:
        number: the line or place it comes from, counted from 1.
        turns: its turns; a message without any still connects its parent with its children.
        id: its id in the file; empty if it has none.
        parent: the id of the message before it. Without one, or if that message is not in the file, it follows the
            message before it in the file.
        is_root: it follows none.
    """

    number: int
    turns: Branch
    id: str = ""
    parent: str | None = None
    is_root: bool = False


def split_branches(messages: Sequence[Message], tip: str = "") -> tuple[Branch, tuple[Branch, ...]]:
    """Returns the turns of the current branch, and those of each other branch, complete from its first turn.

    Args:
        messages: the messages in the order of the file.
        tip: the id of the current branch's last message; if it is not there, the file's last message is.
    """
    parents = _parents(messages)
    inner = set(parents)
    last = next((i for i in reversed(range(len(messages))) if tip and messages[i].id == tip), len(messages) - 1)
    tips = [i for i in range(len(messages)) if i not in inner and i != last]
    *others, current = [_turns(messages, parents, i) for i in (*tips, last)] if messages else [()]
    kept = dict.fromkeys(branch for branch in others if branch and branch != current[: len(branch)])
    return current, tuple(kept)


def _parents(messages: Sequence[Message]) -> list[int | None]:
    """Returns the place of each message's parent. A message that would be its own ancestor follows none."""
    place_of = {message.id: i for i, message in enumerate(messages) if message.id}
    parents: list[int | None] = []
    for i, message in enumerate(messages):
        parent = place_of.get(message.parent) if message.parent else None
        before = i - 1 if i else None
        parents.append(None if message.is_root else before if parent is None else parent)
    rooted: set[int] = set()
    for i in range(len(messages)):
        path: dict[int, None] = {}
        at: int | None = i
        while at is not None and at not in rooted and at not in path:
            path[at] = None
            at = parents[at]
        if at is not None and at in path:
            parents[at] = None
        rooted.update(path)
    return parents


def _turns(messages: Sequence[Message], parents: Sequence[int | None], tip: int) -> Branch:
    branch: list[Message] = []
    at: int | None = tip
    while at is not None:
        branch.append(messages[at])
        at = parents[at]
    return tuple(turn for message in reversed(branch) for turn in message.turns)


# ---------------------------------------------------------------- calls and their results


def pair_results(messages: Iterable[Message]) -> list[Message]:
    """Returns the messages, each call with an id and each result with the id and the name of its call.

    A result without an id belongs to the first call of its name (of any name, if it has none) that has no result yet.
    """
    messages = list(messages)
    flat = [(i, turn) for i, message in enumerate(messages) for turn in message.turns]
    turns: list[list[NewTurn]] = [[] for _ in messages]
    for i, turn in name_results(_with_ids(flat, messages)):
        turns[i].append(turn)
    return [replace(message, turns=tuple(own)) for message, own in zip(messages, turns, strict=True)]


def _with_ids(flat: list[tuple[int, NewTurn]], messages: list[Message]) -> Iterator[tuple[int, NewTurn]]:
    waiting: list[NewTurn] = []
    last: NewTurn | None = None
    for n, (i, turn) in enumerate(flat):
        if turn.call_id == UNKNOWN_ID and turn.role == "assistant":
            turn = replace(turn, call_id=f"{messages[i].id or messages[i].number}-{n}")
            waiting.append(turn)
        elif turn.call_id == UNKNOWN_ID:
            same_name = (call for call in waiting if turn.name in (None, call.name))
            call = next(same_name, last if last is not None and turn.name in (None, last.name) else None)
            if call in waiting:
                waiting.remove(call)
            last = call
            turn = replace(turn, call_id=call.call_id if call else None)
        yield i, turn


# The call id of a call or a result in a file that names none. `pair_results` replaces it.
UNKNOWN_ID = "\0"
