"""Translates the database's errors into ours, and recognises those that a retry may avoid."""

from __future__ import annotations

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolTimeout, TooManyRequests

from ctxmem_mcp.errors import CtxmemError, InvalidArgument, StoreReadOnly, StoreUnavailable

SETTING = "CTXMEM_STORE_URL"

# The server restarts, or another transaction was in the way: the same statements may succeed a moment later.
_PASSING = (
    errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.SerializationFailure,
    errors.DeadlockDetected, errors.IdleSessionTimeout, errors.IdleInTransactionSessionTimeout,
)  # fmt: skip
_NO_ROOM = (errors.DiskFull, errors.ReadOnlySqlTransaction, errors.OutOfMemory)
# The remedy for a failed login, by a part of the message: libpq has no code for errors while connecting.
_LOGIN_HINTS = (
    ("password authentication failed", "Correct the user and the password in it."),
    ("no password supplied", "Add the password to it, or set PGPASSWORD or a password file."),
    ("does not exist", "Create it first; docs/postgresql.md shows how."),
    ("no pg_hba.conf entry", "Let the server admit this user from this address in pg_hba.conf."),
    ("too many clients", "Lower CTXMEM_STORE_CONNECTIONS, or raise max_connections of the server."),
    ("remaining connection slots", "Lower CTXMEM_STORE_CONNECTIONS, or raise max_connections of the server."),
)


def server_name(url: str) -> str:
    """Returns the server and the database of a URL, without user and password.

    Raises:
        InvalidArgument: It is not a URL of a PostgreSQL database.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError as error:
        reason = str(error).strip().splitlines()[0] if "password" not in str(error) else "it can't be parsed"
        raise InvalidArgument(
            SETTING, f"is not a PostgreSQL URL ({reason})", "Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE."
        ) from None
    host, port = parts.get("host") or parts.get("hostaddr") or "the local socket", parts.get("port")
    return f"{host}{f':{port}' if port else ''}, database {parts.get('dbname') or parts.get('user') or 'by default'}"


def is_passing(error: BaseException) -> bool:
    """Returns whether a retry may succeed: the connection was lost, or other transactions were in the way."""
    if isinstance(error, _PASSING):
        return True
    if not isinstance(error, psycopg.OperationalError) or isinstance(error, PoolTimeout | TooManyRequests):
        return False
    return error.sqlstate is None or error.sqlstate.startswith("08")


def translate(error: psycopg.Error, server: str) -> CtxmemError:
    """Returns the error of ours for one of the database's."""
    reason = (error.diag.message_primary or str(error)).strip().splitlines()
    why = (reason[0] if reason else type(error).__name__).rstrip(".")
    if isinstance(error, _NO_ROOM):
        return StoreReadOnly(f"PostgreSQL at {server} can't be written: {why}.", "Free some space on its disk.")
    if isinstance(error, errors.InsufficientPrivilege):
        return StoreUnavailable(
            f"PostgreSQL at {server} refuses: {why}.",
            f"Let the user in {SETTING} own the database, or grant it what is missing; see docs/postgresql.md.",
        )
    if isinstance(error, PoolTimeout | TooManyRequests):
        return StoreUnavailable(
            f"PostgreSQL at {server} gave no connection in time.",
            "Check that the server runs, or raise CTXMEM_STORE_CONNECTIONS if all connections are busy.",
        )
    if isinstance(error, psycopg.OperationalError):
        text = str(error)
        hint = next((hint for part, hint in _LOGIN_HINTS if part in text), "Check that the server runs there.")
        return StoreUnavailable(f"PostgreSQL at {server} can't be used: {_without_prefix(text)}.", f"{SETTING}: {hint}")
    return StoreUnavailable(f"PostgreSQL at {server} failed: {why}.", "Check the server's log.")


def _without_prefix(text: str) -> str:
    """Returns the last line of libpq's message, which names each address that was tried, without the address."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    line = next((line for line in lines if "failed:" in line), lines[0] if lines else "no reason was given")
    return line.rpartition("failed: ")[2].removeprefix("FATAL:").strip().rstrip(".")
