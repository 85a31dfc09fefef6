"""Shortens long results of tools in a request. Pure.

Whether a result is shortened, and how, depends on it and on what precedes it, so it is the same in every later request.
The agent can open the whole by its id.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ctxmem_mcp.http_api.gateway.prefix import PrefixCache
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.text.long_output import is_shortened, shorten_output
from ctxmem_mcp.text.output_requests import asks_for_all

_CALL_ID_KEYS = ("tool_use_id", "tool_call_id", "call_id", "id")
_RESULT_KEYS = ("functionResponse", "function_response")

Key = tuple[str, str]


class OutputShortener:
    """Shortens the results of requests; remembers the messages of recent ones."""

    def __init__(self, tokens_max: int, count: Callable[[str], int]) -> None:
        """tokens_max: the tokens of a result that is shortened; 0 shortens none. count: counts tokens."""
        self._tokens_max, self._count = tokens_max, count
        self._messages: PrefixCache[Any] = PrefixCache()

    def shorten(
        self, messages: Sequence[Any], turns: Sequence[NewTurn], id_of: Callable[[int], str | None]
    ) -> list[Any] | None:
        """Returns a request's messages with long results shortened; None if there are none.

        Args:
            messages: the messages as the API has them.
            turns: all turns of the request.
            id_of: returns where the turn at an index is stored, as expand_node takes it; None if it is not.
        """
        if not self._tokens_max:
            return None
        known, results = self._messages.longest(messages)
        if known < len(messages):
            short = self._short_texts(turns, id_of)
            results = [*results, *(_replaced(message, short, "") for message in messages[known:])]
        results = self._messages.keep(messages, results)
        return None if all(map(_is_same, messages, results)) else list(results)

    def _short_texts(self, turns: Sequence[NewTurn], id_of: Callable[[int], str | None]) -> dict[Key, str]:
        """Returns the shortened results, by the call's id and the whole text."""
        found: dict[Key, str] = {}
        wanted = _calls_for_all(turns)
        for index, turn in enumerate(turns):
            if turn.role != "tool" or not turn.call_id or turn.call_id in wanted or is_shortened(turn.content):
                continue
            if len(turn.content) <= self._tokens_max or (size := self._count(turn.content)) <= self._tokens_max:
                continue  # a token has a character at least
            place = id_of(index)
            if place is not None:
                chars = len(turn.content) * self._tokens_max // size
                note = f"expand_node with {place} returns all of it."
                found[turn.call_id, turn.content] = shorten_output(turn.content, chars, note)
        return found


def _calls_for_all(turns: Sequence[NewTurn]) -> set[str]:
    """Returns the ids of calls that ask for what they get: of a part, of this server, or for the second time."""
    before: set[tuple[str | None, str]] = set()
    wanted: set[str] = set()
    for turn in turns:
        if turn.role != "assistant" or not turn.call_id:
            continue
        call = (turn.name, turn.content)
        if call in before or asks_for_all(str(turn.name), turn.content):
            wanted.add(turn.call_id)
        before.add(call)
    return wanted


def _replaced(value: Any, short: Mapping[Key, str], call_id: str) -> Any:
    """Returns a message with the texts of its results replaced; the same object if there are none."""
    if isinstance(value, str):
        return short.get((call_id, value), value) if call_id else value
    if isinstance(value, list):
        items = [_replaced(item, short, call_id) for item in value]
        return value if all(map(_is_same, value, items)) else items
    if not isinstance(value, dict):
        return value
    call_id = call_id or _call_of_result(value)
    fields = {key: _replaced(item, short, call_id or _call_below(key, item)) for key, item in value.items()}
    return value if all(map(_is_same, value.values(), fields.values())) else fields


def _call_of_result(value: Mapping[str, Any]) -> str:
    """Returns the id of the call that an object is the result of; empty if it is none."""
    kind = str(value.get("type", ""))
    if kind.endswith(("tool_result", "_output")) or value.get("role") in ("tool", "function"):
        return next((str(value[key]) for key in _CALL_ID_KEYS if isinstance(value.get(key), str)), "")
    return ""


def _call_below(key: str, value: Any) -> str:
    """Returns the id of the call that Gemini's field is the result of."""
    return str(value.get("id") or "") if key in _RESULT_KEYS and isinstance(value, dict) else ""


def _is_same(one: Any, other: Any) -> bool:
    return one is other
