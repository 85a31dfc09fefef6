"""The command line: what a person or a script does with the memory beside the agents that use it.

Every command takes --json for scripts. Exit codes: 0 done, 1 refused or not found, 2 not understood.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ctxmem_mcp.errors import CtxmemError


def run(given: list[str]) -> int:
    """Runs one command; gives the exit code."""
    from ctxmem_mcp.cli.commands import app

    if sys.stdout is None:  # closed by who started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        code = _code_of(lambda: app(given, prog_name="ctxmem-mcp"))
        sys.stdout.flush()
        return code
    except CtxmemError as error:
        _complain(str(error))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # who reads has seen enough
            _complain(": ".join(str(part) for part in (error.filename, error.strerror) if part) + ".")
        _let_go_of_output()
    return 1


def _let_go_of_output() -> None:
    """What can't be written would be tried again when the process ends, and fail with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _code_of(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _complain(words: str) -> None:
    print(f"ctxmem-mcp: {words}", file=sys.stderr)  # noqa: T201
