"""Reports how much of a long operation is done, to callers that listen.

with listen(print):
    await memory.sync(turns)      prints shares, 0..1, of what is computed in a worker process
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# Takes the share that is done, 0..1. It is called in the event loop and must not block.
Listener = Callable[[float], None]

_listener: ContextVar[Listener | None] = ContextVar("progress_listener", default=None)


@contextmanager
def listen(listener: Listener) -> Iterator[None]:
    """Calls the listener while operations that are called in this context, or in tasks that it starts, proceed."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Listener | None:
    """Returns who listens in this context."""
    return _listener.get()
