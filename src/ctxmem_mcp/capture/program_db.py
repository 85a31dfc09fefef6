"""Reads the conversations in the databases of agents and chat programs into the documents that the parsers take.

    opencode    `opencode.db`: the sessions as `opencode export` writes them
    goose       `sessions.db`: a session's header and messages, as its older `.jsonl` files have them
    zed         `threads.db`: the threads, which are compressed
    kiro        `data.sqlite3`: the conversations as they are
    openwebui   `webui.db`: the chats as its export has them

A database is known by its tables, whatever its name. It is opened read-only: its program may be running.

A path below a database, `opencode.db/ses_1`, names one session in it, with its sub-agents. A hook's event announces it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from ctxmem_mcp.errors import InvalidArgument

SUFFIXES = (".db", ".sqlite3")
_HEADER = b"SQLite format 3\0"
Row = dict[str, Any]


def split_session(file: Path) -> tuple[Path, str | None]:
    """Returns the database that a path names a session in, and the session's id; for another path, itself and None."""
    if file.parent.suffix in SUFFIXES and file.parent.is_file():
        return file.parent, file.name
    return file, None


def is_database(file: Path) -> bool:
    """Returns whether a path names an SQLite database, or a session in one."""
    try:
        with split_session(file)[0].open("rb") as opened:
            return opened.read(len(_HEADER)) == _HEADER
    except OSError:
        return False


def read_documents(file: Path) -> list[str]:
    """Returns the conversations that a path names, each as the text that `registry.parse` takes.

    Raises:
        InvalidArgument: the database can't be read, or is of no known program.
    """
    database, session = split_session(file)
    try:
        with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True)) as store:
            store.row_factory = _row
            tables = {row["name"] for row in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if session is not None and tables >= _OPENCODE_TABLES:
                return [*_opencode(store, session)]
            for needed, read in _PROGRAMS:
                if needed <= tables and session is None:
                    return [*read(store)]
    except (sqlite3.Error, UnicodeDecodeError, KeyError) as error:
        raise InvalidArgument(
            f"file {file}", f"can't be read as a database ({error})", "Copy it while its program is closed."
        ) from error
    raise InvalidArgument(
        f"file {file}", "is a database of a program whose databases are not read", "Export the conversations as JSON."
    )


def _row(cursor: sqlite3.Cursor, values: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, values, strict=True)}


def _opencode(store: sqlite3.Connection, only: str | None = None) -> Iterator[str]:
    """Yields the sessions; or only this one and its sub-agents."""
    where = "" if only is None else "WHERE ?1 IN (id, parent_id)"
    query = f"SELECT * FROM session {where} ORDER BY time_created, id"
    for session in store.execute(query, () if only is None else (only,)).fetchall():
        parts: dict[str, list[Row]] = {}
        own = (session["id"],)
        for row in store.execute("SELECT id, message_id, data FROM part WHERE session_id = ? ORDER BY id", own):
            parts.setdefault(row["message_id"], []).append({**_object(row["data"]), "id": row["id"]})
        messages: list[Row] = [
            {"info": {**_object(row["data"]), "id": row["id"]}, "parts": parts.get(row["id"], [])}
            for row in store.execute("SELECT id, data FROM message WHERE session_id = ? ORDER BY id", own)
        ]
        yield _text({"info": _opencode_info(session), "messages": messages})


def _opencode_info(session: Row) -> Row:
    info = {key: session.get(key) for key in ("id", "title", "directory")}
    return {**info, "parentID": session.get("parent_id"), "revert": _object(session.get("revert"))}


def _goose(store: sqlite3.Connection) -> Iterator[str]:
    for session in store.execute("SELECT * FROM sessions ORDER BY created_at, id").fetchall():
        header = {"id": session["id"], "working_dir": session["working_dir"], "description": session["description"]}
        query = "SELECT role, content_json, created_timestamp FROM messages WHERE session_id = ? ORDER BY id"
        rows = [
            {"role": row["role"], "created": row["created_timestamp"], "content": _value(row["content_json"])}
            for row in store.execute(query, (session["id"],))
        ]
        yield "\n".join(map(_text, [header, *rows]))


def _zed(store: sqlite3.Connection) -> Iterator[str]:
    import zstandard

    for row in store.execute("SELECT id, summary, data_type, data FROM threads ORDER BY updated_at").fetchall():
        data = row["data"]
        if row["data_type"] == "zstd":
            data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
        yield _text({**_object(data), "id": row["id"], "summary": row["summary"]})


def _kiro(store: sqlite3.Connection) -> Iterator[str]:
    for row in store.execute("SELECT value FROM conversations_v2").fetchall():
        yield str(row["value"])


def _openwebui(store: sqlite3.Connection) -> Iterator[str]:
    for row in store.execute("SELECT id, title, chat FROM chat ORDER BY id").fetchall():
        yield _text({"id": row["id"], "title": row["title"], "chat": _object(row["chat"])})


_OPENCODE_TABLES = {"session", "message", "part"}
# The tables of a program, and how to read them.
_PROGRAMS: tuple[tuple[set[str], Callable[[sqlite3.Connection], Iterator[str]]], ...] = (
    (_OPENCODE_TABLES, _opencode),
    ({"sessions", "messages"}, _goose),
    ({"threads"}, _zed),
    ({"conversations_v2"}, _kiro),
    ({"chat", "user"}, _openwebui),
)


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _value(text: object) -> Any:
    try:
        return json.loads(text) if isinstance(text, str | bytes) else text
    except (ValueError, RecursionError):
        return None


def _object(text: object) -> Row:
    value = _value(text)
    return value if isinstance(value, dict) else {}
