"""A shell completes the commands and their options."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


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
