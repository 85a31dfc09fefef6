"""Stores what Cursor's transcript has from before a session's first hook event.

Cursor's transcript lacks results and thoughts; its events have them. So the events are stored, and of the transcript
only the turns before the first event. After that the transcript is ignored: the session's sync record says so.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

from ctxmem_mcp.capture import importer
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn

_log = logging.getLogger(__name__)


async def backfill(memory: Memory, file: Path, event_turns: Sequence[NewTurn]) -> str:
    """Stores the transcript's turns from before the first events. A transcript that can't be read is logged.

    Args:
        event_turns: the turns of the session's first events, oldest first.

    Returns:
        The id of the turn that the events' turns follow; empty if they start the conversation.
    """
    try:
        transcript = await asyncio.to_thread(importer.read, file)
        turns = turns_before(transcript.turns, event_turns)
        done = await importer.import_transcript(memory, file, replace(transcript, turns=turns))
    except (CtxmemError, OSError) as error:
        _log.info("%s: the turns before the first event could not be read: %s", file, error)
        done = None
    return done.tip if done else ""


def turns_before(turns: Sequence[NewTurn], event_turns: Sequence[NewTurn]) -> tuple[NewTurn, ...]:
    """Returns the transcript's turns before the first prompt of the events.

    The transcript may have all of the events' prompts, only the first ones, or none yet. It may also have one more,
    whose event has not arrived.
    """
    prompts = [turn.content.strip() for turn in event_turns if turn.role == "user"]
    user_indexes = [index for index, turn in enumerate(turns) if turn.role == "user"]
    written = [turns[index].content.strip() for index in user_indexes]
    at_end = (first for first in range(len(written)) if written[first:] == prompts[: len(written) - first])
    further_up = (first for first in reversed(range(len(written))) if written[first:][: len(prompts)] == prompts)
    first = next(chain(at_end, further_up), None) if prompts else None
    return tuple(turns) if first is None else _without_trailing_system_turns(turns[: user_indexes[first]])


def _without_trailing_system_turns(turns: Sequence[NewTurn]) -> tuple[NewTurn, ...]:
    """Drops what the host added to the prompt that follows."""
    end = len(turns)
    while end and turns[end - 1].role == "system":
        end -= 1
    return tuple(turns[:end])
