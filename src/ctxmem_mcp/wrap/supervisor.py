"""Keeps a gateway behind one address for as long as an agent runs.

The address belongs to this process: the gateway inherits the listening socket. If the gateway ends, requests wait in
the socket's queue while it is started again; if it ends too often, this process forwards them itself, without memory.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, replace
from types import TracebackType
from typing import IO, Any, Self

from ctxmem_mcp.wrap.gateway_process import BACKLOG, READY, Order

_ADDRESS = "127.0.0.1"
# A gateway that ends so often in so many seconds is not started again.
ENDS_MAX, WINDOW_SECONDS = 3, 60.0
# How long the gateway may take to start before the agent is started without it, and to end.
START_SECONDS, STOP_SECONDS = 60.0, 10.0
_LOG_LINES = 20


class Supervisor:
    """The gateway of one run: a context manager.

    Attributes:
        url: its URL, the same for the whole run.
    """

    def __init__(self, order: Order, on_usage: Callable[[dict[str, Any]], None], notify: Callable[[str], None]) -> None:
        """Creates a supervisor that is started as a context manager.

        Args:
            order: what the gateway is to do; its socket and port are filled in.
            on_usage: called with the usage of each request, in another thread.
            notify: called with a line for the user, in another thread.
        """
        self._order, self._on_usage, self._notify = order, on_usage, notify
        self._listening: socket.socket | None = socket.create_server((_ADDRESS, 0), backlog=BACKLOG)
        self._port = self._listening.getsockname()[1]
        self.url = f"http://{_ADDRESS}:{self._port}"
        self._log: deque[str] = deque(maxlen=_LOG_LINES)
        self._ends: deque[float] = deque(maxlen=ENDS_MAX)
        self._process: subprocess.Popen[str] | None = None
        self._started, self._closing = threading.Event(), threading.Event()
        self._was_ready = False
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._start()
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        process = self._process
        if process is not None and process.poll() is None:
            _close_input(process)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
        if self._listening is not None:
            self._listening.close()

    def wait_until_ready(self) -> bool:
        """Waits until the gateway serves. Returns False if it ended instead, or takes too long."""
        self._started.wait(START_SECONDS)
        return self._was_ready

    @property
    def reason(self) -> str:
        """The last line of the gateway's log."""
        return self._log[-1] if self._log else "it did not start in time"

    @property
    def process_id(self) -> int | None:
        """The id of the gateway's process."""
        return self._process.pid if self._process else None

    def _start(self) -> None:
        """Starts the gateway. On Windows, which passes no sockets on, it listens on the port itself."""
        if sys.platform == "win32" and self._listening is not None:
            self._listening.close()
            self._listening = None
        number = self._listening.fileno() if self._listening is not None else None
        order = replace(self._order, socket=number, port=self._port)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "ctxmem_mcp.wrap.gateway_process"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
            pass_fds=() if number is None else (number,), start_new_session=True,
        )  # fmt: skip
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(asdict(order)) + "\n")
            self._process.stdin.flush()
        except OSError:  # it has ended already, and the watcher finds out
            return

    def _watch(self) -> None:
        while True:
            assert self._process is not None
            self._read(self._process)
            if self._closing.is_set():
                return
            if not self._was_ready:
                self._started.set()
                return
            if self._ended_too_often():
                self._notify(f"ctxmem: the gateway ended ({self.reason}); the agent goes on without memory.")
                self._forward()
                return
            self._start()

    def _read(self, process: subprocess.Popen[str]) -> None:
        """Reads what the gateway writes, until it ends."""
        assert process.stdout is not None
        assert process.stderr is not None
        log = threading.Thread(target=self._read_log, args=(process.stderr,), daemon=True)
        log.start()
        for line in process.stdout:
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if READY in found:
                self._was_ready = True
                self._started.set()
            else:
                self._on_usage(found)
        process.wait()
        log.join(STOP_SECONDS)

    def _read_log(self, log: IO[str]) -> None:
        for line in log:
            if line.strip():
                self._log.append(line.strip())

    def _ended_too_often(self) -> bool:
        self._ends.append(time.monotonic())
        return len(self._ends) == ENDS_MAX and self._ends[-1] - self._ends[0] < WINDOW_SECONDS

    def _forward(self) -> None:
        from ctxmem_mcp.wrap.forwarder import Forwarder

        listening = self._listening or socket.create_server((_ADDRESS, self._port), backlog=BACKLOG)
        threading.Thread(target=Forwarder(listening, self._order.settings()).serve_forever, daemon=True).start()


def _close_input(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.close()
    except OSError:  # it has ended
        return
