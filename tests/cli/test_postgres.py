"""The commands over a PostgreSQL database, and what they say if it can't be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.postgres_server import started_server

SESSION = Path(__file__).parents[2] / "examples" / "session.jsonl"


def run(url: str, folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environ = {"CTXMEM_STORE_URL": url, "CTXMEM_DATA_DIR": str(folder), "HOME": str(folder), "PATH": "/usr/bin"}
    command = [sys.executable, "-m", "ctxmem_mcp", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=120)


def test_commands_use_the_database_and_no_file_of_a_conversation(tmp_path: Path) -> None:
    url = started_server().create_database()
    assert run(url, tmp_path / "one", "import", str(SESSION)).returncode == 0
    found = run(url, tmp_path / "another machine", "search", "character limit")
    assert "LimitError" in found.stdout
    assert not list(tmp_path.rglob("*.ctxmem"))
    doctor = run(url, tmp_path / "one", "doctor")
    assert "1 conversation" in doctor.stdout, doctor.stdout
    refused = run(url, tmp_path / "one", "backup", str(tmp_path / "copy"))
    assert refused.returncode != 0
    assert "CTXMEM_STORE_URL: is set" in refused.stderr
    assert "pg_dump" in refused.stderr


def test_the_compose_file_creates_a_role_that_row_level_security_binds() -> None:
    server, script = started_server(), Path(__file__).parents[2] / "packages" / "docker" / "role.sql"
    address = f"postgresql://postgres@/postgres?host={server.folder / 'data'}"
    command = [str(server.psql), "--set", "ON_ERROR_STOP=1", "--file", str(script), address]
    environ = {"PATH": "/usr/bin", "CTXMEM_DATABASE_PASSWORD": "it's; a $password"}
    subprocess.run(command, env=environ, capture_output=True, check=True, timeout=120)
    with server.connect() as connection:
        role = "SELECT rolsuper OR rolbypassrls OR rolcreaterole, rolcanlogin FROM pg_roles WHERE rolname = 'ctxmem'"
        assert connection.execute(role).fetchone() == (False, True)
        owner = "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'ctxmem'"
        assert connection.execute(owner).fetchone() == ("ctxmem",)


@pytest.mark.parametrize(
    ("change", "reason", "remedy"),
    [
        (lambda url: url.replace("ctxmem_test@", "nobody@"), 'role "nobody" does not exist', "docs/postgresql.md"),
        (lambda url: "postgresql://a:secret@127.0.0.1:1/x", "refused", "Check that the server runs there."),
        (lambda url: "mysql://a:secret@127.0.0.1/x", "must be a URL such as postgresql://", "Leave it out"),
        (lambda url: "postgresql://a:secret@127.0.0.1/x?nonsense=1", "is not a PostgreSQL URL", "Write postgresql://"),
    ],
)
def test_an_error_names_the_setting_the_reason_and_the_remedy(
    tmp_path: Path, change: object, reason: str, remedy: str
) -> None:
    assert callable(change)
    done = run(change(started_server().url), tmp_path, "list")
    assert done.returncode != 0
    for part in ("CTXMEM_STORE_URL", reason, remedy):
        assert part in done.stderr, done.stderr
    assert "secret" not in done.stderr
