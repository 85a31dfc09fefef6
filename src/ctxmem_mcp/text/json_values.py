"""Compares JSON texts by value: clients serialise a tool call's arguments again, with other spaces or another order."""

from __future__ import annotations

import json
from typing import Any


def canonical_json(text: str) -> str | None:
    """Returns a text that is the same for all serialisations of a JSON object or array; None if it is neither."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text, parse_float=_number)
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    except (ValueError, RecursionError):
        return None


def is_same_json(a: str, b: str) -> bool:
    """Returns whether two texts are JSON objects or arrays of the same value: unlike in Python, true is not 1."""
    canonical = canonical_json(a)
    return canonical is not None and canonical == canonical_json(b)


def _number(digits: str) -> Any:
    number = float(digits)
    return int(number) if number.is_integer() else number
