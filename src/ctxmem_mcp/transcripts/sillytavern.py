"""SillyTavern's chats: a header, then a message a line.

A message of a character is an assistant's turn named after it, one of the user's personas a user's. Before it, its
reasoning is a turn named `thinking`. Messages hidden from the model are system turns named `injected`. The other
answers that the model gave (swipes) are in `abandoned_branches`, each after what came before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from ctxmem_mcp.models import INJECTED, THINKING, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.chat_format import Chat, Fields, Reader, json_lines
from ctxmem_mcp.transcripts.json_lines import NumberedRow, Row, text_or_none, timestamp_of_value
from ctxmem_mcp.transcripts.message_tree import Message
from ctxmem_mcp.transcripts.parts import text_at, value_at

_FIELDS = Fields()
_NUMBERS = lazy_regex(r"(\d{4})-(\d{1,2})-(\d{1,2})\s*@\s*(\d{1,2})h\s*(\d{1,2})m\s*(\d{1,2})s")
_ENGLISH = "%B %d, %Y %I:%M%p"


def _is_own(rows: list[Row]) -> bool:
    has_header = any("character_name" in row or "chat_metadata" in row for row in rows[:1])
    return any("mes" in row and "is_user" in row for row in rows) or (has_header and "user_name" in rows[0])


def _read(reader: Reader, rows: list[NumberedRow]) -> Chat:
    messages: list[Message] = []
    before: str | None = None
    for number, row in rows:
        if "mes" not in row:
            continue
        own = f"m{number}"
        for i, turns in enumerate(_swipes(row)):
            messages.append(Message(number, tuple(turns), f"{own}.{i}", before, before is None))
        current = Message(number, tuple(_turns(row, row.get("mes"), row)), own, before, before is None)
        reader.count(row, understood=bool(current.turns))
        messages.append(current)
        before = own
    return Chat(messages, title=text_at(rows[0][1], "character_name") if rows else None, tip=before)


def _swipes(row: Row) -> Iterator[list[NewTurn]]:
    """Yields the turns of the other answers."""
    swipes, infos = row.get("swipes"), row.get("swipe_info")
    for i, text in enumerate(swipes if isinstance(swipes, list) else []):
        if text != row.get("mes") and i != row.get("swipe_id"):
            info = infos[i] if isinstance(infos, list) and i < len(infos) else {}
            yield [*_turns(row, text, info if isinstance(info, dict) else {})]


def _turns(row: Row, text: object, info: Row) -> Iterator[NewTurn]:
    """Yields the turns of a message with this text. info: the time and the reasoning of this answer."""
    said_at = _time(info.get("send_date")) or _time(row.get("send_date"))
    if thought := text_at(value_at(info, "extra"), "reasoning"):
        yield NewTurn("assistant", thought, THINKING, said_at)
    if not text_or_none(text):
        return
    name = text_or_none(row.get("name"))
    if row.get("is_system"):
        yield NewTurn("system", str(text), INJECTED, said_at)
    else:
        yield NewTurn("user" if row.get("is_user") else "assistant", str(text), name, said_at)


def _time(value: object) -> str | None:
    """Returns a time in ISO 8601: of the forms that the program's versions wrote."""
    if found := timestamp_of_value(value):
        return found
    if not isinstance(value, str):
        return None
    if numbers := _NUMBERS.search(value):
        try:
            return datetime(*(int(number) for number in numbers.groups())).isoformat()  # type: ignore[arg-type]
        except ValueError:
            return None
    try:
        return datetime.strptime(value.upper(), _ENGLISH).isoformat()
    except ValueError:
        return None


looks_like, parse = json_lines("sillytavern", _is_own, _read, named_by_file=True)
