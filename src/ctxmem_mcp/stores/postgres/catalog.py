"""Finds conversations: all for a listing, those that begin with a turn, expired ones, and those not indexed yet.

A listing shows three things that take several reads: when the last turn happened, the head's id, and the agent's last
words. They are computed when a listing finds that a conversation has another version than they are of, not at each
append, and kept in the table `listings`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ctxmem_mcp.models import iso
from ctxmem_mcp.projects import Project, parse_record
from ctxmem_mcp.results import ConversationInfo
from ctxmem_mcp.stores.listing import (
    TIMED_TURNS_MAX,
    count_branches,
    find_last_words,
    last_happened,
    shorten_ending,
)
from ctxmem_mcp.stores.postgres import queries
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.postgres.rows import to_bytes, to_text
from ctxmem_mcp.stores.records import AGENT, PROJECT, State

_OWNER = "principal = %(principal)s"

STALE = f"""
SELECT c.conversation FROM conversations c LEFT JOIN listings l
    ON l.principal = c.principal AND l.conversation = c.conversation AND l.version = c.version AND l.created = c.created
WHERE c.{_OWNER} AND l.version IS NULL
"""
PUT = """
INSERT INTO listings VALUES (%(principal)s, %(conversation)s, %(version)s, %(created)s, %(happened)s, %(head)s,
    %(branches)s, %(ended)s)
ON CONFLICT (principal, conversation) DO UPDATE SET version = excluded.version, created = excluded.created,
    happened = excluded.happened, head = excluded.head, branches = excluded.branches, ended = excluded.ended
WHERE listings.created < excluded.created OR listings.version < excluded.version
"""
_EXTRA = (
    "(SELECT value FROM extra e WHERE (e.principal, e.conversation) = (c.principal, c.conversation) AND e.key = '{}')"
)
LIST = f"""
SELECT c.conversation, c.title, c.space, c.turns, c.tokens, l.branches, l.head, c.created, l.happened, c.expires,
    c.retention_days, c.text_bytes, {_EXTRA.format(AGENT)}, l.ended, {_EXTRA.format(PROJECT)}
FROM conversations c JOIN listings l USING (principal, conversation)
WHERE c.{_OWNER} AND c.expires > %(now)s AND (%(space)s::bytea IS NULL OR c.space = %(space)s::bytea)
"""
CHUNKS = f"""
SELECT c.conversation, c.next_piece - 1 FROM conversations c JOIN listings l USING (principal, conversation)
WHERE c.{_OWNER} AND c.expires > %(now)s ORDER BY l.happened DESC, c.conversation
"""
BY_ROOT = f"""
SELECT c.conversation FROM roots r JOIN conversations c USING (principal, conversation)
WHERE r.{_OWNER} AND r.digest = %(digest)s AND c.expires > %(now)s ORDER BY c.updated DESC, c.conversation
"""
EXPIRED = f"SELECT conversation, expires FROM conversations WHERE {_OWNER} AND expires <= %(now)s"
UNINDEXED = f"SELECT conversation FROM conversations WHERE {_OWNER} AND unindexed <> '{{}}' ORDER BY updated"


async def refresh(connection: Connection, principal: str) -> None:
    """Brings the listings up to date with their conversations."""
    for (conversation,) in await fetch(connection, STALE, {"principal": principal}):
        key = {"principal": principal, "conversation": conversation}
        state = await queries.state(connection, key, float("-inf"))
        if state is not None:  # it was there a moment ago
            await connection.execute(PUT, {**key, **await _listing(connection, key, state)})


async def _listing(connection: Connection, key: queries.Key, state: State) -> dict[str, object]:
    last = state.next_seq - 1
    seqs = range(max(1, last - TIMED_TURNS_MAX + 1), last + 1)
    turns = await queries.turns(connection, key, [*seqs], metadata_only=True)
    turns.reverse()
    head = await queries.turns(connection, key, [state.head], metadata_only=True) if state.head else []
    words = find_last_words(turns)
    ended = (await queries.turns(connection, key, [words.seq], metadata_only=False))[0].content if words else None
    return {
        "version": state.version,
        "created": state.created,
        "happened": last_happened(state, ((turn.said_at, turn.stored_at) for turn in turns)),
        "head": head[0].id if head else None,
        "branches": count_branches(state),
        "ended": None if ended is None else to_bytes(shorten_ending(ended)),
    }


async def list_infos(
    connection: Connection, principal: str, now: float, space: str | None, project: Project | None
) -> list[tuple[float, ConversationInfo]]:
    """Returns the conversations that have not expired, each with the time of its last activity."""
    await refresh(connection, principal)
    values = {"principal": principal, "now": now, "space": to_bytes(space)}
    rows = [_info(row) for row in await fetch(connection, LIST, values)]
    return [
        (happened, info)
        for happened, info, record in rows
        if project is None or project.contains(info.space, *parse_record(record))
    ]


def _info(row: Sequence[Any]) -> tuple[float, ConversationInfo, bytes | None]:
    """row: the columns of LIST."""
    conversation, title, space, turns, tokens, branches, head, created, happened, expires, days, size, *rest = row
    agent, ended, project = rest
    info = ConversationInfo(
        conversation_id=conversation,
        title=to_text(title) or "",
        space=to_text(space),
        turns=turns,
        tokens=tokens,
        branches=branches,
        head=head,
        created_at=iso(created),
        last_activity=iso(happened),
        expires_at=iso(expires),
        retention_days=days,
        bytes=size,
        agent=agent.decode("utf-8", "replace") if agent else None,
        ended=to_text(ended),
    )
    return happened, info, project


async def count_chunks(connection: Connection, principal: str, now: float) -> dict[str, int]:
    """Returns how many chunks each conversation has that has not expired, the most recently active first."""
    await refresh(connection, principal)
    return dict(await fetch(connection, CHUNKS, {"principal": principal, "now": now}))


async def find_by_root(connection: Connection, principal: str, digest: bytes, now: float) -> list[str]:
    rows = await fetch(connection, BY_ROOT, {"principal": principal, "digest": digest, "now": now})
    return [conversation for (conversation,) in rows]


async def list_expired(connection: Connection, principal: str, now: float) -> dict[str, float]:
    return dict(await fetch(connection, EXPIRED, {"principal": principal, "now": now}))


async def list_unindexed(connection: Connection, principal: str) -> list[str]:
    return [conversation for (conversation,) in await fetch(connection, UNINDEXED, {"principal": principal})]
