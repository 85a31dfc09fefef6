"""The log on stderr. It has no words of conversations, repeated lines are counted, and a terminal obeys none of it."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from typing import TextIO

from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text.visible import visible

# Of lines that differ only in their values (warnings, errors) or not at all, this many are written in a window.
LINES_MAX, WINDOW_SECONDS = 10, 60.0
_KINDS_MAX = 1_000


def log_to_stderr(settings: Settings) -> None:
    """Logs our own messages at the configured level, and those of libraries from warnings up.

    Below that, libraries log what they are given: messages of the protocol, values of SQL statements, request bodies.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    handler = CountingHandler(sys.stderr)
    handler.setFormatter(_Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level="WARNING", handlers=[handler], force=True)
    logging.getLogger("ctxmem_mcp").setLevel(settings.log_level.upper())


def report_omitted() -> None:
    """Writes how many repeated lines were omitted. For a process that ends without Python's cleanup."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, CountingHandler):
            handler.report_omitted()


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


class _Window:
    """The lines of one kind in one window of time."""

    def __init__(self, record: logging.LogRecord, started: float) -> None:
        self.record, self.started = record, started
        self.lines = 0

    @property
    def omitted(self) -> int:
        return max(0, self.lines - LINES_MAX)


class CountingHandler(logging.StreamHandler[TextIO]):
    """Writes the first lines of a kind in a minute, and then how many more there were."""

    def __init__(self, stream: TextIO, window_seconds: float = WINDOW_SECONDS) -> None:
        super().__init__(stream)
        self._seconds = window_seconds
        self._windows: dict[object, _Window] = {}

    def emit(self, record: logging.LogRecord) -> None:
        # logging holds the handler's lock here.
        now, kind = time.monotonic(), _kind_of(record)
        window = self._windows.get(kind)
        if window is None or now - window.started >= self._seconds:
            self._report(kind)
            window = self._windows[kind] = _Window(record, now)
        window.lines += 1
        if window.lines <= LINES_MAX:
            super().emit(record)
        elif window.omitted == 1:
            self._report_later(kind, window.started + self._seconds - now)
        if len(self._windows) > _KINDS_MAX:
            self.report_omitted()

    def close(self) -> None:
        self.report_omitted()
        super().close()

    def report_omitted(self) -> None:
        """Writes how many lines were omitted, before their minute has ended."""
        with self.lock or threading.RLock():
            for kind in list(self._windows):
                self._report(kind)

    def _report_later(self, kind: object, seconds: float) -> None:
        def report() -> None:
            with self.lock or threading.RLock():
                window = self._windows.get(kind)
                if window and time.monotonic() - window.started >= self._seconds:
                    self._report(kind)

        timer = threading.Timer(seconds + 0.01, report)
        timer.daemon = True
        timer.start()

    def _report(self, kind: object) -> None:
        window = self._windows.pop(kind, None)
        if window is None or not window.omitted:
            return
        of = window.record
        text = f"... and {window.omitted:,} more like this in the last {_period(self._seconds)}: "
        line = logging.LogRecord(of.name, of.levelno, of.pathname, of.lineno, text + of.getMessage(), (), None)
        super().emit(line)


def _period(seconds: float) -> str:
    return "minute" if seconds == WINDOW_SECONDS else f"{seconds:g} s"


def _kind_of(record: logging.LogRecord) -> object:
    text = record.msg if record.levelno >= logging.WARNING else record.getMessage()
    return record.name, record.levelno, str(text), record.exc_info and record.exc_info[0]
