"""SWE-agent's trajectories (.traj): a JSON document whose `history` holds the model's input and output.

A reply is its words, as a turn, and then its action: a call of `shell` if the reply names a command, calls of the tools
if it names tools (since 1.0). The observation is the tool's turn. An action without an id is named after its place in
the history (`action-2`), so that its result finds it. The system prompt, demonstrations and complaints about a reply
that could not be read are system turns named `injected`. The last observation is in `trajectory` alone. Other agents
that helped are threads with their names as titles.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import ParseLog, Transcript, text_or_json
from ctxmem_mcp.transcripts.content_blocks import turns_from_blocks
from ctxmem_mcp.transcripts.json_documents import read_document
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none

AGENT = "swe-agent"
SHELL = "shell"
_FENCED_ACTION = lazy_regex(r"\s*```\w*\n(.*?)```\s*", re.DOTALL)
_TRAJECTORY = lazy_regex(r'"trajectory"\s*:\s*\[')

_Call = tuple[str | None, str | None]
"""A call's tool and its id."""


def looks_like(name: str, head: str) -> bool:
    """Recognises a document with a list named trajectory, of steps with observations."""
    start = head.lstrip()
    return start[:1] == "{" and (
        name.endswith(".traj") or (_TRAJECTORY.search(start) is not None and '"observation"' in start)
    )


def parse(text: str, name: str) -> Transcript:
    """Returns the run's history; if the file has none, or is cut off within it, the steps fill the gap."""
    log = ParseLog()
    body = read_document(text, log)
    body = body if isinstance(body, dict) else {}
    steps, entries = _objects(body.get("trajectory")), _objects(body.get("history"))
    if log.warnings and entries:
        entries = _complete_from_steps(entries, steps)
    histories: dict[str, list[Row]] = {}
    for entry in entries or [*_history_from_steps(steps)]:
        histories.setdefault(text_or_none(entry.get("agent")) or "primary", []).append(entry)
    last = text_or_none(steps[-1].get("observation")) if entries and steps else None
    turns_of = {agent: log.sanitize(enumerate(_turns(history, last), 1)) for agent, history in histories.items()}
    main = next(iter(turns_of), "primary")
    threads = [Transcript(AGENT, "", turns, agent) for agent, turns in turns_of.items() if agent != main]
    return Transcript(AGENT, "", turns_of.get(main, ()), threads=tuple(threads), warnings=tuple(log.warnings))


def _objects(value: object) -> list[Row]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


# ---------------------------------------------------------------- history and steps


def _history_from_steps(steps: list[Row]) -> Iterator[Row]:
    """Yields the entries that the steps were made from. The first step's query holds the request."""
    yield from _objects(steps[0].get("query")) if steps else ()
    for step in steps:
        yield from _entries_from_step(step)


def _entries_from_step(step: Row) -> Iterator[Row]:
    yield {**step, "role": "assistant", "content": step.get("response")}
    yield from _observation_entry(step)


def _observation_entry(step: Row) -> Iterator[Row]:
    if isinstance(step.get("observation"), str):
        yield {"role": "user", "message_type": "observation", "content": step["observation"]}


def _complete_from_steps(entries: list[Row], steps: list[Row]) -> list[Row]:
    """Returns a history that was cut off, followed by the entries of the steps after it.

    Its last entry may be cut off too, so it is replaced from the steps, unless it precedes all of them. Replies without
    an action are no steps.
    """
    steps = [step for step in steps if text_or_none(step.get("action"))]
    if len(_replies_with_action(entries)) >= len(steps):
        return entries
    kept = entries[:-1] if _replies_with_action(entries) else entries
    replies = _replies_with_action(kept)
    observation = _observation_entry(steps[len(replies) - 1]) if replies and kept[-1] is replies[-1] else ()
    return [*kept, *observation, *(entry for step in steps[len(replies) :] for entry in _entries_from_step(step))]


def _replies_with_action(entries: list[Row]) -> list[Row]:
    replies = [entry for entry in entries if entry.get("role") == "assistant" and not entry.get("is_demo")]
    return [entry for entry in replies if text_or_none(entry.get("action")) or entry.get("tool_calls")]


# ---------------------------------------------------------------- turns


def _turns(history: list[Row], last: str | None) -> Iterator[NewTurn]:
    """Yields the turns of an agent's entries. last: the last action's observation, if the history ends with it."""
    pending: list[_Call] = []  # calls of the last reply that have no result yet
    has_replied = False
    for place, entry in enumerate(history):
        role, content = entry.get("role"), entry.get("content")
        if entry.get("is_demo") or role == "system" or role not in ("user", "assistant", "tool"):
            yield from _with_name(turns_from_blocks("system", content), INJECTED)
        elif role == "assistant":
            has_replied = True
            yield from _spoken_turns(entry)
            calls = [*_calls(entry, place)]
            yield from calls
            pending = [(call.name, call.call_id) for call in calls]
        elif pending and (role == "tool" or entry.get("message_type") == "observation"):
            yield from _results(entry, pending)
        elif has_replied and role == "user":
            yield from _with_name(turns_from_blocks("system", content), INJECTED)
        else:
            yield from turns_from_blocks("tool" if role == "tool" else "user", content)
    if len(pending) == 1 and last is not None:
        yield NewTurn("tool", last, pending[0][0], None, pending[0][1])


def _with_name(turns: Iterator[NewTurn], name: str) -> Iterator[NewTurn]:
    for turn in turns:
        yield NewTurn(turn.role, turn.content, name)


def _spoken_turns(entry: Row) -> Iterator[NewTurn]:
    """Yields the model's thoughts and words. The action is left out of these if the reply is only words and action."""
    for block in _objects(entry.get("thinking_blocks")):
        if text_or_none(block.get("thinking")):
            yield NewTurn("assistant", block["thinking"], THINKING)
    reply, thought, action = entry.get("content"), entry.get("thought"), entry.get("action")
    if isinstance(reply, str) and isinstance(thought, str) and isinstance(action, str) and reply.startswith(thought):
        fenced = _FENCED_ACTION.fullmatch(reply, len(thought))
        reply = thought if fenced and fenced[1].strip() == action.strip() else reply
    for turn in turns_from_blocks("assistant", reply):
        if turn.content:
            yield turn


def _calls(entry: Row, place: int) -> Iterator[NewTurn]:
    calls = _objects(entry.get("tool_calls"))
    for call in calls:
        function: Any = call.get("function")
        function = function if isinstance(function, dict) else {}
        name, call_id = text_or_none(function.get("name")), text_or_none(call.get("id"))
        yield NewTurn("assistant", text_or_json(function.get("arguments", "")), name, None, call_id)
    if not calls and text_or_none(entry.get("action")):
        yield NewTurn("assistant", entry["action"], SHELL, None, f"action-{place}")


def _results(entry: Row, pending: list[_Call]) -> Iterator[NewTurn]:
    """Yields a result for the call that it names, or else for the one that waits longest; that call is done."""
    ids = entry.get("tool_call_ids")
    call_id = ids[0] if isinstance(ids, list) and ids else entry.get("tool_call_id")
    call = next((call for call in pending if call[1] == call_id), pending[0])
    pending.remove(call)
    for turn in turns_from_blocks("tool", entry.get("content")):
        yield NewTurn("tool", turn.content, call[0], None, call[1])
