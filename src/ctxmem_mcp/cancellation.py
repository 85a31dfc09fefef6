"""Work that a cancellation must not interrupt."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

T = TypeVar("T")


async def run_to_completion(work: Coroutine[Any, Any, T]) -> T:
    """Runs work to its end, and only then cancels the caller, if it was cancelled by a scope or by asyncio itself.

    For work that would otherwise leave an open file with its thread behind, or delete only half of its files.

    Raises:
        asyncio.CancelledError: The caller was cancelled while the work ran; its result is lost.
    """
    task, stopped = asyncio.ensure_future(work), None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                stopped = error
    if stopped is None:
        return task.result()
    task.exception()  # retrieved, so that asyncio does not report it
    raise stopped
