"""What a request asks of memory: in its model's suffixes, its headers, its body. Pure.

    model     gpt-4o:memory · gpt-4o:memory-90 · gpt-4o:online:memory-90:reasoning-exclude
    headers   memory: true · memory_expiration_days: 45
    body      "memory": true · "memory_expiration_days": 45 · "model_context_limit": 128000

Who says false is heard, wherever it stands. Of days a header's count more than a suffix's and a suffix's more than the
body's; what is out of 1..365 is clamped. A suffix that is not ours stays where it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN

HEADER, DAYS_HEADERS = "memory", ("memory_expiration_days", "memory-expiration-days")
BODY_FIELDS = ("memory", "memory_expiration_days", "model_context_limit")
# A limit below this is taken for this; of a model's window about an eighth is filled with what was said before.
CONTEXT_LIMIT_MIN, WINDOW_SHARE, BUDGET_MIN = 10_000, 8, 8_000
_OURS = re.compile(r"memory(?:-(-?\d+))?", re.IGNORECASE)
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class Wish:
    """on: memory is wanted. model: as the upstream knows it. days: None where nobody said. said: something of ours
    stands in the model's name or in the body, and must not go on."""

    on: bool
    model: str | None
    days: int | None = None
    context_limit: int | None = None
    said: bool = False

    def budget(self, most: int) -> int:
        """The tokens to fit the conversation into: as configured, or less where the model's window is small."""
        if self.context_limit is None:
            return most
        return min(most, max(BUDGET_MIN, max(CONTEXT_LIMIT_MIN, self.context_limit) // WINDOW_SHARE))


def wish_of(body: Mapping[str, Any], headers: Mapping[str, str]) -> Wish:
    """headers: by name in lower case."""
    given = body.get("model")
    model, by_suffix, suffix_days = _suffixes(given) if isinstance(given, str) else (None, False, None)
    asked = [_truth(headers.get(HEADER)), _truth(body.get("memory"))]
    on = False not in asked and (by_suffix or True in asked)
    header_days = next((days for name in DAYS_HEADERS if (days := _whole(headers.get(name))) is not None), None)
    days = next(
        (d for d in (header_days, suffix_days, _whole(body.get("memory_expiration_days"))) if d is not None), None
    )
    said = model != given if isinstance(given, str) else False
    said = said or _is_ours(body) or (on and any(field in body for field in BODY_FIELDS))
    return Wish(on, model, None if days is None else _clamped(days), _whole(body.get("model_context_limit")), said)


def without_ours(body: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    """The body as the upstream is to have it."""
    ours = BODY_FIELDS if wish.on else ("memory", "memory_expiration_days")
    left = {n: value for n, value in body.items() if n not in ours or (n == "memory" and not _is_ours(body))}
    return left | {"model": wish.model} if wish.model is not None else left


def _is_ours(body: Mapping[str, Any]) -> bool:
    """Whether the body's `memory` is our switch; an object, say, is somebody else's field of that name."""
    return "memory" in body and (body["memory"] is None or _truth(body["memory"]) is not None)


def _suffixes(model: str) -> tuple[str, bool, int | None]:
    """The model without our suffixes, whether there was one, and the days it names."""
    first, *rest = model.split(":")
    ours = [found for part in rest if (found := _OURS.fullmatch(part))]
    left = [part for part in rest if not _OURS.fullmatch(part)]
    days = next((int(found[1]) for found in ours if found[1] and len(found[1]) < 10), None)
    return ":".join([first, *left]), bool(ours), days


def _truth(given: object) -> bool | None:
    word = str(given).strip().lower() if isinstance(given, bool | str | int) else ""
    return True if word in _YES else False if word in _NO else None


def _whole(given: object) -> int | None:
    """A number, or one written as text."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        return int(float(given))
    except (ValueError, OverflowError):
        return None


def _clamped(days: int) -> int:
    return min(RETENTION_DAYS_MAX, max(RETENTION_DAYS_MIN, days))
