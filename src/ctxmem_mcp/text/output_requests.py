"""Recognises calls that ask for exactly what they get: their output is never shortened. Pure."""

from __future__ import annotations

import json

from ctxmem_mcp.patterns import lazy_regex

# A call with one of these arguments names the part that it wants.
_RANGE_ARGUMENTS = frozenset(
    "offset limit start end start_line end_line line_start line_end view_range range lines head_limit".split()
)
_PART_COMMAND = lazy_regex(r"(?:\A|[|;&]\s*)(?:sed\s+-n|head|tail)\b")
# This server's tools, which return what was asked for.
_OWN_TOOLS = ("expand_node", "get_context", "search_turns", "hand_off")


def asks_for_all(tool: str, arguments: object) -> bool:
    """Returns whether a call names the part that it wants, or is of this server.

    Args:
        tool: the tool's name.
        arguments: its arguments, or their JSON.
    """
    return tool.endswith(_OWN_TOOLS) or _names_a_part(arguments)


def _names_a_part(arguments: object) -> bool:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except (ValueError, RecursionError):
            return False
    if not isinstance(arguments, dict):
        return False
    command = arguments.get("command", arguments.get("cmd"))
    command = " ".join(map(str, command)) if isinstance(command, list) else command
    is_part = isinstance(command, str) and _PART_COMMAND.search(command) is not None
    return is_part or any(arguments.get(name) is not None for name in _RANGE_ARGUMENTS)
