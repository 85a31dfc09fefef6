"""Slow and many connections: nobody else waits for them, they end on their own, and the log stays short."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.http_api.service_process import started

HALF_HEAD = b"POST /v1/memory HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
GET = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
FEW = 250


class Service:
    def __init__(self, base: str, process: subprocess.Popen[str]) -> None:
        self.base, self.process = base, process
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr
        self.log.extend(self.process.stderr)

    def connect(self) -> socket.socket:
        host, _, port = self.base.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), timeout=100)

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(100) in (0, -signal.SIGTERM)
        self._reader.join()


@contextmanager
def service(data: Path, **settings: object) -> Iterator[Service]:
    with started(data, **settings) as (base, process):
        running = Service(base, process)
        yield running
        running.stop()


@contextmanager
def many(running: Service, count: int, first: bytes) -> Iterator[list[socket.socket]]:
    opened = []
    try:
        for _ in range(count):
            one = running.connect()
            opened.append(one)
            with contextlib.suppress(OSError):  # closed by the server
                one.sendall(first)
        yield opened
    finally:
        for one in opened:
            one.close()


def _is_closed(one: socket.socket, seconds: float = 30) -> bool:
    one.settimeout(seconds)
    try:
        while one.recv(1 << 16):
            pass
    except TimeoutError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.parametrize("first", [b"", HALF_HEAD], ids=["idle", "half a head"])
def test_many_connections_without_a_request_shut_out_nobody(tmp_path: Path, first: bytes) -> None:
    with service(tmp_path, http_connections_per_address=100) as running, many(running, FEW, first) as opened:
        for _ in range(20):
            assert httpx2.get(f"{running.base}/health", timeout=100).status_code == 200
        # The oldest were closed, the newest are still there.
        assert all(_is_closed(one) for one in opened[: FEW - 110])
        opened[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            opened[-1].recv(1)
    closed = [line for line in running.log if "Closed a connection" in line or "more like this" in line]
    assert len(closed) <= 12
    assert any("more like this" in line for line in closed)
    assert len(running.log) < 60


@pytest.mark.parametrize("first", [b"", HALF_HEAD, GET], ids=["idle", "half a head", "idle after a response"])
def test_a_connection_without_a_request_is_closed_after_a_while(tmp_path: Path, first: bytes) -> None:
    with service(tmp_path, http_head_seconds=1) as running, running.connect() as one:
        one.sendall(first)
        if first == GET:
            assert one.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert _is_closed(one)
        assert httpx2.get(f"{running.base}/health", timeout=100).status_code == 200


@pytest.mark.faults
def test_an_idle_connection_is_kept_longer_than_clients_keep_theirs(tmp_path: Path) -> None:
    """httpx gives one up after 5 seconds; a request that is sent while the service closes it is lost."""
    with service(tmp_path) as running, running.connect() as one:
        one.sendall(GET)
        assert one.recv(1 << 16).startswith(b"HTTP/1.1 200")
        assert not _is_closed(one, seconds=7)


def test_a_head_that_trickles_in_is_not_waited_for_longer(tmp_path: Path) -> None:
    with service(tmp_path, http_head_seconds=1) as running, running.connect() as one:
        one.sendall(HALF_HEAD)
        one.settimeout(0.05)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                one.sendall(b"x")
                if not one.recv(1):
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break
        else:
            pytest.fail("the connection stayed open")


def test_a_connection_may_have_many_requests_and_a_slow_response(tmp_path: Path) -> None:
    """The limits are for connections without a request only."""
    with service(tmp_path, http_head_seconds=1, http_connections_per_address=1) as running:
        with running.connect() as one, running.connect() as other:
            for at in (other, other, one):
                with contextlib.suppress(OSError):
                    at.sendall(GET)
            assert other.recv(1 << 16).startswith(b"HTTP/1.1 200")
        with httpx2.Client() as client:
            for _ in range(30):
                assert client.get(f"{running.base}/health", timeout=100).status_code == 200


@pytest.mark.soak
def test_connections_beyond_all_file_descriptors(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8_192), hard))
    try:
        with service(tmp_path) as running, many(running, 1_100, HALF_HEAD), many(running, 1_100, HALF_HEAD):
            for _ in range(50):
                begun = time.monotonic()
                assert httpx2.get(f"{running.base}/health", timeout=100).status_code == 200
                assert time.monotonic() - begun < 25
        assert sum(map(len, running.log)) < 20_000
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
