"""The memory options of a request: in the suffixes of its model, its headers and its body. Pure.

    model     gpt-4o:memory · gpt-4o:memory-90 · gpt-4o:online:memory-90:reasoning-exclude
    headers   memory: true · memory_expiration_days: 45
    body      "memory": true · "memory_expiration_days": 45 · "model_context_limit": 128000

An explicit `false` wins wherever it appears. Precedence for days: header, model suffix, body; they are clamped to
1..365. Other suffixes are left in place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN
from ctxmem_mcp.patterns import lazy_regex

HEADER, DAYS_HEADERS = "memory", ("memory_expiration_days", "memory-expiration-days")
BODY_FIELDS = ("memory", "memory_expiration_days", "model_context_limit")
# Lower context limits are raised to CONTEXT_LIMIT_MIN. A conversation gets an eighth of the model's context window.
CONTEXT_LIMIT_MIN, WINDOW_SHARE, BUDGET_MIN = 10_000, 8, 8_000
_SUFFIX = lazy_regex(r"memory(?:-(-?\d+))?", re.IGNORECASE)
_TRUE, _FALSE = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


@dataclass(frozen=True, slots=True)
class MemoryOptions:
    """The memory options of a request.

    Attributes:
        enabled: the request is to use memory.
        model: the model's name for the upstream.
        days: the requested retention, or None.
        context_limit: the model's context window in tokens, or None.
        must_strip: the model's name or the body has options, which must not be sent upstream.
    """

    enabled: bool
    model: str | None
    days: int | None = None
    context_limit: int | None = None
    must_strip: bool = False

    def token_budget(self, configured: int) -> int:
        """Returns the token budget of the conversation: as configured, or less if the model's window is small."""
        if self.context_limit is None:
            return configured
        return min(configured, max(BUDGET_MIN, max(CONTEXT_LIMIT_MIN, self.context_limit) // WINDOW_SHARE))


def parse_options(body: Mapping[str, Any], headers: Mapping[str, str], *, always: bool = False) -> MemoryOptions:
    """Returns the options of a request.

    Args:
        body: the request's body.
        headers: its headers, by lower-case name.
        always: the request has memory unless it declines it.
    """
    name = body.get("model")
    model, has_suffix, suffix_days = _parse_suffixes(name) if isinstance(name, str) else (None, False, None)
    switches = [_boolean(headers.get(HEADER)), _boolean(body.get("memory"))]
    enabled = False not in switches and (always or has_suffix or True in switches)
    header_days = next((days for name in DAYS_HEADERS if (days := _integer(headers.get(name))) is not None), None)
    candidates = (header_days, suffix_days, _integer(body.get("memory_expiration_days")))
    days = next((days for days in candidates if days is not None), None)
    must_strip = isinstance(name, str) and model != name
    must_strip = must_strip or _has_switch(body) or (enabled and any(field in body for field in BODY_FIELDS))
    return MemoryOptions(
        enabled,
        model,
        None if days is None else _clamp(days),
        _integer(body.get("model_context_limit")),
        must_strip,
    )


def strip_options(body: Mapping[str, Any], options: MemoryOptions) -> dict[str, Any]:
    """Returns the body for the upstream, without the options."""
    fields = BODY_FIELDS if options.enabled else ("memory", "memory_expiration_days")
    left = {n: value for n, value in body.items() if n not in fields or (n == "memory" and not _has_switch(body))}
    return left | {"model": options.model} if options.model is not None and "model" in body else left


def plain_model(name: str) -> str:
    """Returns a model's name without memory suffixes."""
    return _parse_suffixes(name)[0]


def _has_switch(body: Mapping[str, Any]) -> bool:
    """Returns whether the body's `memory` is this gateway's switch; an object, say, is an upstream's own field."""
    return "memory" in body and (body["memory"] is None or _boolean(body["memory"]) is not None)


def _parse_suffixes(model: str) -> tuple[str, bool, int | None]:
    """Returns the model without memory suffixes, whether it had one, and the days that it names."""
    base, *suffixes = model.split(":")
    matches = [match for suffix in suffixes if (match := _SUFFIX.fullmatch(suffix))]
    left = [suffix for suffix in suffixes if not _SUFFIX.fullmatch(suffix)]
    days = next((int(match[1]) for match in matches if match[1] and len(match[1]) < 10), None)
    return ":".join([base, *left]), bool(matches), days


def _boolean(value: object) -> bool | None:
    word = str(value).strip().lower() if isinstance(value, bool | str | int) else ""
    return True if word in _TRUE else False if word in _FALSE else None


def _integer(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return int(float(value))
    except (ValueError, OverflowError):
        return None


def _clamp(days: int) -> int:
    return min(RETENTION_DAYS_MAX, max(RETENTION_DAYS_MIN, days))
