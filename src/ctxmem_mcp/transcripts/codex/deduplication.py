"""Keeps one of each turn that Codex logs twice.

An event is dropped if an item has the same text; without such an item it is kept, as the only record of its turn. Of
the history that the host sends the model after a compaction, only new parts are kept.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import replace

from ctxmem_mcp.models import INJECTED
from ctxmem_mcp.transcripts.codex.rows import ASSISTANT, CALL, HOST, PLAN, RESULT, SUMMARY, THOUGHT, USER, LoggedTurn

_MATCHED_BY_POSITION = (USER, ASSISTANT, THOUGHT)
# The host's text in the user's place has an item with the same text; its other messages to the screen have none.
_MATCHED_BY_TEXT = (*_MATCHED_BY_POSITION, HOST)


def deduplicate(logged: Sequence[LoggedTurn]) -> list[LoggedTurn]:
    """Returns the turns in the same order, each once; the host's text in the user's place is marked as the host's."""
    item_of = _match_events(logged)
    replies = " ".join(one.turn.content for one in logged if one.kind == ASSISTANT and not one.is_event)
    kept = [
        one
        for one in logged
        if not (one.is_event and (one.line in item_of or (one.kind == PLAN and one.turn.content in replies)))
    ]
    attributed = _attribute_to_host(kept, set(item_of.values())) if _can_attribute(logged) else kept
    return [*_drop_known_summaries(_deduplicate_calls([*attributed]))]


def _match_events(logged: Sequence[LoggedTurn]) -> dict[int, int]:
    """Returns the lines of events, each with the line of the item that logs the same turn.

    They match by their text; otherwise (the host trims text for the screen) an event matches an adjacent item that no
    other event matches.
    """
    items: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for i, one in enumerate(logged):
        if not one.is_event and one.is_text and one.kind in _MATCHED_BY_TEXT:
            items[one.kind, one.turn.content].append(i)
    item_of: dict[int, int] = {}
    taken: set[int] = set()
    unmatched = []
    for i, one in enumerate(logged):
        if not one.is_event or not one.is_text or one.kind not in _MATCHED_BY_TEXT:
            continue
        if queue := items.get((one.kind, one.turn.content)):
            item = queue.popleft()
            taken.add(item)
            item_of[one.line] = logged[item].line
        elif one.kind in _MATCHED_BY_POSITION:
            unmatched.append(i)
    for i in unmatched:
        adjacent = _adjacent_item(logged, i, taken)
        if adjacent is not None and logged[i].line not in item_of:
            taken.add(adjacent)
            item_of[logged[i].line] = logged[adjacent].line
    return item_of


def _adjacent_item(logged: Sequence[LoggedTurn], event: int, taken: set[int]) -> int | None:
    """Returns the nearest item that is not taken, with nothing but turns of the same kind between."""
    found: list[tuple[int, int]] = []
    for step in (-1, 1):
        i = event + step
        while 0 <= i < len(logged) and logged[i].kind == logged[event].kind:
            if not logged[i].is_event and logged[i].is_text and i not in taken:
                found.append((abs(i - event), i))
                break
            i += step
    return min(found)[1] if found else None


def _can_attribute(logged: Sequence[LoggedTurn]) -> bool:
    """Returns whether the file marks its tasks and shows the user's own text on the screen."""
    return any(not one.between_tasks for one in logged) and any(one.is_event and one.kind == USER for one in logged)


def _attribute_to_host(logged: Sequence[LoggedTurn], shown: set[int]) -> Iterator[LoggedTurn]:
    """Marks as the host's each user message between two tasks that was never shown on the screen.

    Args:
        logged: the turns.
        shown: the lines of the items that an event matches.
    """
    for one in logged:
        if one.kind == USER and one.between_tasks and not one.is_event and one.line not in shown:
            yield replace(one, kind=HOST, turn=replace(one.turn, role="system", name=INJECTED))
        else:
            yield one


def _deduplicate_calls(logged: Sequence[LoggedTurn]) -> Iterator[LoggedTurn]:
    """Keeps calls and results that only events log, each once; an event's result goes to the call of the item."""
    items = {(one.kind, one.turn.call_id) for one in logged if not one.is_event and one.kind in (CALL, RESULT)}
    item_calls = {
        (one.turn.name, one.turn.content): one.turn.call_id for one in logged if not one.is_event and one.kind == CALL
    }
    item_call_of: dict[str | None, str | None] = {}
    first_line: dict[tuple[str, str | None], int] = {}
    for one in logged:
        call_id, call = one.turn.call_id, (one.turn.name, one.turn.content)
        if not one.is_event or one.kind not in (CALL, RESULT):
            yield one
        elif one.kind == CALL and (one.kind, call_id) not in items and call in item_calls:
            item_call_of[call_id] = item_calls[call]
        elif (one.kind, call_id) not in items and first_line.setdefault((one.kind, call_id), one.line) == one.line:
            yield replace(one, turn=replace(one.turn, call_id=item_call_of.get(call_id, call_id)))


def _drop_known_summaries(logged: Iterator[LoggedTurn]) -> Iterator[LoggedTurn]:
    known: set[str] = set()
    for one in logged:
        if one.kind != SUMMARY or one.turn.content not in known:
            yield one
        known.add(one.turn.content)
