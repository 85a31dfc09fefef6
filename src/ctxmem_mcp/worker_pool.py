"""Runs long computations outside the event loop, in worker processes.

A thread would not do: pure Python holds the interpreter's lock, so a computation in a thread starves the event loop. A
computation is a generator function. Each `yield` ends a step of some milliseconds; between steps the worker takes the
next step of its other computations, so nobody waits for another's large one, and looks for cancellations. It may yield
the share of the computation that is done.

A worker starts with the first computation (0.3 s) and ends after IDLE_SECONDS without one, or with its parent, whose
end closes its standard input. If none can be started, or a function can't be pickled, a thread computes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import IO, Any, NamedTuple, TypeVar

from ctxmem_mcp import progress
from ctxmem_mcp.errors import StoreUnavailable

T = TypeVar("T")
Steps = Generator[None, None, T]
# Each yields the share of the computation that is done, 0..1.
MeasuredSteps = Generator[float, None, T]
_AnySteps = Generator[float | None, None, T]

# Inputs of fewer characters take some tens of milliseconds at most, and are computed in the event loop.
LARGE_CHARS = 50_000
PROCESSES_MAX = 2
IDLE_SECONDS = 60.0
_PRIORITY = 5
_LENGTH_BYTES = 8
_STARTER = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from ctxmem_mcp.worker_pool import main; main()"
# What limits the threads of numpy and tokenizers: one computation uses one core.
_ONE_CORE = {"OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
_RESULT, _ERROR, _PROGRESS = "result", "error", "progress"
# Progress is reported in steps of at least this share.
_SHARE_MIN = 0.01
_CANCEL = b"cancel"

_log = logging.getLogger(__name__)


def finish(steps: _AnySteps[T]) -> T:
    """Takes all steps of a computation and returns its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


class WorkerDied(Exception):
    """The worker process ended before the result."""


class WorkerPool:
    """Up to PROCESSES_MAX workers. It may be used from several event loops and threads."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    async def run(self, function: Callable[..., _AnySteps[T]], *args: Any) -> T:
        """Runs a computation in a worker and returns its result. If the caller is cancelled, the computation ends.

        Its progress is reported to the listener of this context, unless a thread computes.

        Args:
            function: a module's generator function.
            args: its arguments, which are pickled.

        Raises:
            StoreUnavailable: the worker died twice.
        """
        for _ in range(2):
            try:
                # Pickling ten megabytes takes some milliseconds, and starting a process some tens.
                job = await asyncio.to_thread(pickle.dumps, (function, args), pickle.HIGHEST_PROTOCOL)
                worker = await asyncio.to_thread(self._least_busy)
            except (pickle.PicklingError, AttributeError, TypeError, OSError) as error:
                _log.debug("Computing in a thread: %s", error)
                return await asyncio.to_thread(_finish_in_thread, function, args)
            try:
                result: T = await worker.run(job)
                return result
            except WorkerDied:
                _log.warning("A worker process died; its computation is started again.")
        raise StoreUnavailable("The process that computes large requests died twice.", "Nothing was stored. Try again.")

    def close(self) -> None:
        """Ends all workers. The next computation starts one."""
        with self._lock:
            for worker in self._workers:
                worker.end()
            self._workers.clear()

    def _least_busy(self) -> _Worker:
        with self._lock:
            self._workers = [worker for worker in self._workers if worker.reserve()]
            best = min(self._workers, key=lambda worker: worker.jobs, default=None)
            if best is None or (best.jobs > 1 and len(self._workers) < min(PROCESSES_MAX, os.cpu_count() or 1)):
                best = _Worker()
                best.reserve()
                self._workers.append(best)
            for worker in self._workers:
                if worker is not best:
                    worker.release()
            return best


def _finish_in_thread(function: Callable[..., _AnySteps[T]], args: tuple[Any, ...]) -> T:
    return finish(function(*args))


class _Caller(NamedTuple):
    """Who waits for a computation."""

    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    listener: progress.Listener | None


class _Worker:
    """A worker process, and the thread that reads its results.

    Attributes:
        jobs: reservations: computations in progress, and one more while one is being handed over.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _STARTER, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # One computation uses one core.
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "RAYON_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
            },
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._lock, self._write_lock = threading.Lock(), threading.Lock()
        self._waiting: dict[int, _Caller] = {}
        self._next, self.jobs, self._ended = 0, 0, False
        self._idle: threading.Timer | None = None
        threading.Thread(target=self._read, name="ctxmem worker", daemon=True).start()

    def reserve(self) -> bool:
        """Keeps the worker from ending until `release`; returns False if it has ended."""
        with self._lock:
            if self._ended:
                return False
            self.jobs += 1
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            return True

    def release(self) -> None:
        with self._lock:
            self.jobs -= 1
            if not self.jobs and not self._ended:
                self._idle = threading.Timer(IDLE_SECONDS, self._end_if_idle)
                self._idle.daemon = True
                self._idle.start()

    async def run(self, job: bytes) -> Any:
        """Runs a pickled computation on a reserved worker, which is released."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        with self._lock:
            self._next += 1
            number, ended = self._next, self._ended
            if not ended:
                self._waiting[number] = _Caller(loop, future, progress.listener())
        try:
            if ended:
                raise WorkerDied
            await asyncio.to_thread(self._send, number, job)
            return await future
        finally:
            with self._lock:
                waited = self._waiting.pop(number, None) is not None
            if waited:  # cancelled
                threading.Thread(target=self._send, args=(number, _CANCEL), daemon=True).start()
            self.release()

    def end(self) -> None:
        """Ends the process. Computations in progress raise WorkerDied."""
        with self._lock:
            self._ended = True
        self._process.kill()

    def _end_if_idle(self) -> None:
        with self._lock:
            if self.jobs:
                return
            self._ended = True
        self._process.kill()

    def _send(self, number: int, message: bytes) -> None:
        with suppress(OSError, ValueError), self._write_lock:  # it has died: the reader reports that
            _write(self._stdin, number, message)

    def _read(self) -> None:
        with suppress(OSError, EOFError):
            while True:
                number, raw = _read(self._stdout)
                kind, value = pickle.loads(raw)
                if kind == _PROGRESS:
                    self._report(number, value)
                    continue
                self._settle(number, kind, _raised(*value) if kind == _ERROR else value)
        with self._lock:
            self._ended = True
            waiting = list(self._waiting)
        for number in waiting:
            self._settle(number, _ERROR, WorkerDied())
        with suppress(OSError):
            self._stdin.close()
        self._stdout.close()
        self._process.wait()

    def _settle(self, number: int, kind: str, value: Any) -> None:
        with self._lock:
            caller = self._waiting.pop(number, None)
        if caller is not None:
            with suppress(RuntimeError):  # the loop is closed
                caller.loop.call_soon_threadsafe(_set, caller.future, kind, value)

    def _report(self, number: int, share: float) -> None:
        with self._lock:
            caller = self._waiting.get(number)
        if caller is not None and caller.listener is not None:
            with suppress(RuntimeError):
                caller.loop.call_soon_threadsafe(caller.listener, share)


def _raised(kind: type[Exception], args: tuple[object, ...], attributes: dict[str, object]) -> Exception:
    error = kind.__new__(kind, *args)
    error.__dict__.update(attributes)
    return error


def _set(future: asyncio.Future[Any], kind: str, value: Any) -> None:
    if future.done():
        return
    if kind == _RESULT:
        future.set_result(value)
    else:
        future.set_exception(value)


def _write(file: IO[bytes], number: int, message: bytes) -> None:
    file.write(len(message).to_bytes(_LENGTH_BYTES, "big") + number.to_bytes(_LENGTH_BYTES, "big"))
    file.write(message)
    file.flush()


def _read(file: IO[bytes]) -> tuple[int, bytes]:
    head = file.read(2 * _LENGTH_BYTES)
    if len(head) < 2 * _LENGTH_BYTES:
        raise EOFError
    size = int.from_bytes(head[:_LENGTH_BYTES], "big")
    message = file.read(size)
    if len(message) < size:
        raise EOFError
    return int.from_bytes(head[_LENGTH_BYTES:], "big"), message


# The workers of this process. Nothing is started before it is used.
shared = WorkerPool()


# ---------------------------------------------------------------- in the worker


def main() -> None:
    """The worker process: takes computations from standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent ends it
    if hasattr(os, "nice"):
        os.nice(_PRIORITY)  # the event loop comes first
    # What a library prints must not get between the results.
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    received: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(received,), daemon=True).start()
    with suppress(BrokenPipeError):
        _work(received, results)


def _receive(received: queue.SimpleQueue[tuple[int, bytes]]) -> None:
    with suppress(OSError, EOFError):
        while True:
            received.put(_read(sys.stdin.buffer))
    os._exit(0)


def _work(received: queue.SimpleQueue[tuple[int, bytes]], results: IO[bytes]) -> None:
    jobs: deque[tuple[int, _AnySteps[Any], float]] = deque()
    while True:
        while not jobs or not received.empty():
            number, raw = received.get()
            if raw == _CANCEL:
                jobs = deque(job for job in jobs if job[0] != number)
            else:
                jobs.append((number, _start(raw), 0.0))
        number, steps, reported = jobs.popleft()
        try:
            share = next(steps)
            if share is not None and share >= reported + _SHARE_MIN:
                _write(results, number, _pickled(_PROGRESS, share))
                reported = share
            jobs.append((number, steps, reported))
        except StopIteration as stop:
            _write(results, number, _pickled(_RESULT, stop.value))
        except Exception as error:
            _write(results, number, _pickled(_ERROR, error))


def _start(raw: bytes) -> _AnySteps[Any]:
    function, args = pickle.loads(raw)
    yield None
    return (yield from function(*args))


def _pickled(kind: str, value: object) -> bytes:
    try:
        # Unpickling an exception would call its class with the message.
        parts = (type(value), value.args, value.__dict__) if isinstance(value, Exception) else value
        return pickle.dumps((kind, parts), pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        return pickle.dumps((_ERROR, (RuntimeError, (f"{value!r} ({error})"[:1_000],), {})))
