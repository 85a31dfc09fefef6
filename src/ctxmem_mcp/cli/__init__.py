"""The command line, for people and scripts.

Exit codes: 0 success, 1 refused, not found, or a problem found, 2 wrong usage.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from ctxmem_mcp.errors import BudgetTooSmall, CtxmemError, InvalidArgument, UnknownNode, UnknownTurn

# Memory names its own arguments in errors; a user of the command line knows them by these names.
_OPTIONS = {
    "conversation_id": "ID", "cursor": "--cursor", "layout": "--layout", "limit": "--limit", "note": "--note",
    "query": "QUERY", "retention_days": "--retention-days", "role": "--role", "since": "--since",
    "token_budget": "--budget", "until": "--until",
}  # fmt: skip


def run(arguments: list[str], *, completes: bool = False) -> int:
    """Runs one command and returns its exit code. completes: print what a shell may complete instead."""
    if sys.stdout is None:  # closed by the parent process
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        code = _exit_code(lambda: _run_command(arguments, completes))
        sys.stdout.flush()
        return code
    except CtxmemError as error:
        _print_error(message_of(error))
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # the reader, such as `head`, has exited
            _print_error(": ".join(str(part) for part in (error.filename, error.strerror) if part) + ".")
        _discard_output()
    return 1


def _run_command(arguments: list[str], completes: bool) -> None:
    from ctxmem_mcp.cli.help_pages import print_page

    if completes or not print_page(arguments):
        from ctxmem_mcp.cli.commands import app

        app(arguments, prog_name="ctxmem-mcp")


def message_of(error: CtxmemError) -> str:
    """The error's message and hint in the words of the command line."""
    message, hint = error.message, error.hint
    if isinstance(error, InvalidArgument | BudgetTooSmall):
        argument, colon, rule = message.partition(":")
        message = f"{_OPTIONS.get(argument, argument)}{colon}{rule}"
    if isinstance(error, BudgetTooSmall):
        hint = f"Use --budget {error.floor} or more."
    elif isinstance(error, UnknownTurn | UnknownNode):
        hint = "`ctxmem-mcp context` and `ctxmem-mcp search` print the ids."
    return f"{message} {hint}".strip()


def _discard_output() -> None:
    """Otherwise Python would flush the output at exit once more, and fail with a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _exit_code(command: Callable[[], object]) -> int:
    try:
        command()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0
    return 0


def _print_error(message: str) -> None:
    from ctxmem_mcp.text.visible import visible

    print(f"ctxmem-mcp: {visible(message)}", file=sys.stderr)  # noqa: T201
