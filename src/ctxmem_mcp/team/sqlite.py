"""A team store in a small SQLite file, `team.sqlite3`, in the data folder."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import anyio.to_thread

from ctxmem_mcp.errors import NewerFormat, StoreUnavailable
from ctxmem_mcp.private_files import TEAM, create_empty, create_folder
from ctxmem_mcp.team.records import TOKEN_KIND, AuditLine, PrincipalInfo, Right, Space, Token
from ctxmem_mcp.team.refusals import check_addition, known_space_name, unknown_principal, unknown_space

FORMAT = 1
BUSY_SECONDS = 10.0
# Old lines of the audit are removed each time that so many were added.
TRIM_EVERY = 100
_TABLES = """
CREATE TABLE IF NOT EXISTS principals (name TEXT PRIMARY KEY, added REAL NOT NULL, removed REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tokens (
    digest BLOB PRIMARY KEY, name TEXT NOT NULL, added REAL NOT NULL, expires REAL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spaces (name TEXT PRIMARY KEY, id TEXT NOT NULL UNIQUE, added REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rights (
    space TEXT NOT NULL, principal TEXT NOT NULL, level INTEGER NOT NULL, PRIMARY KEY (space, principal)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audit (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, principal TEXT NOT NULL, action TEXT NOT NULL, space TEXT,
    conversation TEXT, target TEXT, outcome TEXT NOT NULL);
"""
_LINE = "at, principal, action, space, conversation, target, outcome"

_T = TypeVar("_T")


class SqliteTeam:
    """A team store for all processes that use one data folder. Reading creates no file."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / TEAM
        self._lock = threading.Lock()
        self._db: sqlite3.Connection | None = None
        self._recorded = 0

    async def is_configured(self) -> bool:
        return await self._read(lambda db: db.execute("SELECT 1 FROM principals").fetchone() is not None, False)

    async def add_principal(self, name: str, token: Token, *, restore: bool = False) -> None:
        def add(db: sqlite3.Connection) -> None:
            known = db.execute("SELECT removed FROM principals WHERE name = ?", (name,)).fetchone()
            check_addition(name, known is not None, known is not None and known[0] is not None, restore)
            db.execute("INSERT OR REPLACE INTO principals VALUES (?, ?, NULL)", (name, token.added))
            _add_token(db, name, token)

        await self._write(add)

    async def remove_principal(self, name: str, now: float) -> None:
        def remove(db: sqlite3.Connection) -> None:
            _check_principal(db, name)
            db.execute("UPDATE principals SET removed = ? WHERE name = ?", (now, name))
            db.execute("DELETE FROM tokens WHERE name = ?", (name,))
            db.execute("DELETE FROM rights WHERE principal = ?", (TOKEN_KIND + name,))

        await self._write(remove)

    async def replace_tokens(self, name: str, token: Token, until: float) -> None:
        def replace(db: sqlite3.Connection) -> None:
            _check_principal(db, name)
            db.execute("UPDATE tokens SET expires = min(?, coalesce(expires, ?)) WHERE name = ?", (until, until, name))
            db.execute("DELETE FROM tokens WHERE expires <= ?", (token.added,))
            _add_token(db, name, token)

        await self._write(replace)

    async def principals(self) -> Sequence[PrincipalInfo]:
        def read(db: sqlite3.Connection) -> list[PrincipalInfo]:
            tokens: dict[str, list[Token]] = {}
            for digest, name, added, expires in db.execute("SELECT * FROM tokens ORDER BY added, digest"):
                tokens.setdefault(name, []).append(Token(digest, added, expires))
            rows = db.execute("SELECT name, added, removed FROM principals ORDER BY name")
            return [PrincipalInfo(name, added, removed, tuple(tokens.get(name, ()))) for name, added, removed in rows]

        return await self._read(read, [])

    async def principal_of(self, digest: bytes, now: float) -> str | None:
        query = "SELECT name FROM tokens WHERE digest = ? AND (expires IS NULL OR expires > ?)"

        def read(db: sqlite3.Connection) -> str | None:
            row = db.execute(query, (digest, now)).fetchone()
            return None if row is None else f"{TOKEN_KIND}{row[0]}"

        return await self._read(read, None)

    async def add_space(self, name: str, now: float) -> Space:
        def add(db: sqlite3.Connection) -> Space:
            if _space(db, name) is not None:
                raise known_space_name(name)
            space = Space(name, secrets.token_hex(8), now)
            db.execute("INSERT INTO spaces VALUES (?, ?, ?)", (space.name, space.id, space.added))
            return space

        return await self._write(add)

    async def remove_space(self, name: str) -> Space:
        def remove(db: sqlite3.Connection) -> Space:
            space = _known_space(db, name)
            db.execute("DELETE FROM spaces WHERE name = ?", (name,))
            db.execute("DELETE FROM rights WHERE space = ?", (space.id,))
            return space

        return await self._write(remove)

    async def spaces(self) -> Sequence[Space]:
        return await self._read(
            lambda db: [Space(*row) for row in db.execute("SELECT name, id, added FROM spaces ORDER BY name")], []
        )

    async def set_right(self, name: str, principal: str, right: Right | None) -> bool:
        def change(db: sqlite3.Connection) -> bool:
            space = _known_space(db, name)
            before = db.execute(
                "SELECT level FROM rights WHERE space = ? AND principal = ?", (space.id, principal)
            ).fetchone()
            if right is None:
                db.execute("DELETE FROM rights WHERE space = ? AND principal = ?", (space.id, principal))
            else:
                db.execute("INSERT OR REPLACE INTO rights VALUES (?, ?, ?)", (space.id, principal, int(right)))
            return right != (None if before is None else Right(before[0]))

        return await self._write(change)

    async def members(self, name: str) -> Mapping[str, Right]:
        query = "SELECT principal, level FROM rights WHERE space = ? ORDER BY principal"

        def read(db: sqlite3.Connection) -> dict[str, Right] | None:
            space = _space(db, name)
            return None if space is None else {who: Right(level) for who, level in db.execute(query, (space.id,))}

        found = await self._read(read, None)
        if found is None:
            raise unknown_space(name)
        return found

    async def spaces_of(self, principal: str) -> Sequence[tuple[Space, Right]]:
        query = """SELECT name, id, added, level FROM rights JOIN spaces ON spaces.id = rights.space
            WHERE principal = ? ORDER BY name"""
        return await self._read(
            lambda db: [(Space(*row[:3]), Right(row[3])) for row in db.execute(query, (principal,))], []
        )

    async def right_in(self, name: str, principal: str) -> tuple[Space, Right] | None:
        query = """SELECT name, id, added, level FROM spaces JOIN rights ON spaces.id = rights.space
            WHERE name = ? AND principal = ?"""

        def read(db: sqlite3.Connection) -> tuple[Space, Right] | None:
            row = db.execute(query, (name, principal)).fetchone()
            return None if row is None else (Space(*row[:3]), Right(row[3]))

        return await self._read(read, None)

    async def adopt(self, principals: Sequence[PrincipalInfo], spaces: Mapping[Space, Mapping[str, Right]]) -> None:
        def add(db: sqlite3.Connection) -> None:
            for one in principals:
                values = (one.name, one.added, one.removed)
                if db.execute("INSERT OR IGNORE INTO principals VALUES (?, ?, ?)", values).rowcount:
                    for token in one.tokens:
                        _add_token(db, one.name, token)
            for space, rights in spaces.items():
                row = (space.name, space.id, space.added)
                if db.execute("INSERT OR IGNORE INTO spaces VALUES (?, ?, ?)", row).rowcount:
                    rows = [(space.id, principal, int(right)) for principal, right in rights.items()]
                    db.executemany("INSERT INTO rights VALUES (?, ?, ?)", rows)

        await self._write(add)

    async def record(self, line: AuditLine, keep: int) -> None:
        values = (line.at, line.principal, line.action, line.space, line.conversation, line.target, line.outcome)

        def add(db: sqlite3.Connection) -> None:
            seq = db.execute(f"INSERT INTO audit ({_LINE}) VALUES (?, ?, ?, ?, ?, ?, ?)", values).lastrowid or 0
            if self._recorded % TRIM_EVERY == 0:
                db.execute("DELETE FROM audit WHERE seq <= ?", (seq - keep,))
            self._recorded += 1

        await self._write(add, synchronous="NORMAL")

    async def audit(
        self,
        *,
        principal: str | None = None,
        space: str | None = None,
        conversation: str | None = None,
        action: str | None = None,
        since: float = 0,
        limit: int = 100,
    ) -> Sequence[AuditLine]:
        asked = {"principal": principal, "space": space, "conversation": conversation, "action": action}
        fields = {name: value for name, value in asked.items() if value is not None}
        conditions = " AND ".join(["at >= ?", *(f"{name} = ?" for name in fields)])
        query = f"SELECT {_LINE} FROM audit WHERE {conditions} ORDER BY seq DESC LIMIT ?"

        def read(db: sqlite3.Connection) -> list[AuditLine]:
            return [AuditLine(*row) for row in db.execute(query, (since, *fields.values(), limit))][::-1]

        return await self._read(read, [])

    async def close(self) -> None:
        await anyio.to_thread.run_sync(self._close)

    # ------------------------------------------------------------ the file

    async def _read(self, query: Callable[[sqlite3.Connection], _T], absent: _T) -> _T:
        """Runs a query in a thread; returns `absent` if there is no file, which takes no thread: a server without
        principals looks for the file at each request."""
        if self._db is None and not self._path.exists():
            return absent

        def run() -> _T:
            with self._lock, _translated(self._path):
                return query(self._open())

        return await anyio.to_thread.run_sync(run)

    async def _write(self, change: Callable[[sqlite3.Connection], _T], *, synchronous: str = "FULL") -> _T:
        """Runs a change in a thread, as one transaction. It is not interrupted.

        synchronous: with NORMAL, a power failure may lose it; nothing waits for the disk.
        """

        def run() -> _T:
            with self._lock, _translated(self._path):
                db = self._open()
                db.execute(f"PRAGMA synchronous = {synchronous}")
                db.execute("BEGIN IMMEDIATE")
                with db:
                    return change(db)

        return await anyio.to_thread.run_sync(run)

    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            create_folder(self._path.parent)
            create_empty(self._path)
            self._db = _connect(self._path)
        return self._db

    def _close(self) -> None:
        with self._lock:
            if self._db is not None:
                self._db.close()
            self._db = None


def is_configured(data_dir: Path) -> bool:
    """Returns whether a principal was ever added to the team store of a data folder, before a server starts.

    Raises:
        StoreUnavailable: the file can't be read.
    """
    path = data_dir / TEAM
    if not path.exists():
        return False
    with _translated(path), contextlib.closing(_connect(path)) as db:
        return db.execute("SELECT 1 FROM principals").fetchone() is not None


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > FORMAT:
            raise NewerFormat(str(path), version, FORMAT)
        if version < FORMAT:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {FORMAT}; COMMIT")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreUnavailable(f"{path} can't be used: {error}.", "Check the file and its folder.") from error


def _add_token(db: sqlite3.Connection, name: str, token: Token) -> None:
    db.execute("INSERT INTO tokens VALUES (?, ?, ?, ?)", (token.digest, name, token.added, token.expires))


def _check_principal(db: sqlite3.Connection, name: str) -> None:
    if db.execute("SELECT 1 FROM principals WHERE name = ? AND removed IS NULL", (name,)).fetchone() is None:
        raise unknown_principal(name)


def _space(db: sqlite3.Connection, name: str) -> Space | None:
    row: Any = db.execute("SELECT name, id, added FROM spaces WHERE name = ?", (name,)).fetchone()
    return None if row is None else Space(*row)


def _known_space(db: sqlite3.Connection, name: str) -> Space:
    space = _space(db, name)
    if space is None:
        raise unknown_space(name)
    return space
