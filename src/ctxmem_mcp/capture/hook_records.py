"""Fills the records that hooks read: the calls that failed in stored turns, and the words of users and agents."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ctxmem_mcp.capture import failed_calls, spoken_turns
from ctxmem_mcp.capture.call_failures import find_outcomes
from ctxmem_mcp.capture.spoken_turns import EXCERPT_CHARS, RECAP, Hasher, SpokenTurn
from ctxmem_mcp.errors import NotFound
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import RECAP as RECAP_NAME
from ctxmem_mcp.models import Turn
from ctxmem_mcp.text.host_text import is_host_text
from ctxmem_mcp.text.media import media_spans

# How many last turns are read after a drain and after an import. A hook has little use for older ones.
DRAINED_TURNS, IMPORTED_TURNS = 150, 5_000
# A turn with fewer words says too little to be recognised.
WORDS_MIN = 4
# The heads of the conversations that this process recorded last, by data folder and conversation.
_heads: LRU[tuple[str, str], str] = LRU(256)
_log = logging.getLogger(__name__)


async def record_new(memory: Memory, data_dir: Path, conversation: str, cwd: str) -> None:
    """Records a conversation's last turns, unless this process did so when the conversation had the same head.

    Most events of a session bring no turn. The arguments and the need for a lock are those of `record`.
    """
    key = (str(data_dir), conversation)
    head = await memory.stored_head(conversation)
    if head != _heads.get(key) and await record(memory, data_dir, conversation, cwd, DRAINED_TURNS) and head:
        _heads[key] = head


async def record(memory: Memory, data_dir: Path, conversation: str, cwd: str, last: int) -> bool:
    """Records the calls that failed among a conversation's last turns, and the words of user and agent in them.

    The caller holds the spool's lock: two writers at once would lose lines. An error is logged: the turns are stored,
    which matters more.

    Args:
        memory: where the conversation is.
        data_dir: the data folder.
        conversation: its id.
        cwd: the folder that the session worked in.
        last: how many turns are read.

    Returns:
        Whether there was no error.
    """
    try:
        turns = await memory.turns(conversation, last=last)
        await asyncio.to_thread(_record, str(data_dir), turns, conversation, cwd)
    except (OSError, NotFound) as error:
        _log.warning("The last turns of %s are not recorded for the hooks: %s", conversation, error)
        return False
    return True


def _record(data_dir: str, turns: Sequence[Turn], conversation: str, cwd: str) -> None:
    found = find_outcomes(turns, conversation, failed_calls.load_secret(data_dir, create=True))
    if found.failed or found.succeeded:
        failed_calls.update(data_dir, cwd, found.failed, found.succeeded)
    hasher = spoken_turns.load_hasher(data_dir, create=True)
    if hasher is not None:
        spoken_turns.add(data_dir, cwd, find_spoken_turns(turns, conversation, hasher))


def find_spoken_turns(turns: Iterable[Turn], conversation: str, hasher: Hasher) -> Iterator[SpokenTurn]:
    """Yields the turns that the record lists: the words of the user and the agent, and the recaps.

    Args:
        turns: the turns.
        conversation: their conversation's id.
        hasher: hashes their words.
    """
    for turn in turns:
        day = (turn.said_at or "")[:10]
        if turn.name == RECAP_NAME:
            yield SpokenTurn(conversation, turn.short, turn.index, day, RECAP, [], '""')
        elif turn.name is None and turn.call_id is None and turn.role in ("user", "assistant"):
            text = turn.content
            if turn.is_redacted or media_spans(text) or (turn.role == "user" and is_host_text(text)):
                continue
            terms = hasher.terms(text)
            if terms.index("|") >= WORDS_MIN:
                excerpt = json.dumps(text[:EXCERPT_CHARS], ensure_ascii=False)
                yield SpokenTurn(conversation, turn.short, turn.index, day, turn.role, terms, excerpt)
