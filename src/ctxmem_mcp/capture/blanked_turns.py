"""Keeps what is stored when a file's messages were emptied: a failed compaction of Claude Code's has done so to whole
sessions."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn, to_new_turns
from ctxmem_mcp.transcripts.base import Transcript

_log = logging.getLogger(__name__)


async def restore_blanked_turns(memory: Memory, conversation: str, transcript: Transcript) -> Transcript:
    """Returns the transcript with the stored turns in place of those that were emptied in its file, and a warning.

    The turns after the last empty one follow what is stored. A file is taken for emptied if the first turn that differs
    from the stored branch is empty, and the stored one is not: messages may also be empty from their beginning.
    """
    blank = [i for i, turn in enumerate(transcript.turns) if _is_blank(turn)]
    if not blank or await memory.stored_head(conversation) is None:
        return transcript
    try:
        history = await memory.history(conversation)
    except UnknownConversation:  # it has expired
        return transcript
    stored = to_new_turns(history)
    if not _is_emptied(stored, transcript.turns):
        return transcript
    rest = transcript.turns[blank[-1] + 1 :]
    shared = next(
        (n for n in range(min(len(rest), len(stored)), 0, -1) if _same(stored[len(stored) - n :], rest[:n])), 0
    )
    warning = f"{len(blank)} messages were emptied; the stored ones stay"
    _log.warning("%s: %s", conversation, warning)
    return replace(transcript, turns=(*stored, *rest[shared:]), warnings=(*transcript.warnings, warning))


def _is_emptied(stored: Sequence[NewTurn], turns: Sequence[NewTurn]) -> bool:
    pairs = ((old, new) for old, new in zip(stored, turns, strict=False) if not _same([old], [new]))
    old, new = next(pairs, (None, None))
    return old is not None and new is not None and bool(old.content.strip()) and new.content.strip() in ("", "{}")


def _is_blank(turn: NewTurn) -> bool:
    return turn.role in ("user", "assistant") and not turn.content.strip()


def _same(some: Sequence[NewTurn], others: Sequence[NewTurn]) -> bool:
    return [(turn.role, turn.name, turn.content) for turn in some] == [
        (turn.role, turn.name, turn.content) for turn in others
    ]
