"""Runs a program with the gateway before its model's API. If anything of that fails, it runs without."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture import run_sessions
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.home_folder import home_folder
from ctxmem_mcp.text.visible import visible
from ctxmem_mcp.wrap.child import run_child
from ctxmem_mcp.wrap.gateway_process import Order
from ctxmem_mcp.wrap.programs import NotWrappable, Plan, Start, plan_for
from ctxmem_mcp.wrap.report import CompactionReport
from ctxmem_mcp.wrap.supervisor import Supervisor

# The exit codes of shells for a program that is not found, or can't be run.
_NOT_FOUND, _NOT_RUN = 127, 126


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command. budget: the tokens to which the gateway compacts; None for the configured ones."""

    data_dir: str | None = None
    config: str | None = None
    budget: int | None = None


class _Lines:
    """Writes lines to stderr: at once, or at the end if the program owns the screen."""

    def __init__(self) -> None:
        self._at_end = sys.stdin.isatty() and sys.stderr.isatty()
        self._later: list[str] = []
        self.report = CompactionReport()

    def write(self, line: str, *, now: bool = False) -> None:
        if self._at_end and not now:
            self._later.append(line)
        else:
            _print(line)

    def add_usage(self, usage: dict[str, object]) -> None:
        line = self.report.add(usage)
        if line and not self._at_end:
            _print(line)

    def flush(self) -> None:
        for line in [*self._later, self.report.summary() if self._at_end else ""]:
            if line:
                _print(line)


def wrap(words: Sequence[str], options: Options) -> int:
    """Runs a program until it ends.

    Args:
        words: its name and its arguments.
        options: the command's options.

    Returns:
        Its exit code; 127 if it is not installed.
    """
    path = shutil.which(words[0])
    if path is None:
        _print(f"ctxmem-mcp: {words[0]!r} is not installed, or not on PATH. Install it, or give its path.")
        return _NOT_FOUND
    start = Start(words[0], words[1:], os.environ, Path(_folder()), Path(home_folder()))
    try:
        plan = plan_for(start)
        run = secrets.token_hex(8)
        order = Order(options.data_dir, options.config, dict(plan.upstreams), options.budget, None, 0, run)
        order.settings()
    except NotWrappable as error:
        return _run_plain(path, start, str(error))
    except CtxmemError as error:
        return _run_plain(path, start, str(error).rstrip("."))
    return _run_wrapped(path, start, plan, order)


def _run_wrapped(path: str, start: Start, plan: Plan, order: Order) -> int:
    lines = _Lines()
    try:
        supervisor = Supervisor(order, lines.add_usage, lines.write)
    except OSError as error:
        return _run_plain(path, start, f"no port is free: {error.strerror}")
    try:
        with supervisor:
            if not supervisor.wait_until_ready():
                return _run_plain(path, start, f"the gateway did not start ({supervisor.reason})")
            environ = plan.variables(start, supervisor.url) | {run_sessions.VARIABLE: order.run}
            code = _run([path, *plan.arguments(start, supervisor.url)], environ)
    finally:  # the gateway reads the file when it ends
        run_sessions.remove(str(order.settings().data_dir), order.run)
    lines.flush()
    return code


def _run_plain(path: str, start: Start, reason: str) -> int:
    _print(f"ctxmem: {reason}; {start.command} runs without memory.")
    return _run([path, *start.arguments], dict(start.environ))


def _run(command: list[str], environ: dict[str, str]) -> int:
    try:
        return run_child(command, environ)
    except OSError as error:
        _print(f"ctxmem-mcp: {command[0]} can't be run: {error.strerror}.")
        return _NOT_RUN


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return os.sep


def _print(line: str) -> None:
    try:
        print(visible(line), file=sys.stderr, flush=True)  # noqa: T201
    except OSError:  # stderr was closed
        return
