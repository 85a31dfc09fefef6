"""The command line: what a person or a script does with the memory beside the agents that use it.

Every command takes --json for scripts. Exit codes: 0 done, 1 refused or not found, 2 not understood.
"""

from __future__ import annotations

import sys

from ctxmem_mcp.errors import CtxmemError


def run(given: list[str]) -> int:
    """Runs one command; gives the exit code."""
    import click

    from ctxmem_mcp.faces.cli.commands import app

    try:
        code = app(given, standalone_mode=False)
    except CtxmemError as error:
        return _told(str(error), 1)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.Abort:
        return _told("Stopped; nothing more was changed.", 1)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        # Whoever reads us has seen enough.
        sys.stderr.close()
        return 0
    return code if isinstance(code, int) else 0


def _told(message: str, code: int) -> int:
    print(f"ctxmem-mcp: {message}", file=sys.stderr)  # noqa: T201
    return code
