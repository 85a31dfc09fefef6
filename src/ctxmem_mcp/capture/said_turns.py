"""Finds the turns of users and agents among a session's turns, for the record that a hook searches."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from ctxmem_mcp.capture.spoken_turns import EXCERPT_CHARS, RECAP, Hasher, SpokenTurn
from ctxmem_mcp.models import RECAP as RECAP_NAME
from ctxmem_mcp.models import Turn
from ctxmem_mcp.text.host_text import is_host_text
from ctxmem_mcp.text.media import media_spans

# A turn with fewer words says too little to be recognised.
WORDS_MIN = 4


def find_spoken_turns(turns: Iterable[Turn], conversation: str, hasher: Hasher) -> Iterator[SpokenTurn]:
    """Yields the record's lines: what the user and the agent wrote, and where a recap ends the context.

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
