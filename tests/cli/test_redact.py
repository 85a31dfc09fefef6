"""`ctxmem-mcp redact`."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest

from tests.cli.test_commands import EXAMPLE, Ran, imported, run

__all__ = ["imported", "run"]


def test_a_dry_run_shows_the_turn_and_changes_nothing(run: Callable[..., Ran], imported: str) -> None:
    shown = run("redact", imported, "t5", "--dry-run")
    assert "t5-" in shown.out
    assert "Rough token counts" in shown.out
    assert "redacted" not in run("expand", imported, "t5").out


def test_a_turn_is_redacted_and_the_receipt_says_what_was_checked(run: Callable[..., Ran], imported: str) -> None:
    receipt = run("redact", imported, "t5", "--yes", "--json").json
    assert list(receipt["turns"]) == [imported]
    assert receipt["warnings"] == []
    assert any("bytes of all" in checked for checked in receipt["checked"])
    assert "[redacted 20" in run("expand", imported, "t5").out
    again = run("import", str(EXAMPLE), "--json").json[0]
    assert (again["new"], again["known"]) == (0, 63)
    assert "redacted already" in run("redact", imported, "t5", "--yes").out
    assert run("verify", imported).code == 0


def test_a_pattern_is_read_from_stdin_and_redacts_every_turn_that_matches(
    run: Callable[..., Ran], imported: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("LimitError\n"))
    receipt = run("redact", "--pattern", "-", "--yes", "--json").json
    assert len(receipt["turns"][imported]) > 1
    assert "Nothing to redact" in run("redact", "--pattern", "LimitError", "--yes").out
    assert not any("LimitError" in hit["snippet"] for hit in run("search", "LimitError", "--json").json)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["last"], "--pattern is required"),
        (["last", "t5", "--pattern", "x"], "can't be combined"),
        (["--pattern", "("], "is no regular expression"),
        (["--pattern", "x*"], "matches every turn"),
        (["last", "t5"], "--yes: is required"),
    ],
)
def test_a_wrong_call_says_what_to_do(run: Callable[..., Ran], imported: str, words: list[str], problem: str) -> None:
    ran = run("redact", *words)
    assert ran.code != 0
    assert problem in ran.err
