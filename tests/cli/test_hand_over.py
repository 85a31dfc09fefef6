"""Exports for other people: what is left out, who may read them, and what an import says about it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ctxmem_mcp import encryption
from tests.cli.test_commands import Ran, imported, run

__all__ = ["imported", "run"]

TOKEN = "ghp_" + "x1Y2z3" * 6


@pytest.fixture
def elsewhere(run: Callable[..., Ran], tmp_path: Path) -> Callable[..., Ran]:
    """Commands on another machine."""
    return lambda *words: run("--data-dir", str(tmp_path / "elsewhere"), *words)


def test_secrets_are_replaced_and_the_import_says_so(
    run: Callable[..., Ran], elsewhere: Callable[..., Ran], tmp_path: Path
) -> None:
    rows = [{"role": "user", "content": f"use {TOKEN}"}, {"role": "assistant", "content": "done"}]
    (tmp_path / "talk.json").write_text(json.dumps(rows))
    talk = run("import", str(tmp_path / "talk.json"), "--json").json[0]["conversation_id"]
    file = tmp_path / "talk.ctxmem"
    shown = run("export", talk, str(file), "--redact", "secrets", "--from", "Ada")
    assert "1 x GitHub Token" in shown.out
    assert TOKEN.encode() not in file.read_bytes()
    there = elsewhere("import", str(file)).out
    assert "From Ada" in there
    assert "1 x GitHub Token" in there
    assert "use [redacted: GitHub Token]" in elsewhere("expand", talk, "t0").out
    assert TOKEN in run("expand", talk, "t0").out
    form = tmp_path / "talk.md"
    run("export", talk, str(form), "--as", "markdown", "--redact", "secrets")
    assert TOKEN not in form.read_text()


def test_an_export_ends_at_a_turn(
    run: Callable[..., Ran], elsewhere: Callable[..., Ran], imported: str, tmp_path: Path
) -> None:
    file = tmp_path / "part.ctxmem"
    assert "11 turns" in run("export", imported, str(file), "--until", "t10").out
    there = elsewhere("import", str(file)).out
    assert "11 new turns" in there
    assert "Ends at t10-" in there
    rest = run("export", imported, str(tmp_path / "all.ctxmem"))
    assert rest.code == 0
    assert "52 new turns" in elsewhere("import", str(tmp_path / "all.ctxmem")).out


def test_a_passphrase_encrypts_a_file(
    run: Callable[..., Ran],
    elsewhere: Callable[..., Ran],
    imported: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "secret.ctxmem.age"
    assert "CTXMEM_PASSPHRASE" in run("export", imported, str(file), "--encrypt").err
    monkeypatch.setenv("CTXMEM_PASSPHRASE", "correct horse")
    assert run("export", imported, str(file), "--encrypt").code == 0
    assert encryption.needs_passphrase(file.read_bytes())
    monkeypatch.setenv("CTXMEM_PASSPHRASE", "wrong")
    assert "does not decrypt it" in elsewhere("import", str(file)).err
    monkeypatch.setenv("CTXMEM_PASSPHRASE", "correct horse")
    assert "63 new turns" in elsewhere("import", str(file)).out


def test_a_key_encrypts_a_file(
    run: Callable[..., Ran],
    elsewhere: Callable[..., Ran],
    imported: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    secret, public = encryption.new_identity()
    (tmp_path / "key").write_text(f"# mine\n{secret}\n")
    file = tmp_path / "secret.ctxmem.age"
    assert "no public key" in run("export", imported, str(file), "--recipient", "age1nonsense").err
    assert run("export", imported, str(file), "--recipient", public).code == 0
    assert "CTXMEM_AGE_IDENTITY" in elsewhere("import", str(file)).err
    monkeypatch.setenv("CTXMEM_AGE_IDENTITY", str(tmp_path / "key"))
    assert "63 new turns" in elsewhere("import", str(file)).out


def test_a_missing_extra_is_named(run: Callable[..., Ran], imported: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyrage", None)
    assert "ctxmem-mcp[age]" in run("export", imported, "--encrypt").err
    assert "must be secrets" in run("export", imported, "--redact", "all").err
