"""The turns in one row of a Codex rollout.

`response_item` rows are the model's input and output. `event_msg` rows are for the screen, mostly with the same
content, so that most turns are logged twice: `deduplication` removes the second. The long tail of tools is read by the
shape that their rows share: an id, a name, the arguments, the output.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, NewTurn, Role
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.host_text import RECALL_START
from ctxmem_mcp.transcripts.base import compact_json, text_or_json
from ctxmem_mcp.transcripts.json_lines import Row, text_or_none, timestamp_or_none

USER, ASSISTANT, THOUGHT, PLAN, CALL, RESULT, HOST, SUMMARY = (
    "user", "assistant", "thought", "plan", "call", "result", "host", "summary",
)  # fmt: skip
# The role and the name of each kind's turns; calls and results have the name of their tool.
_ROLES: dict[str, tuple[Role, str | None]] = {
    USER: ("user", None), ASSISTANT: ("assistant", None), PLAN: ("assistant", None),
    THOUGHT: ("assistant", THINKING), HOST: ("system", INJECTED), SUMMARY: ("system", RECAP),
}  # fmt: skip
# Beginnings (in lower case) of texts that stand in a user's message though no user wrote them.
_RECAP_PREFIXES = ("another language model started to solve this problem",)
_INJECTED_PREFIXES = (
    "<environment_context>", "<user_instructions>", "# agents.md instructions", "<instructions>", "<turn_aborted>",
    "<additional_context>", "<skill>", "<user_shell_command>", "<subagent_notification>", "<goal_context>",
    "<hook_prompt", "<codex_internal_context", "<user_action>", "<permissions instructions>", "<apps_instructions>",
    "<skills_instructions>", "<plugins>", "<collaboration_mode>", "<model_switch>", "<personality_spec>",
    "<app-context>", "warning: the maximum number of unified exec", "warning: apply_patch was requested via exec",
    RECALL_START.lower(),
)  # fmt: skip
_LONGEST_PREFIX = max(len(prefix) for prefix in (*_RECAP_PREFIXES, *_INJECTED_PREFIXES))

_ITEM_ROWS = ("response_item", "inter_agent_communication")
_EVENT_KINDS = {
    "user_message": USER, "agent_message": ASSISTANT, "agent_reasoning": THOUGHT,
    "agent_reasoning_raw_content": THOUGHT, "error": HOST,
}  # fmt: skip
_COMPLETED_ITEM_KINDS = {"UserMessage": USER, "AgentMessage": ASSISTANT, "Reasoning": THOUGHT, "Plan": PLAN}
_TEXT_FIELDS = ("content", "message", "text", "summary", "summary_text", "raw_content")
_ARGUMENT_FIELDS = (
    "arguments", "input", "command", "changes", "action", "query", "prompt", "revised_prompt", "path",
)  # fmt: skip
_OUTPUT_FIELDS = (
    "output", "aggregated_output", "result", "results", "content_items", "tools", "agent_statuses", "stdout",
)  # fmt: skip
# What row types of calls end in, behind the name of the tool.
_CALL_SUFFIX = lazy_regex(r"_(?:end|call|tool_call(?:_request|_response)?)$")
_TOOL_NAMES = {"patch_apply": "apply_patch", "FileChange": "apply_patch", "CommandExecution": "exec_command"}


class _Part(NamedTuple):
    """One turn's share of a row. is_text: it was text, and is not JSON of something else."""

    kind: str
    text: str
    is_text: bool = True
    name: str | None = None
    call_id: str | None = None


@dataclass(frozen=True, slots=True)
class LoggedTurn:
    """One turn as a row logs it.

    Attributes:
        line: the row's line, counted from 1.
        kind: USER, ASSISTANT, CALL ...
        turn: the turn.
        is_text: it was text, and is not JSON of something else.
        is_event: the row was for the screen; an item may log the same turn.
        between_tasks: no task was running, which is when a host sends its own context.
    """

    line: int
    kind: str
    turn: NewTurn
    is_text: bool = True
    is_event: bool = False
    between_tasks: bool = False


def read_turns(line: int, row: Row, *, between_tasks: bool) -> Iterator[LoggedTurn]:
    """Yields the turns that a row logs; none if it is about settings, tokens or the state of the session."""
    payload = row.get("payload")
    body = payload if isinstance(payload, dict) else row
    said_at = timestamp_or_none(row.get("timestamp")) or timestamp_or_none(row.get("created_at"))
    if is_event := row.get("type") == "event_msg":
        parts = _event_parts(body)
    elif row.get("type") == "compacted":
        parts = _compacted_parts(body)
    elif row.get("type") in _ITEM_ROWS or body is row:
        parts = _item_parts(body)
    else:
        return
    for part in parts:
        role, name = _ROLES.get(part.kind, ("tool" if part.kind == RESULT else "assistant", part.name))
        turn = NewTurn(role, part.text, name, said_at, part.call_id)
        yield LoggedTurn(line, part.kind, turn, part.is_text, is_event, between_tasks)


def _item_parts(item: Row) -> Iterator[_Part]:
    kind = text_or_none(item.get("type")) or "message"
    if kind == "message":
        yield from _message_parts(str(item["role"]) if item.get("role") in (USER, ASSISTANT) else HOST, item)
    elif kind == "agent_message":  # one agent to another: neither of them speaks in this conversation
        yield from _message_parts(HOST, item)
    elif kind == "reasoning":
        yield from _message_parts(THOUGHT, item)
    elif kind.endswith("_call"):
        yield from _call_parts(kind, item)
    elif kind.endswith(("_output", "_result")):
        yield from _result_parts(item)


def _event_parts(event: Row) -> Iterator[_Part]:
    kind, target, item = str(event.get("type")), event.get("target"), event.get("item")
    if kind in _EVENT_KINDS:
        yield from _message_parts(_EVENT_KINDS[kind], event)
        for field in filter(event.get, ("images", "local_images")):
            yield _Part(USER, compact_json({"type": field, field: event[field]}), is_text=False)
    elif kind == "entered_review_mode" and isinstance(target, dict):
        yield from _message_parts(USER, {"text": target.get("instructions")})
    elif kind == "item_completed" and isinstance(item, dict):
        item_type = str(item.get("type"))
        if item_type in _COMPLETED_ITEM_KINDS:
            yield from _message_parts(_COMPLETED_ITEM_KINDS[item_type], item)
        elif any(field in item for field in _ARGUMENT_FIELDS):
            yield from _call_parts(item_type, item)
    elif _CALL_SUFFIX.search(kind) and _call_id(event):
        yield from _call_parts(kind, event)


def _compacted_parts(body: Row) -> Iterator[_Part]:
    """Yields the history after a compaction; `deduplication` drops the parts that the file holds before."""
    history = body.get("replacement_history")
    for message in (body, *(history if isinstance(history, list) else ())):
        if isinstance(message, dict):
            for text, is_text in _body_texts(message):
                yield _Part(SUMMARY, text, is_text)


# ---------------------------------------------------------------- messages


def _message_parts(kind: str, body: Row) -> Iterator[_Part]:
    for text, is_text in _body_texts(body):
        yield _Part(_actual_kind(kind, text), text, is_text)


def _body_texts(body: Row) -> Iterator[tuple[str, bool]]:
    for field in _TEXT_FIELDS:
        for text, is_text in _texts(body.get(field)):
            if text:
                yield text, is_text


def _actual_kind(kind: str, text: str) -> str:
    """Returns the kind of a message in the user's place: the user may have written it, or the host."""
    start = text[: _LONGEST_PREFIX + 40].lstrip().lower()
    if kind != USER or not start.startswith((*_RECAP_PREFIXES, *_INJECTED_PREFIXES)):
        return kind
    return SUMMARY if start.startswith(_RECAP_PREFIXES) else HOST


def _texts(content: object) -> Iterator[tuple[str, bool]]:
    """Yields each part of a content, and whether it is text. Encrypted parts are left out: no one can read them."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str):
            yield part, True
        elif isinstance(part, dict) and isinstance(part.get("text"), str):
            yield part["text"], True
        elif part is not None and not (isinstance(part, dict) and "encrypted_content" in part):
            yield compact_json(part), False


# ---------------------------------------------------------------- calls


def _call_parts(kind: str, body: Row) -> Iterator[_Part]:
    """Yields a call, and its result if the same row has it."""
    arguments = next((body[field] for field in _ARGUMENT_FIELDS if body.get(field) is not None), None)
    name = text_or_none(body.get("name")) or text_or_none(body.get("tool"))
    for inner in (body.get("function"), body.get("invocation")):
        if isinstance(inner, dict):
            name = name or text_or_none(inner.get("name")) or text_or_none(inner.get("tool"))
            arguments = inner.get("arguments") if arguments is None else arguments
    if name is None:
        tool = _CALL_SUFFIX.sub("", kind)
        name = _TOOL_NAMES.get(tool, tool)
    yield _Part(CALL, "" if arguments is None else text_or_json(arguments), True, name, _call_id(body))
    if any(body.get(field) is not None for field in _OUTPUT_FIELDS):
        yield from _result_parts(body)


def _result_parts(body: Row) -> Iterator[_Part]:
    output = next((body[field] for field in _OUTPUT_FIELDS if body.get(field) is not None), "")
    texts = [*_texts(_unwrap_output(output))] or [("", True)]
    if "aggregated_output" not in body and text_or_none(body.get("stderr")):
        texts.append((body["stderr"], True))
    for text, is_text in texts:
        yield _Part(RESULT, text, is_text, text_or_none(body.get("name")), _call_id(body))


def _unwrap_output(output: object) -> object:
    """Returns a tool's output without the envelopes that Codex and MCP put around it."""
    for envelope in ("Ok", "Err"):
        if isinstance(output, dict) and len(output) == 1 and envelope in output:
            output = output[envelope]
    if isinstance(output, dict) and (isinstance(output.get("content"), list) or "success" in output):
        return output.get("content", output)
    return output


def _call_id(body: Row) -> str | None:
    return next((body[field] for field in ("call_id", "callId", "id") if text_or_none(body.get(field))), None)
