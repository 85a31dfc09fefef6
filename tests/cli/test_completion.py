"""A shell completes the commands and their options, and help names them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ctxmem_mcp.__main__ import main


@pytest.mark.parametrize(("typed", "expected"), [("sea", ["search"]), ("search --ex", ["--explain"])])
def test_a_shell_completes_what_is_typed(typed: str, expected: list[str]) -> None:
    words = f"ctxmem-mcp {typed}"
    environment = {**os.environ, "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp"],
        env={**environment, "_CTXMEM_MCP_COMPLETE": "complete_bash"},
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    assert done.stdout.split() == expected


@pytest.mark.parametrize("words", ["list -h", "--data-dir /nowhere list --help", "list --all -h", "search foo --help"])
def test_help_names_no_type_of_a_flag(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 0
    shown = capsys.readouterr().out
    assert "bool" not in shown
    assert shown.startswith(f"Usage: ctxmem-mcp {'search QUERY' if 'search' in words else 'list'}")
