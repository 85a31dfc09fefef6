"""The common way to write a format: say how to recognise its files, and how to read its messages.

    PARTS = PartTypes(calls={"toolRequest": Call(...)}, results={"toolResponse": Result(...)})
    FIELDS = Fields(role="role", content="content", time="created")

    def _is_own(rows): return any("working_dir" in row for row in rows)
    def _read(reader, rows): return Chat(reader.messages(rows, FIELDS, PARTS), title=text_at(rows[0][1], "description"))

    looks_like, parse = json_lines("goose", _is_own, _read)

`Reader.messages` makes the messages of rows whose fields have fixed places. A format whose rows need more makes its
messages with `Reader.message`. Branches, the ids and names of results, times, damaged lines and unknown rows are
handled alike for all formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath

from ctxmem_mcp.models import INJECTED, NewTurn, Role
from ctxmem_mcp.transcripts.base import ParseLog, Transcript, head_of
from ctxmem_mcp.transcripts.json_documents import numbered_objects, read_document, read_head
from ctxmem_mcp.transcripts.json_lines import (
    NumberedRow,
    Row,
    carries_words,
    first_rows,
    read_rows,
    timestamp_of,
    timestamp_of_value,
)
from ctxmem_mcp.transcripts.message_tree import Message, pair_results, split_branches
from ctxmem_mcp.transcripts.openai import OTHER_ROLES
from ctxmem_mcp.transcripts.openai import ROLES as OPENAI_ROLES
from ctxmem_mcp.transcripts.parts import PartTypes, text_at, value_at

ROLES: Mapping[str, Role] = {**OPENAI_ROLES, **OTHER_ROLES}
# The first message of these trees has this parent.
NO_PARENT_IDS = ("00000000-0000-4000-8000-000000000000", "00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, slots=True)
class Chat:
    """One conversation as a format's reader returns it.

    Attributes:
        messages: in the order of the file.
        session_id, title, cwd: as in `Transcript`.
        tip: the id of the current branch's last message; empty: the file's last.
        threads: the conversations of its sub-agents, or those of a file that holds several.
    """

    messages: Sequence[Message] = ()
    session_id: str | None = None
    title: str | None = None
    cwd: str | None = None
    tip: str | None = None
    threads: Sequence[Chat] = ()


@dataclass(frozen=True, slots=True)
class Fields:
    """Where the rows of a format have what a message needs, as paths of keys joined by dots.

    Attributes:
        role: its author's role.
        content: its text or parts. Of several paths, separated by spaces, the first that has a value counts.
        time: its time; empty: any of the usual fields of the row.
        id, parent: its id, and that of the message before it; empty if the format has none.
        name: the name of its author, in group chats.
        roles: the format's own roles, beside the usual ones. Any other role is the host's: system, named `injected`.
    """

    role: str = "role"
    content: str = "content"
    time: str = ""
    id: str = ""
    parent: str = ""
    name: str = ""
    roles: Mapping[str, Role] = field(default_factory=dict)

    def author(self, row: Row) -> tuple[Role, str | None]:
        """Returns the role and the name of a message's author."""
        own = text_at(row, self.role) or ""
        role = self.roles.get(own) or ROLES.get(own.lower())
        if role is None:
            return "system", INJECTED
        return role, text_at(row, self.name) if self.name else None

    def said_at(self, row: Row) -> str | None:
        """Returns a message's time in ISO 8601."""
        return timestamp_of_value(value_at(row, self.time)) if self.time else timestamp_of(row)

    def body(self, row: Row) -> object:
        """Returns a message's text or parts."""
        return next((v for path in self.content.split() if (v := value_at(row, path)) is not None), None)

    def place(self, row: Row) -> tuple[str, str | None, bool]:
        """Returns a message's id, its parent's, and whether it is a root."""
        if not self.parent:
            return (text_at(row, self.id) or "") if self.id else "", None, False
        parent, own = text_at(row, self.parent), text_at(row, self.id) or ""
        names_none = parent is None and _has(row, self.parent)
        return own, parent, names_none or parent in NO_PARENT_IDS


def _has(row: object, path: str) -> bool:
    *keys, last = path.split(".")
    holder = value_at(row, ".".join(keys)) if keys else row
    return isinstance(holder, dict) and last in holder


class Reader:
    """Makes the messages of rows, and counts the rows that carry words and that the format does not know."""

    def __init__(self, log: ParseLog) -> None:
        self.log = log
        self.total = self.unread = 0

    def messages(self, rows: Iterable[NumberedRow], fields: Fields, parts: PartTypes) -> list[Message]:
        """Returns the messages of rows whose fields have fixed places; a row without a role has no turns."""
        return [self._message(number, row, fields, parts) for number, row in rows]

    def message(self, number: int, row: Row, turns: Iterable[NewTurn], fields: Fields) -> Message:
        """Returns a message with these turns, its place from the row's fields."""
        own = tuple(turns)
        self.count(row, understood=bool(own))
        return Message(number, own, *fields.place(row))

    def count(self, row: Row, *, understood: bool) -> None:
        """Notes a row, if it carries words."""
        if understood or carries_words(row):
            self.total += 1
            self.unread += not understood

    def _message(self, number: int, row: Row, fields: Fields, parts: PartTypes) -> Message:
        if text_at(row, fields.role) is None:
            return self.message(number, row, (), fields)
        role, name = fields.author(row)
        return self.message(number, row, parts.turns(role, fields.body(row), fields.said_at(row), name), fields)


# ---------------------------------------------------------------- formats

LooksLike = Callable[[str, str], bool]
Parse = Callable[[str, str], Transcript]
Chats = Chat | Sequence[Chat]


def json_lines(
    agent: str,
    is_own: Callable[[list[Row]], bool],
    read: Callable[[Reader, list[NumberedRow]], Chats],
    *,
    named_by_file: bool = False,
) -> tuple[LooksLike, Parse]:
    """Returns the two functions of a format (`base.Format`) whose files are JSON Lines.

    Args:
        agent: the program that writes them.
        is_own: returns whether the first rows of a file are this format's. It must ask for what no other format has.
        read: returns the conversation, or conversations, in the rows of a file.
        named_by_file: if the file has no session id, its name is one.
    """

    def looks_like(name: str, head: str) -> bool:
        return head.lstrip("\ufeff \t\r\n\0")[:1] == "{" and is_own(first_rows(head))

    def parse(text: str, name: str) -> Transcript:
        log = ParseLog()
        found = _transcript(agent, log, lambda reader: read(reader, [*read_rows(text, log)]))
        return replace(found, session_id=PurePath(name).stem) if named_by_file and not found.session_id else found

    return looks_like, parse


def json_document(
    agent: str, is_own: Callable[[object], bool], read: Callable[[Reader, object], Chats]
) -> tuple[LooksLike, Parse]:
    """Returns the two functions of a format (`base.Format`) whose files are one JSON value.

    Args:
        agent: the program that writes them.
        is_own: returns whether the value of a file's head, its end repaired, is this format's.
        read: returns the conversation, or conversations, in the value of a file.
    """

    def looks_like(name: str, head: str) -> bool:
        return head.lstrip("\ufeff \t\r\n\0")[:1] in ("{", "[") and is_own(read_head(head))

    def parse(text: str, name: str) -> Transcript:
        log = ParseLog()
        return _transcript(agent, log, lambda reader: read(reader, read_document(text.lstrip("\ufeff"), log)))

    return looks_like, parse


def either(first: tuple[LooksLike, Parse], second: tuple[LooksLike, Parse]) -> tuple[LooksLike, Parse]:
    """Returns the two functions of a format whose files have one of two forms, such as JSON Lines and one document.

    The name of a file is no help: programs and people rename them.
    """

    def looks_like(name: str, head: str) -> bool:
        return first[0](name, head) or second[0](name, head)

    def parse(text: str, name: str) -> Transcript:
        is_first = first[0](name, head_of(text))
        return (first if is_first else second)[1](text, name)

    return looks_like, parse


def objects(value: object, log: ParseLog | None = None) -> list[NumberedRow]:
    """Returns the objects in a list, each with its place from 1."""
    return [*numbered_objects(value, log or ParseLog())]


def first_object(value: object) -> Row:
    """Returns the value itself or the first object in a list; an empty one if there is none."""
    found = value if isinstance(value, dict) else next(iter(value), None) if isinstance(value, list) else None
    return found if isinstance(found, dict) else {}


def _transcript(agent: str, log: ParseLog, read: Callable[[Reader], Chats]) -> Transcript:
    reader = Reader(log)
    found = read(reader)
    chats = [found] if isinstance(found, Chat) else [chat for chat in found if chat.messages or chat.threads]
    log.count_unread(reader.unread, reader.total)
    transcripts = [_of_chat(agent, chat, log) for chat in chats]
    warnings = tuple(dict.fromkeys(log.warnings))
    if len(transcripts) == 1:
        return replace(transcripts[0], warnings=warnings, unread=log.unread)
    return Transcript(agent, "", (), threads=tuple(transcripts), warnings=warnings, unread=log.unread)


def _of_chat(agent: str, chat: Chat, log: ParseLog) -> Transcript:
    messages = [
        replace(message, turns=log.sanitize((message.number, turn) for turn in message.turns))
        for message in pair_results(chat.messages)
    ]
    turns, others = split_branches(messages, chat.tip or "")
    return Transcript(
        agent, chat.session_id or "", turns, chat.title, tuple(_of_chat(agent, one, log) for one in chat.threads),
        others, cwd=chat.cwd,
    )  # fmt: skip
