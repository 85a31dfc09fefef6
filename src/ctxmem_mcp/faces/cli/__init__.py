"""The command line: what a person or a script does with the memory beside the agents that use it.

Every command takes --json for scripts. Exit codes: 0 done, 1 refused or not found, 2 not understood.
"""

from __future__ import annotations

import sys

from ctxmem_mcp.errors import CtxmemError


def run(given: list[str]) -> int:
    """Runs one command; gives the exit code."""
    from ctxmem_mcp.faces.cli.commands import app

    try:
        app(given, prog_name="ctxmem-mcp")
    except CtxmemError as error:
        print(f"ctxmem-mcp: {error}", file=sys.stderr)  # noqa: T201
        return 1
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0
