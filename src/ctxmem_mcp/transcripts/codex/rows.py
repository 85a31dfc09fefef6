"""What one row of a Codex rollout says. `response_item` rows are what the model was sent and sent back; `event_msg`
rows tell the screen, mostly of the same things, so that most of them are said twice (codex_twins sorts that out).

The long tail of tools is read by the shape they share: an id, a name, what was given, what came back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn, Role
from ctxmem_mcp.transcripts.base import RECALLED, compact
from ctxmem_mcp.transcripts.json_lines import Row, instant_of, text_of

USER, ASSISTANT, THOUGHT, PLAN, CALL, RESULT, HOST, SUMMARY = (
    "user", "assistant", "thought", "plan", "call", "result", "host", "summary",
)  # fmt: skip
_SPEAKERS: dict[str, tuple[Role, str | None]] = {
    USER: ("user", None), ASSISTANT: ("assistant", None), PLAN: ("assistant", None),
    THOUGHT: ("assistant", THINKING), HOST: ("system", INJECTED), SUMMARY: ("system", RECAP),
}  # fmt: skip
# How texts begin that stand in a user's message and that no user wrote.
_RECAPS = ("another language model started to solve this problem",)
_INJECTED = (
    "<environment_context>", "<user_instructions>", "# agents.md instructions", "<instructions>", "<turn_aborted>",
    "<additional_context>", "<skill>", "<user_shell_command>", "<subagent_notification>", "<goal_context>",
    "<hook_prompt", "<codex_internal_context", "<user_action>", "<permissions instructions>", "<apps_instructions>",
    "<skills_instructions>", "<plugins>", "<collaboration_mode>", "<model_switch>", "<personality_spec>",
    "<app-context>", "warning: the maximum number of unified exec", "warning: apply_patch was requested via exec",
    RECALLED.lower(),
)  # fmt: skip
_LONGEST = max(len(start) for start in (*_RECAPS, *_INJECTED))

_ITEMS = ("response_item", "inter_agent_communication")
_EVENTS = {
    "user_message": USER, "agent_message": ASSISTANT, "agent_reasoning": THOUGHT,
    "agent_reasoning_raw_content": THOUGHT, "error": HOST,
}  # fmt: skip
_COMPLETED = {"UserMessage": USER, "AgentMessage": ASSISTANT, "Reasoning": THOUGHT, "Plan": PLAN}
_SAYING = ("content", "message", "text", "summary", "summary_text", "raw_content")
_GIVEN = ("arguments", "input", "command", "changes", "action", "query", "prompt", "revised_prompt", "path")
_CAME_BACK = ("output", "aggregated_output", "result", "results", "content_items", "tools", "agent_statuses", "stdout")
_END_OF_CALL = re.compile(r"_(?:end|call|tool_call(?:_request|_response)?)$")
_TOOLS = {"patch_apply": "apply_patch", "FileChange": "apply_patch", "CommandExecution": "exec_command"}
# kind, text, is_text, name, call_id
_Told = Iterator[tuple[str, str, bool, str | None, str | None]]


@dataclass(frozen=True, slots=True)
class Said:
    """One turn that a row has to tell. event: told to the screen, where an item may tell it too.

    is_text: words as they were said, rather than JSON of what is no text.
    apart: told while no task was at work, when a host sets the scene.
    """

    line: int
    kind: str
    turn: NewTurn
    is_text: bool = True
    event: bool = False
    apart: bool = False


def said_in(line: int, row: Row, apart: bool) -> Iterator[Said]:
    """All that a row says; nothing where it is about settings, tokens or the state of things."""
    payload = row.get("payload")
    body = payload if isinstance(payload, dict) else row
    said_at = instant_of(row.get("timestamp")) or instant_of(row.get("created_at"))
    if event := row.get("type") == "event_msg":
        told = _of_event(body)
    elif row.get("type") == "compacted":
        told = _of_compacted(body)
    elif row.get("type") in _ITEMS or body is row:
        told = _of_item(body)
    else:
        return
    for kind, text, is_text, name, call_id in told:
        role, known = _SPEAKERS.get(kind, ("tool" if kind == RESULT else "assistant", name))
        yield Said(line, kind, NewTurn(role, text, known, said_at, call_id), is_text, event, apart)


def _of_item(item: Row) -> _Told:
    kind = text_of(item.get("type")) or "message"
    if kind == "message":
        yield from _spoken(str(item["role"]) if item.get("role") in (USER, ASSISTANT) else HOST, item)
    elif kind == "agent_message":  # one agent to another: neither of this conversation's two
        yield from _spoken(HOST, item)
    elif kind == "reasoning":
        yield from _spoken(THOUGHT, item)
    elif kind.endswith("_call"):
        yield from _called(kind, item)
    elif kind.endswith(("_output", "_result")):
        yield from _answered(item)


def _of_event(event: Row) -> _Told:
    kind, target, item = str(event.get("type")), event.get("target"), event.get("item")
    if kind in _EVENTS:
        yield from _spoken(_EVENTS[kind], event)
        for shown in filter(event.get, ("images", "local_images")):
            yield USER, compact({"type": shown, shown: event[shown]}), False, None, None
    elif kind == "entered_review_mode" and isinstance(target, dict):
        yield from _spoken(USER, {"text": target.get("instructions")})
    elif kind == "item_completed" and isinstance(item, dict):
        done = str(item.get("type"))
        if done in _COMPLETED:
            yield from _spoken(_COMPLETED[done], item)
        elif any(field in item for field in _GIVEN):
            yield from _called(done, item)
    elif _END_OF_CALL.search(kind) and _call_id(event):
        yield from _called(kind, event)


def _of_compacted(body: Row) -> _Told:
    """What the model was left with; codex_twins leaves out of it what was said before."""
    history = body.get("replacement_history")
    for message in (body, *(history if isinstance(history, list) else ())):
        if isinstance(message, dict):
            for text, is_text in _parts_of(message):
                yield SUMMARY, text, is_text, None, None


# ---------------------------------------------------------------- messages


def _spoken(kind: str, body: Row) -> _Told:
    for text, is_text in _parts_of(body):
        yield _speaker(kind, text), text, is_text, None, None


def _parts_of(body: Row) -> Iterator[tuple[str, bool]]:
    for field in _SAYING:
        for text, is_text in _parts(body.get(field)):
            if text:
                yield text, is_text


def _speaker(kind: str, text: str) -> str:
    """Who speaks in a user's place: the user, or the host."""
    start = text[: _LONGEST + 40].lstrip().lower()
    if kind != USER or not start.startswith((*_RECAPS, *_INJECTED)):
        return kind
    return SUMMARY if start.startswith(_RECAPS) else HOST


def _parts(content: object) -> Iterator[tuple[str, bool]]:
    """Each part of a content, and whether it is text. What is encrypted says nothing to anybody."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield part, True
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"], True
        elif part is not None and not (isinstance(part, dict) and "encrypted_content" in part):
            yield compact(part), False


# ---------------------------------------------------------------- calls


def _called(kind: str, body: Row) -> _Told:
    """A call, and its result where that stands in the same row."""
    given = next((body[field] for field in _GIVEN if body.get(field) is not None), None)
    name = text_of(body.get("name")) or text_of(body.get("tool"))
    for inner in (body.get("function"), body.get("invocation")):
        if isinstance(inner, dict):
            name = name or text_of(inner.get("name")) or text_of(inner.get("tool"))
            given = inner.get("arguments") if given is None else given
    if name is None:
        tool = _END_OF_CALL.sub("", kind)
        name = _TOOLS.get(tool, tool)
    content = given if isinstance(given, str) else "" if given is None else compact(given)
    yield CALL, content, True, name, _call_id(body)
    if any(body.get(field) is not None for field in _CAME_BACK):
        yield from _answered(body)


def _answered(body: Row) -> _Told:
    came_back = next((body[field] for field in _CAME_BACK if body.get(field) is not None), "")
    parts = [*_parts(_unwrapped(came_back))] or [("", True)]
    if "aggregated_output" not in body and text_of(body.get("stderr")):
        parts.append((body["stderr"], True))
    for text, is_text in parts:
        yield RESULT, text, is_text, text_of(body.get("name")), _call_id(body)


def _unwrapped(came_back: object) -> object:
    """What a tool said, out of the envelopes that Codex and MCP put around it."""
    for wrapping in ("Ok", "Err"):
        if isinstance(came_back, dict) and len(came_back) == 1 and wrapping in came_back:
            came_back = came_back[wrapping]
    if isinstance(came_back, dict) and (isinstance(came_back.get("content"), list) or "success" in came_back):
        return came_back.get("content", came_back)
    return came_back


def _call_id(body: Row) -> str | None:
    return next((body[field] for field in ("call_id", "callId", "id") if text_of(body.get(field))), None)
