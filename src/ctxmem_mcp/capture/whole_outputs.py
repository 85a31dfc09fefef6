"""The whole of an output that a hook shortened: an event that becomes a conversation of its own, call and output.

The agent's transcript has only what the model was given. A conversation beside the session's has an id before anything
is stored, so that the short output can name it. It lives as long as the session. Imports nothing slow.
"""

from __future__ import annotations

import hashlib
import json

from ctxmem_mcp.agents import OF_OUTPUT, session_of_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

EVENT = "WholeOutput"
# A longer session's id leaves no room for that of the output.
SESSION_CHARS_MAX = 100
_FIELDS = ("cwd", "tool_name", "tool_input", "tool_use_id")


def output_id(session: str, event: dict[str, Any], text: str) -> str:
    """Returns the id of the conversation that has an output.

    Args:
        session: the session's conversation.
        event: the event after the call.
        text: the output.
    """
    call = json.dumps([event.get("tool_use_id"), event.get("tool_input"), text])
    return f"{session}{OF_OUTPUT}{hashlib.blake2b(call.encode(), digest_size=5).hexdigest()}"


def event_for(event: dict[str, Any], session: str, text: str) -> bytes:
    """Returns the event to spool. The arguments are those of `output_id`."""
    fields = {name: event[name] for name in _FIELDS if name in event}
    fields |= {"hook_event_name": EVENT, "session_id": output_id(session, event, text), "tool_response": text}
    return json.dumps(fields).encode()


def session_of(conversation_id: str) -> str:
    """Returns the session's conversation of an output's; the id itself if it is none."""
    return session_of_output(conversation_id) or conversation_id
