"""SWE-agent's trajectories (.traj): one JSON document, whose `history` is what the model was sent and sent back.

A reply is its words, as a turn, then its action: a call of 'shell' where the reply names a command, calls of the tools
it names where it does (since 1.0). What came back is the tool's. An action without an id of its own is called after
its place in the history ('action-2'), so that its result finds it. The system prompt, demonstrations and complaints
about a reply that could not be read are system turns named 'injected'. The last observation stands in `trajectory`
alone. Other agents that helped are threads, titled by their names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.transcripts.base import Notes, Transcript, compact
from ctxmem_mcp.transcripts.content_blocks import turns_of_blocks
from ctxmem_mcp.transcripts.json_documents import document
from ctxmem_mcp.transcripts.json_lines import Row, text_of

AGENT = "swe-agent"
SHELL = "shell"
_FENCED = re.compile(r"\s*```\w*\n(.*?)```\s*", re.DOTALL)
_TRAJECTORY = re.compile(r'"trajectory"\s*:\s*\[')

_Call = tuple[str | None, str | None]


def looks_like(name: str, head: str) -> bool:
    """A document with a list called trajectory, of steps that observe."""
    start = head.lstrip()
    return start[:1] == "{" and (
        name.endswith(".traj") or (_TRAJECTORY.search(start) is not None and '"observation"' in start)
    )


def parse(text: str, name: str) -> Transcript:
    """The run's history; of a file without one (or cut off before its end), what its steps repeat."""
    notes = Notes()
    body = document(text, notes)
    body = body if isinstance(body, dict) else {}
    steps, entries = _objects(body.get("trajectory")), _objects(body.get("history"))
    if notes.warnings and entries:
        entries = _completed(entries, steps)
    agents: dict[str, list[Row]] = {}
    for entry in entries or [*_as_history(steps)]:
        agents.setdefault(text_of(entry.get("agent")) or "primary", []).append(entry)
    last = text_of(steps[-1].get("observation")) if entries and steps else None
    told = {agent: notes.mended(enumerate(_turns(history, last), 1)) for agent, history in agents.items()}
    main = next(iter(told), "primary")
    threads = [Transcript(AGENT, "", turns, agent) for agent, turns in told.items() if agent != main]
    return Transcript(AGENT, "", told.get(main, ()), threads=tuple(threads), warnings=tuple(notes.warnings))


def _objects(value: object) -> list[Row]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _as_history(steps: list[Row]) -> Iterator[Row]:
    """Steps as the entries that they were made of; the first was asked what stands in its query."""
    yield from _objects(steps[0].get("query")) if steps else ()
    for step in steps:
        yield from _entries_of(step)


def _entries_of(step: Row) -> Iterator[Row]:
    yield {**step, "role": "assistant", "content": step.get("response")}
    yield from _observed(step)


def _observed(step: Row) -> Iterator[Row]:
    if isinstance(step.get("observation"), str):
        yield {"role": "user", "message_type": "observation", "content": step["observation"]}


def _completed(entries: list[Row], steps: list[Row]) -> list[Row]:
    """A history that was cut off, and what the steps say behind it. Its last entry, which may be cut too, comes from
    them as well, unless it stands before all steps. Replies that did nothing are no steps."""
    steps = [step for step in steps if text_of(step.get("action"))]
    if len(_replies(entries)) >= len(steps):
        return entries
    kept = entries[:-1] if _replies(entries) else entries
    replies = _replies(kept)
    observed = _observed(steps[len(replies) - 1]) if replies and kept[-1] is replies[-1] else ()
    return [*kept, *observed, *(entry for step in steps[len(replies) :] for entry in _entries_of(step))]


def _replies(entries: list[Row]) -> list[Row]:
    acting = [entry for entry in entries if entry.get("role") == "assistant" and not entry.get("is_demo")]
    return [entry for entry in acting if text_of(entry.get("action")) or entry.get("tool_calls")]


def _turns(history: list[Row], last: str | None) -> Iterator[NewTurn]:
    """An agent's entries as turns. last: what came back of the last action, where the history ends with it."""
    waiting: list[_Call] = []
    replied = False
    for place, entry in enumerate(history):
        role, said = entry.get("role"), entry.get("content")
        if entry.get("is_demo") or role == "system" or role not in ("user", "assistant", "tool"):
            yield from _named(turns_of_blocks("system", said), INJECTED)
        elif role == "assistant":
            replied = True
            yield from _words(entry)
            calls = [*_calls(entry, place)]
            yield from calls
            waiting = [(call.name, call.call_id) for call in calls]
        elif waiting and (role == "tool" or entry.get("message_type") == "observation"):
            yield from _results(entry, waiting)
        elif replied and role == "user":
            yield from _named(turns_of_blocks("system", said), INJECTED)
        else:
            yield from turns_of_blocks("tool" if role == "tool" else "user", said)
    if len(waiting) == 1 and last is not None:
        yield NewTurn("tool", last, waiting[0][0], None, waiting[0][1])


def _named(turns: Iterator[NewTurn], name: str) -> Iterator[NewTurn]:
    for turn in turns:
        yield NewTurn(turn.role, turn.content, name)


def _words(entry: Row) -> Iterator[NewTurn]:
    """What the model thought and said, without the action where the reply is nothing but words and it."""
    for block in _objects(entry.get("thinking_blocks")):
        if text_of(block.get("thinking")):
            yield NewTurn("assistant", block["thinking"], THINKING)
    said, thought, action = entry.get("content"), entry.get("thought"), entry.get("action")
    if isinstance(said, str) and isinstance(thought, str) and isinstance(action, str) and said.startswith(thought):
        fenced = _FENCED.fullmatch(said, len(thought))
        said = thought if fenced and fenced[1].strip() == action.strip() else said
    for turn in turns_of_blocks("assistant", said):
        if turn.content:
            yield turn


def _calls(entry: Row, place: int) -> Iterator[NewTurn]:
    calls = _objects(entry.get("tool_calls"))
    for call in calls:
        function: Any = call.get("function")
        function = function if isinstance(function, dict) else {}
        given = function.get("arguments", "")
        content = given if isinstance(given, str) else compact(given)
        yield NewTurn("assistant", content, text_of(function.get("name")), None, text_of(call.get("id")))
    if not calls and text_of(entry.get("action")):
        yield NewTurn("assistant", entry["action"], SHELL, None, f"action-{place}")


def _results(entry: Row, waiting: list[_Call]) -> Iterator[NewTurn]:
    """What came back, to the call that it names, else to the one that waits longest; that one waits no more."""
    ids = entry.get("tool_call_ids")
    named = ids[0] if isinstance(ids, list) and ids else entry.get("tool_call_id")
    call = next((call for call in waiting if call[1] == named), waiting[0])
    waiting.remove(call)
    for turn in turns_of_blocks("tool", entry.get("content")):
        yield NewTurn("tool", turn.content, call[0], None, call[1])
