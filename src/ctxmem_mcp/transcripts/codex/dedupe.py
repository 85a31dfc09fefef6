"""What Codex logs twice, told once. An event gives way to the item that says the same; where there is no such item, the
event is what is left of the words. What the host hands the model after it compacted is told where it is new.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import replace

from ctxmem_mcp.models import INJECTED
from ctxmem_mcp.transcripts.codex.rows import ASSISTANT, CALL, HOST, PLAN, RESULT, SUMMARY, THOUGHT, USER, Said

_TWINNED = (USER, ASSISTANT, THOUGHT)
# The host's words in the user's place are twins where they are the same; what else it shows has no item.
_SAME = (*_TWINNED, HOST)


def told_once(said: list[Said]) -> list[Said]:
    """The same, in the same order, each thing once; what the host said in the user's place as the host's."""
    twins = _twins(said)
    replies = " ".join(one.turn.content for one in said if one.kind == ASSISTANT and not one.event)
    kept = [
        one
        for one in said
        if not (one.event and (one.line in twins or (one.kind == PLAN and one.turn.content in replies)))
    ]
    return [*_new_summaries(_calls_once(_as_hosts(kept, set(twins.values()), _sets_scenes(said))))]


def _twins(said: list[Said]) -> dict[int, int]:
    """Lines of events and of the items that say the same: by their words, else (where the host trimmed the words for
    the screen) by standing beside one that has no twin yet."""
    free: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for i, one in enumerate(said):
        if not one.event and one.is_text and one.kind in _SAME:
            free[one.kind, one.turn.content].append(i)
    twins: dict[int, int] = {}
    taken: set[int] = set()
    alone = []
    for i, one in enumerate(said):
        if not one.event or not one.is_text or one.kind not in _SAME:
            continue
        if queue := free.get((one.kind, one.turn.content)):
            twin = queue.popleft()
            taken.add(twin)
            twins[one.line] = said[twin].line
        elif one.kind in _TWINNED:
            alone.append(i)
    for i in alone:
        item = _beside(said, i, taken)
        if item is not None and said[i].line not in twins:
            taken.add(item)
            twins[said[i].line] = said[item].line
    return twins


def _beside(said: list[Said], event: int, taken: set[int]) -> int | None:
    """The nearest item without a twin, nothing but the same speaker's words between."""
    found: list[tuple[int, int]] = []
    for step in (-1, 1):
        i = event + step
        while 0 <= i < len(said) and said[i].kind == said[event].kind:
            if not said[i].event and said[i].is_text and i not in taken:
                found.append((abs(i - event), i))
                break
            i += step
    return min(found)[1] if found else None


def _sets_scenes(said: list[Said]) -> bool:
    """Whether the file tells tasks apart and shows the user's own words on the screen."""
    return any(not one.apart for one in said) and any(one.event and one.kind == USER for one in said)


def _as_hosts(said: list[Said], twinned: set[int], sets_scenes: bool) -> Iterator[Said]:
    """Words in the user's place between two tasks that were never shown on the screen are the host's."""
    for one in said:
        if sets_scenes and one.kind == USER and one.apart and not one.event and one.line not in twinned:
            yield replace(one, kind=HOST, turn=replace(one.turn, role="system", name=INJECTED))
        else:
            yield one


def _calls_once(said: Iterator[Said]) -> Iterator[Said]:
    """Calls and results that only events tell of, each once; an event's result goes to the item's call."""
    every = [*said]
    told = {(one.kind, one.turn.call_id) for one in every if not one.event and one.kind in (CALL, RESULT)}
    same = {(one.turn.name, one.turn.content): one.turn.call_id for one in every if not one.event and one.kind == CALL}
    answers: dict[str | None, str | None] = {}
    first: dict[tuple[str, str | None], int] = {}
    for one in every:
        call_id, what = one.turn.call_id, (one.turn.name, one.turn.content)
        if not one.event or one.kind not in (CALL, RESULT):
            yield one
        elif one.kind == CALL and (one.kind, call_id) not in told and what in same:
            answers[call_id] = same[what]
        elif (one.kind, call_id) not in told and first.setdefault((one.kind, call_id), one.line) == one.line:
            yield replace(one, turn=replace(one.turn, call_id=answers.get(call_id, call_id)))


def _new_summaries(said: Iterator[Said]) -> Iterator[Said]:
    before: set[str] = set()
    for one in said:
        if one.kind != SUMMARY or one.turn.content not in before:
            yield one
        before.add(one.turn.content)
