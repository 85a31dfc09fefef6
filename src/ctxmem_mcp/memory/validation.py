"""Checks arguments: ids, roles, texts, times, days. The errors name the argument, the rule and the remedy."""

from __future__ import annotations

import uuid

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory.id_resolver import check_conversation_id
from ctxmem_mcp.models import RETENTION_DAYS_MAX, RETENTION_DAYS_MIN, ROLES, NewTurn, parse_iso


def check_or_create_id(conversation_id: str | None) -> str:
    """Returns the id if it is valid, and a new one for None."""
    return f"c{uuid.uuid4().hex[:16]}" if conversation_id is None else check_conversation_id(conversation_id)


def check_retention_days(days: int | None) -> int | None:
    if days is not None and not RETENTION_DAYS_MIN <= days <= RETENTION_DAYS_MAX:
        raise InvalidArgument(
            "retention_days",
            f"must be a whole number from {RETENTION_DAYS_MIN} to {RETENTION_DAYS_MAX}; got {days}",
            "Leave it out for 30.",
        )
    return days


def check_role(role: str, where: str) -> None:
    if role not in ROLES:
        raise InvalidArgument(f"{where}role", f"must be one of {', '.join(ROLES)}; got {role!r}")


def check_turn(turn: NewTurn, where: str) -> None:
    """Checks a new turn. where: precedes the field's name in an error, such as 'messages[3].'."""
    check_role(turn.role, where)
    for field, text in (("content", turn.content), ("name", turn.name), ("call_id", turn.call_id)):
        try:
            (text or "").encode()
        except UnicodeEncodeError:
            raise InvalidArgument(
                f"{where}{field}", "contains half of a surrogate pair, which is not valid Unicode", "Replace it."
            ) from None
    parse_time(f"{where}said_at", turn.said_at)


def parse_time(argument: str, text: str | None) -> float | None:
    """Returns the time in seconds since 1970; None for None."""
    time = parse_iso(text)
    if text is not None and time is None:
        raise InvalidArgument(argument, f"must be an ISO 8601 time; got {text!r}", "For example 2026-01-31T09:30:00Z.")
    return time
