"""Shortens a command's long output before the model gets it, if the agent lets a hook replace it.

What remains and what is never shortened is as in the gateway. The agent's transcript has the short text only, so the
whole is spooled first: it becomes a conversation of its own beside the session's, which the last line names.
"""

from __future__ import annotations

import hashlib
import json
import os

from ctxmem_mcp.agents import OUTPUT_EVENT
from ctxmem_mcp.capture import session_files
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.capture.whole_outputs import SESSION_CHARS_MAX, event_for, output_id
from ctxmem_mcp.text.output_requests import asks_for_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Where the results have the text. Of a file that was read, the model gets line numbers too, which would be wrong.
_FIELDS = {"Bash": "stdout", "Grep": "content"}
_COPILOT_TEXT, _COPILOT_TYPE = "text_result_for_llm", "result_type"
# The agent itself has replaced the text by a preview, or there is none.
_NOT_TEXT = ("isImage", "persistedOutputPath")


def respond(raw: bytes, data_dir: str, tokens_max: int, spool: Callable[[bytes], None]) -> None:
    """Writes a shorter result to stdout, if the event is of a call whose output is too long.

    Args:
        raw: the event as the agent sent it.
        data_dir: the data folder.
        tokens_max: the tokens over which an output is shortened.
        spool: spools an event, and raises OSError if that fails. Then the output stays whole.
    """
    event = json.loads(raw.decode("utf-8-sig", "replace"))
    text, tool = text_of(event), str(event.get("tool_name"))
    session = conversation_id_for(str(event.get("session_id") or ""))
    if not session or len(session) > SESSION_CHARS_MAX or event.get("hook_event_name") != OUTPUT_EVENT or not text:
        return
    if len(text) <= tokens_max or asks_for_all(tool, event.get("tool_input")):
        return
    short = _shorten(text, tokens_max, session, event)
    if short == text or not session_files.take_first_time(data_dir, session, _key_of_call(event)):
        return
    spool(event_for(event, session, text))
    os.write(1, json.dumps(_replaced(event, short)).encode() + b"\n")


def text_of(event: dict[str, Any]) -> str:
    """Returns the output in the event of a call that may be shortened; empty if there is none."""
    tool, result = str(event.get("tool_name")), event.get("tool_response", event.get("tool_result"))
    if tool not in _FIELDS or not isinstance(result, dict) or any(result.get(key) for key in _NOT_TEXT):
        return ""
    text = result.get(_COPILOT_TEXT, result.get(_FIELDS[tool]))
    return text if isinstance(text, str) else ""


def _shorten(text: str, tokens_max: int, session: str, event: dict[str, Any]) -> str:
    from ctxmem_mcp.text.long_output import shorten_output
    from ctxmem_mcp.text.tokenizer import estimate

    size = estimate(text)
    if size <= tokens_max:
        return text
    note = f"expand_node with conversation {output_id(session, event, text)} and id t1 returns all of it."
    return shorten_output(text, len(text) * tokens_max // size, note)


def _key_of_call(event: dict[str, Any]) -> str:
    """Returns the key of a call with its arguments: who makes it again wants all of it."""
    call = json.dumps([event.get("tool_name"), event.get("tool_input")], sort_keys=True)
    return "output/" + hashlib.blake2b(call.encode(), digest_size=8).hexdigest()


def _replaced(event: dict[str, Any], short: str) -> dict[str, Any]:
    """Returns what the agent takes in place of the result: Claude Code one of the same form, Copilot CLI a text."""
    result = event.get("tool_response")
    if isinstance(result, dict):
        updated = {**result, _FIELDS[event["tool_name"]]: short}
        return {"hookSpecificOutput": {"hookEventName": OUTPUT_EVENT, "updatedToolOutput": updated}}
    kind = event["tool_result"].get(_COPILOT_TYPE, "success")
    return {"modifiedResult": {"resultType": kind, "textResultForLlm": short}}
