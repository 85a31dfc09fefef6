"""A shell completes the commands and their options, and help names them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ctxmem_mcp.__main__ import main
from ctxmem_mcp.capture import spool


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


@pytest.mark.parametrize("words", [["serve", "--help"], ["hook", "--help"]])
def test_the_help_of_a_command_that_takes_any_option_is_printed_after_other_options(words: list[str]) -> None:
    """With an option before the command, the prepared help pages are not used."""
    done = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "--data-dir", "here", *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage" in done.stdout.lower()


def test_a_hook_stores_its_event_with_an_option_before_the_command(tmp_path: Path) -> None:
    event = {"session_id": "q", "hook_event_name": "UserPromptSubmit", "prompt": "zebra"}
    done = subprocess.run(
        [sys.executable, "-m", "ctxmem_mcp", "--data-dir", str(tmp_path), "hook", "claude-code"],
        input=json.dumps(event), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert len(spool.pending(str(tmp_path))) == 1
