"""Where an agent's events begin to tell a session that its transcript tells too.

Cursor's transcript has no results and no thoughts; its events have them. So the events are what is stored, and of the
transcript only what was said before the first of them. From then on the transcript is left alone: a note in the ledger
says so.
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


async def backfill(memory: Memory, file: Path, words: Sequence[NewTurn]) -> str:
    """Takes in what the transcript has before these words of the first events; gives the turn that they follow, empty
    where they begin the conversation."""
    try:
        transcript = await asyncio.to_thread(importer.read, file)
        turns = turns_before(transcript.turns, words)
        done = await importer.import_transcript(memory, file, replace(transcript, turns=turns))
    except (CtxmemError, OSError) as error:
        _log.info("%s: what was said before the first event was not read: %s", file, error)
        done = None
    return done.tip if done else ""


def turns_before(turns: Sequence[NewTurn], words: Sequence[NewTurn]) -> tuple[NewTurn, ...]:
    """The turns before the first of those words. The file has the prompts among them already, or the first few, or
    none of them yet; it may have one more, whose event is not here yet."""
    prompts = [turn.content.strip() for turn in words if turn.role == "user"]
    asked = [at for at, turn in enumerate(turns) if turn.role == "user"]
    said = [turns[at].content.strip() for at in asked]
    ended = (first for first in range(len(said)) if said[first:] == prompts[: len(said) - first])
    passed = (first for first in reversed(range(len(said))) if said[first:][: len(prompts)] == prompts)
    first = next(chain(ended, passed), None) if prompts else None
    return tuple(turns) if first is None else _without_trailing_system_turns(turns[: asked[first]])


def _without_trailing_system_turns(turns: Sequence[NewTurn]) -> tuple[NewTurn, ...]:
    """Without what the host put beside the prompt that follows."""
    end = len(turns)
    while end and turns[end - 1].role == "system":
        end -= 1
    return tuple(turns[:end])
