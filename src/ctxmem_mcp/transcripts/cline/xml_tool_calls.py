"""Calls in Cline's assistant messages that older versions write into the text as tags: one for the tool, and in it one
for each argument.

A call has to be a tag of a tool that Cline or a fork has had, at the beginning of a line and closed again; all else is
text. A tool by which the agent speaks becomes its words and then a call with the other arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.base import text_or_json

# Tools by which the agent speaks, each with the argument that holds its words.
_SPEECH_ARGUMENT = {
    "attempt_completion": "result",
    "plan_mode_respond": "response",
    "plan_mode_response": "response",
    "act_mode_respond": "response",
    "ask_followup_question": "question",
}
_TOOLS = (
    *_SPEECH_ARGUMENT, "access_mcp_resource", "apply_diff", "apply_patch", "browser_action", "codebase_search",
    "condense", "edit_file", "execute_command", "fetch_instructions", "focus_chain", "generate_explanation",
    "generate_image", "insert_content", "list_code_definition_names", "list_files", "load_mcp_documentation",
    "new_rule", "new_task", "read_file", "replace_in_file", "report_bug", "run_slash_command", "search_and_replace",
    "search_files", "summarize_task", "switch_mode", "update_todo_list", "use_mcp_tool", "use_skill", "use_subagents",
    "web_fetch", "web_search", "write_to_file",
)  # fmt: skip
_THINKING_TAG = "thinking"
_OPENING = lazy_regex(rf"^[ \t]*<({'|'.join(_TOOLS)}|{_THINKING_TAG})>", re.MULTILINE)
_ARGUMENT = lazy_regex(r"\s*<(\w+)>")
# Arguments whose text may hold their own closing tag: they end at the last one.
_FILE_ARGUMENTS = ("content", "diff")


class _Element(NamedTuple):
    """A closed element: text[start:end], its inner text without the tags."""

    tag: str
    inner: str
    start: int
    end: int


def turns_from_assistant_text(text: str, number: int, said_at: str | None) -> Iterator[NewTurn]:
    """Yields the words and the calls in a text, in order.

    Args:
        text: the text.
        number: its message's number. Such a call has no id, so it is named after this and its own place in the text.
        said_at: its time in ISO 8601.
    """
    at = calls = 0
    for element in _elements(text):
        if words := text[at : element.start].strip("\n"):
            yield NewTurn("assistant", words, None, said_at)
        at = element.end
        if element.tag == _THINKING_TAG:
            yield NewTurn("assistant", element.inner.strip("\n"), THINKING, said_at)
            continue
        yield from turns_from_call(element.tag, _parse_arguments(element.inner), f"call-{number}-{calls}", said_at)
        calls += 1
    rest = text[at:].strip("\n") if at else text
    if rest:
        yield NewTurn("assistant", rest, None, said_at)


def _elements(text: str) -> Iterator[_Element]:
    at, unclosed = 0, set[str]()
    while opening := _OPENING.search(text, at):
        at, tag = opening.end(), opening[1]
        closing = -1 if tag in unclosed else text.find(f"</{tag}>", at)
        if closing < 0:
            unclosed.add(tag)
            continue
        inner, at = text[at:closing], closing + len(tag) + 3
        yield _Element(tag, inner, opening.start(), at)


def turns_from_call(tool: str, arguments: object, call_id: str | None, said_at: str | None) -> Iterator[NewTurn]:
    """Yields a call; before it, if the agent speaks by this tool, its words."""
    speech = _SPEECH_ARGUMENT.get(tool)
    if speech and isinstance(arguments, dict) and isinstance(arguments.get(speech), str):
        if words := arguments[speech].strip("\n"):
            yield NewTurn("assistant", words, None, said_at)
        arguments = {key: value for key, value in arguments.items() if key != speech}
    yield NewTurn("assistant", text_or_json(arguments), tool, said_at, call_id)


def _parse_arguments(inner: str) -> dict[str, Any] | str:
    """Returns a call's arguments by name; the text itself if it is anything but arguments."""
    found: dict[str, Any] = {}
    at = 0
    while opening := _ARGUMENT.match(inner, at):
        name, closing = opening[1], f"</{opening[1]}>"
        end = inner.rfind(closing) if name in _FILE_ARGUMENTS else inner.find(closing, opening.end())
        if end < opening.end() or name in found:
            return inner
        found[name] = inner[opening.end() : end]
        at = end + len(closing)
    return inner if inner[at:].strip() else found
