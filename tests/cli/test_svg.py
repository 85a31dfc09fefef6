"""`show` and `usage` as pictures, and on a terminal."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from ctxmem_mcp import cli, usage_ledger
from ctxmem_mcp.usage_ledger import LedgerEntry
from tests.cli.test_terminal import OBEYED, data, terminal  # noqa: F401

DAY = 20_000


@pytest.fixture
def spent(tmp_path: Path) -> Path:
    usage_ledger.add(tmp_path, LedgerEntry(DAY, "sess\x1b[2Jion", 3, 90_000, 4_000, 60_000, 1_200_000))
    usage_ledger.add(tmp_path, LedgerEntry(DAY + 1, "other", 1, 30_000, 500, 0, 0))
    return tmp_path


def words_of(svg: Path) -> str:
    text = svg.read_text("utf-8")
    assert "font-face" not in text  # it would be downloaded
    assert not OBEYED.search(text.replace("\n", ""))
    return "".join(ElementTree.fromstring(text).itertext()).replace("\xa0", " ")


def test_a_tree_is_drawn_to_a_file_with_no_character_that_is_obeyed(
    data: Path,  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "tree.svg"
    assert cli.run(["--data-dir", str(data), "show", "c", "--svg", str(file)]) == 0
    assert capsys.readouterr().out == ""
    assert "]0;owned" in words_of(file)


def test_usage_is_drawn_to_a_file(spent: Path, tmp_path: Path) -> None:
    file = tmp_path / "usage.svg"
    assert cli.run(["--data-dir", str(spent), "usage", "--svg", str(file)]) == 0
    words = words_of(file)
    assert "2024-10-04" in words
    assert "67%" in words
    assert "sess\\x1b[2Jion" in words


def test_usage_is_a_table_on_a_terminal_and_lines_when_piped(
    spent: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal(monkeypatch) as read:
        assert cli.run(["--data-dir", str(spent), "usage"]) == 0
    on_terminal = b"".join(read).decode()
    assert "from cache" in on_terminal
    assert "█" in on_terminal
    assert "\x1b[2J" not in on_terminal
    assert cli.run(["--data-dir", str(spent), "usage"]) == 0
    piped = capsys.readouterr().out.splitlines()
    assert piped[1] == "2024-10-05  1 request · 30.0k sent · 0% from cache · 0 saved · 500 received · $0.15  other"
    assert piped[2].startswith("total  4 requests · 120.0k sent · 50% from cache")


def test_a_file_that_cannot_be_written_is_named(spent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--data-dir", str(spent), "usage", "--svg", str(spent / "no" / "usage.svg")]) == 1
    assert "usage.svg" in capsys.readouterr().err
