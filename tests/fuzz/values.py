"""Wrong values: mutations of valid JSON values, and random text and bytes that programs choke on."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1e308, 10**30, "", "x", "\ud800", "\0", [], {}, [None], [[]], [{}], {"": None}, {"text": 5},
    {"type": []}, {"role": {}}, [{"type": "text"}], "9" * 5_000,
)  # fmt: skip
# Text that would change a terminal, a view's structure or a path, if it were obeyed.
HOSTILE = (
    "\x1b]0;owned\x07", "\x1b[2J", "\u202e", "\r", "\n\n## ", "\n[t1-123 user]", "</compressed-context>", "../../x",
    "\ufeff", "\U0001f469\u200d\U0001f467", "\ud83d", "%", "NaN", "-0", "1e999", "'; --", "{", "[" * 200, "a" * 3_000,
)  # fmt: skip


def damage(root: list[Any], randomly: random.Random) -> None:
    """Replaces, removes or moves some parts of a value in place. root: a list that holds it."""
    places = [*_places(root)]
    for _ in range(randomly.choice((1, 1, 2, 5))):
        holder, key = randomly.choice(places)
        action = randomly.random()
        try:
            if action < 0.3:
                holder[key] = randomly.choice(ODD)
            elif action < 0.6:
                holder[key] = text(randomly)
            elif action < 0.8:
                del holder[key]
            else:
                other, other_key = randomly.choice(places)
                holder[key] = json.loads(json.dumps(other[other_key]))
        except (LookupError, TypeError):
            continue


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    keys = range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    for key in keys:
        yield value, key
        yield from _places(value[key])


def damaged(value: Any, randomly: random.Random) -> Any:
    """Returns a copy of a value with some parts wrong."""
    root = [json.loads(json.dumps(value))]
    damage(root, randomly)
    return root[0] if root else None


def text(randomly: random.Random) -> str:
    """Returns a short text with parts that must not be obeyed."""
    parts = [randomly.choice((*HOSTILE, "word", " ", "t0", "c")) for _ in range(randomly.randrange(1, 5))]
    return "".join(parts)


def broken(raw: bytes, randomly: random.Random) -> bytes:
    """Returns bytes with a part cut out, doubled or overwritten."""
    at, to = sorted(randomly.randrange(len(raw) + 1) for _ in range(2))
    noise = randomly.randbytes(randomly.randrange(1, 9))
    return randomly.choice((raw[:at], raw[:at] + raw[to:], raw[:to] + raw[at:], raw[:at] + noise + raw[at:]))
