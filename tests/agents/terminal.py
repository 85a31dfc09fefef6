"""A program under a pseudo-terminal: keys are sent to it, and what it shows is searched."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from tests.agents.home import SECONDS, Home

ROWS, COLUMNS = 50, 140
ESCAPE, ENTER, UP, DOWN, CTRL_C, CTRL_D = "\x1b", "\r", "\x1b[A", "\x1b[B", "\x03", "\x04"
_ESCAPES = re.compile(r"\x1b\[[0-9;?<>=]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[()][A-Z0-9]|\x1b[=>78A-Z]")
# A program that repaints moves the cursor to the right instead of writing blanks.
_RIGHT = re.compile(r"\x1b\[(\d*)C")


class Terminal:
    """A running program, killed at the end."""

    def __init__(self, home: Home, command: Sequence[str | Path]) -> None:
        main, other = pty.openpty()
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.process = subprocess.Popen(
            [str(word) for word in command], cwd=home.project, env=home.environment, stdin=other, stdout=other,
            stderr=other, start_new_session=True,
        )  # fmt: skip
        os.close(other)
        self._main, self._shown = main, bytearray()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        os.close(self._main)

    def _read(self) -> None:
        while True:
            try:
                part = os.read(self._main, 65_536)
            except OSError:
                return
            if not part:
                return
            self._shown += part

    @property
    def at(self) -> int:
        """How much was shown so far."""
        return len(self._shown)

    def text(self, after: int = 0) -> str:
        """What was shown after this position, without escape sequences."""
        shown = bytes(self._shown[after:]).decode("utf-8", "replace")
        return _ESCAPES.sub("", _RIGHT.sub(lambda found: " " * int(found[1] or 1), shown))

    def send(self, keys: str) -> None:
        """Presses keys."""
        os.write(self._main, keys.encode())

    def submit(self, text: str) -> None:
        """Types a text, and presses Enter once it is shown: together, they would be taken for a pasted text."""
        before = self.at
        self.send(text)
        self.wait_for(text[-20:], after=before)
        self.send(ENTER)

    def wait_for(self, pattern: str, *, after: int = 0, seconds: float = SECONDS) -> int:
        """Waits until a text is shown after a position, blanks aside; returns the position then."""
        words = re.sub(r"\s+", "", pattern)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            at = self.at
            if words in re.sub(r"\s+", "", self.text(after)):
                return at
            assert self.process.poll() is None, f"ended while waiting for {pattern!r}:\n{self.text(after)[-3000:]}"
            time.sleep(0.05)
        raise AssertionError(f"waited for {pattern!r}; shown:\n{self.text(after)[-3000:]}")

    def kill(self) -> None:
        """Kills the program and what it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
