"""Calls in Cline's assistant messages, which older versions write into the text as tags: the tool's, and in it one for
each argument.

Only tags of tools that Cline and its forks have had, at the beginning of a line and closed again, are calls; all else
is text. Tools by which the agent speaks give what is said in them as words, and then a call with the other arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ctxmem_mcp.models import THINKING, NewTurn
from ctxmem_mcp.transcripts.base import compact

# A tool by which the agent speaks, and the argument that holds its words.
_SAID_IN = {
    "attempt_completion": "result",
    "plan_mode_respond": "response",
    "plan_mode_response": "response",
    "act_mode_respond": "response",
    "ask_followup_question": "question",
}
_TOOLS = (
    *_SAID_IN, "access_mcp_resource", "apply_diff", "apply_patch", "browser_action", "codebase_search", "condense",
    "edit_file", "execute_command", "fetch_instructions", "focus_chain", "generate_explanation", "generate_image",
    "insert_content", "list_code_definition_names", "list_files", "load_mcp_documentation", "new_rule", "new_task",
    "read_file", "replace_in_file", "report_bug", "run_slash_command", "search_and_replace", "search_files",
    "summarize_task", "switch_mode", "update_todo_list", "use_mcp_tool", "use_skill", "use_subagents", "web_fetch",
    "web_search", "write_to_file",
)  # fmt: skip
_OPENED = re.compile(rf"^[ \t]*<({'|'.join(_TOOLS)}|thinking)>", re.MULTILINE)
_ARGUMENT = re.compile(r"\s*<(\w+)>")
# Arguments whose text may hold their own closing tag: they end at its last.
_WHOLE_FILES = ("content", "diff")


def turns_of_text(text: str, place: int, said_at: str | None) -> Iterator[NewTurn]:
    """An assistant's text and the calls in it, in order. A call has no id of its own: it is called after its message's
    place and its own in that."""
    at = calls = 0
    for start, name, inner, end in _elements(text):
        if words := text[at:start].strip("\n"):
            yield NewTurn("assistant", words, None, said_at)
        at = end
        if name == "thinking":
            yield NewTurn("assistant", inner.strip("\n"), THINKING, said_at)
            continue
        yield from turns_of_call(name, _arguments(inner), f"call-{place}-{calls}", said_at)
        calls += 1
    rest = text[at:].strip("\n") if at else text
    if rest:
        yield NewTurn("assistant", rest, None, said_at)


def _elements(text: str) -> Iterator[tuple[int, str, str, int]]:
    """Tags of tools that are closed: where each begins, its name, what stands in it, where it ends."""
    at, unclosed = 0, set[str]()
    while opened := _OPENED.search(text, at):
        at, name = opened.end(), opened[1]
        closed = -1 if name in unclosed else text.find(f"</{name}>", at)
        if closed < 0:
            unclosed.add(name)
            continue
        start, inner, at = opened.start(), text[at:closed], closed + len(name) + 3
        yield start, name, inner, at


def turns_of_call(name: str, given: object, call: str | None, said_at: str | None) -> Iterator[NewTurn]:
    """A call; before it, where the agent speaks by it, its words."""
    said = _SAID_IN.get(name)
    if said and isinstance(given, dict) and isinstance(given.get(said), str):
        if words := given[said].strip("\n"):
            yield NewTurn("assistant", words, None, said_at)
        given = {key: value for key, value in given.items() if key != said}
    yield NewTurn("assistant", given if isinstance(given, str) else compact(given), name, said_at, call)


def _arguments(inner: str) -> dict[str, Any] | str:
    """What stands between a tool's tags, by argument; as it is where it is anything but arguments."""
    found: dict[str, Any] = {}
    at = 0
    while opened := _ARGUMENT.match(inner, at):
        name, closing = opened[1], f"</{opened[1]}>"
        end = inner.rfind(closing) if name in _WHOLE_FILES else inner.find(closing, opened.end())
        if end < opened.end() or name in found:
            return inner
        found[name] = inner[opened.end() : end]
        at = end + len(closing)
    return inner if inner[at:].strip() else found
