"""Runs the agent's process. It has this process's terminal: its keys, its signals and its size."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

_Handler = Callable[[int, FrameType | None], None]
# Signals that the terminal sends to both processes: the agent decides what they mean.
_OF_TERMINAL = ("SIGINT", "SIGQUIT")
# Signals that reach this process alone, and are passed on.
_PASSED_ON = ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2")
# Shells report a process that a signal ended by this and the signal's number.
_SIGNALLED = 128


def run_child(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Runs a command until it ends, and returns its exit code.

    Raises:
        OSError: it can't be started.
    """
    # A handler, because an ignored signal would be ignored by the child too.
    with _handling(_OF_TERMINAL, lambda *_: None):
        child = subprocess.Popen(command, env=dict(environ))
        with _handling(_PASSED_ON, lambda number, _: child.send_signal(number)):
            return _wait(child)


def _wait(child: subprocess.Popen[bytes]) -> int:
    """Waits for the child. If it is stopped (Ctrl-Z), this process stops too, so that the shell gets the terminal."""
    if sys.platform == "win32":
        return child.wait()
    while True:
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            break
        os.kill(os.getpid(), signal.SIGSTOP)
        child.send_signal(signal.SIGCONT)  # the shell has continued this process
    child.returncode = code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else _SIGNALLED - code


@contextmanager
def _handling(names: Sequence[str], handler: _Handler) -> Iterator[None]:
    """Handles those of these signals that the system has, inside the block."""
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
