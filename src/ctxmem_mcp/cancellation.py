"""Work that must not stop half-way, whoever is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """What would leave a thread and an open file that nobody knows of, or half of what was to go. Whoever is told to
    stop meanwhile, by a cancel scope or by asyncio itself, stops afterwards."""
    task, stopped = asyncio.ensure_future(work), None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                stopped = error
    if stopped is None:
        return task.result()
    task.exception()  # seen, so that asyncio does not complain of it
    raise stopped
