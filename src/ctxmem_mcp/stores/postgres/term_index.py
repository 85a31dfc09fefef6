"""The index of a conversation's terms: where each occurs.

A commit's chunks wait as one row each, with their terms in order. Once more than WAITING_MAX wait, they become postings
together: a row per term with all places in these chunks, so that the index has a fraction of a row per term and chunk.
Both are read in one statement, because another server may move rows from one to the other between two.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.stores.encoding import WAITING_MAX, encode_term, encode_terms, is_word
from ctxmem_mcp.stores.postgres.database import Connection, fetch
from ctxmem_mcp.stores.records import BLOCK_BITS, BLOCK_CHUNKS, BlockHits, StoredPiece, TermHits, block_of

_KEY = "principal = %(principal)s AND conversation = %(conversation)s"
_KEYS = "principal = %(principal)s AND conversation = ANY(%(conversations)s)"

HITS = f"""
SELECT term, sum(df)::bigint, CASE WHEN sum(df) <= %(cap)s THEN array_agg(places ORDER BY first_piece) END,
    NULL::bigint, NULL::text[]
FROM postings WHERE {_KEY} AND term = ANY(%(terms)s) GROUP BY term
UNION ALL
SELECT NULL, NULL, NULL, piece, terms FROM waiting WHERE {_KEY}
"""
COUNTS = f"""
SELECT conversation, term, sum(df)::bigint, NULL::text[] FROM postings
WHERE {_KEYS} AND term = ANY(%(terms)s) GROUP BY conversation, term
UNION ALL
SELECT conversation, NULL, NULL, terms FROM waiting WHERE {_KEYS} AND terms && %(terms)s::text[]
"""
BLOCKS = f"""
SELECT conversation, term, array_agg(places), NULL::bigint, NULL::text[] FROM postings
WHERE {_KEYS} AND term = ANY(%(terms)s) GROUP BY conversation, term
UNION ALL
SELECT conversation, NULL, NULL, piece, terms FROM waiting WHERE {_KEYS} AND terms && %(terms)s::text[]
"""
VOCABULARY = f"""
SELECT DISTINCT term FROM postings WHERE {_KEY} UNION SELECT unnest(terms) FROM waiting WHERE {_KEY}
"""
WAITING = f"SELECT piece, terms FROM waiting WHERE {_KEY} ORDER BY piece"
CLEAR_WAITING = f"DELETE FROM waiting WHERE {_KEY}"
SET_FIRST_WAITING = f"UPDATE conversations SET first_waiting = %(first_waiting)s WHERE {_KEY}"
# An array of arrays must be rectangular, so a chunk's terms are one text here.
ADD_WAITING = """
INSERT INTO waiting SELECT %(principal)s, %(conversation)s, w.piece, string_to_array(w.terms, ' ')
FROM unnest(%(pieces)s::bigint[], %(terms)s::text[]) AS w (piece, terms)
"""
ADD_POSTINGS = """
INSERT INTO postings SELECT %(principal)s, %(conversation)s, p.* FROM unnest(
    %(terms)s::text[], %(firsts)s::bigint[], %(dfs)s::bigint[], %(places)s::bytea[]) AS p
"""


async def add(
    connection: Connection, key: Mapping[str, object], first_waiting: int, added: Sequence[StoredPiece]
) -> None:
    """Adds chunks to the index, inside the transaction of their commit.

    Args:
        key: The principal and the conversation.
        first_waiting: The first chunk that is not in the postings.
        added: The chunks, by id.
    """
    if not added:
        return
    new = [(stored.piece.id, encode_terms(stored.terms)) for stored in added]
    if new[-1][0] - first_waiting < WAITING_MAX:
        values = {"pieces": [i for i, _ in new], "terms": [terms for _, terms in new]}
        await connection.execute(ADD_WAITING, {**key, **values})
        return
    waiting = await fetch(connection, WAITING, key)
    await connection.execute(CLEAR_WAITING, key)
    chunks = [(piece, terms) for piece, terms in waiting] + [(i, terms.split(" ") if terms else []) for i, terms in new]
    await connection.execute(ADD_POSTINGS, {**key, **_postings(chunks)})
    await connection.execute(SET_FIRST_WAITING, {**key, "first_waiting": new[-1][0] + 1})


def _postings(chunks: Iterable[tuple[int, Sequence[str]]]) -> dict[str, list[object]]:
    """Returns the columns of the rows, one per term."""
    places: dict[str, tuple[list[int], list[int]]] = {}
    for piece, terms in chunks:
        for position, term in enumerate(terms):
            pieces, positions = places.setdefault(term, ([], []))
            pieces.append(piece)
            positions.append(position)
    return {
        "terms": list(places),
        "firsts": [pieces[0] for pieces, _ in places.values()],
        "dfs": [len(set(pieces)) for pieces, _ in places.values()],
        "places": [struct.pack(f"<{2 * len(pieces)}I", *pieces, *positions) for pieces, positions in places.values()],
    }


def _unpack(places: bytes) -> tuple[Sequence[int], Sequence[int]]:
    """Returns the chunk and the position of each occurrence."""
    if len(places) % 8:
        raise BrokenHistory("The index has places without pieces.")
    numbers = struct.unpack(f"<{len(places) // 4}I", places)
    return numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]


async def hits(
    connection: Connection, key: Mapping[str, object], terms: Sequence[str], cap: int
) -> dict[str, TermHits]:
    """Returns where terms occur; see `Store.term_hits`."""
    tokens = {encode_term(term): term for term in terms}
    found: dict[str, tuple[int, list[bytes] | None]] = {}
    waiting: list[tuple[int, Sequence[str]]] = []
    for token, df, places, piece, words in await fetch(connection, HITS, {**key, "terms": list(tokens), "cap": cap}):
        if token is None:
            waiting.append((piece, words))
        else:
            found[token] = (df, places)
    waiting.sort()
    return {
        tokens[token]: hit
        for token in tokens
        if (hit := _hits_of(token, found.get(token, (0, [])), waiting, cap)) is not None
    }


def _hits_of(
    token: str, indexed: tuple[int, list[bytes] | None], waiting: Sequence[tuple[int, Sequence[str]]], cap: int
) -> TermHits | None:
    not_indexed = [(piece, words) for piece, words in waiting if token in words]
    df = indexed[0] + len(not_indexed)
    if df > cap or indexed[1] is None:
        return TermHits(df, capped=True)
    if not df:
        return None
    pieces: list[int] = []
    positions: list[int] = []
    for places in indexed[1]:
        those, at = _unpack(places)
        pieces += those
        positions += at
    for piece, words in not_indexed:
        occurrences = [i for i, word in enumerate(words) if word == token]
        pieces += [piece] * len(occurrences)
        positions += occurrences
    return TermHits(df, pieces, positions)


async def counts(
    connection: Connection, principal: str, conversation_ids: Sequence[str], terms: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Returns how many chunks of each conversation contain each term; see `Store.term_counts`."""
    tokens = {encode_term(term): term for term in terms}
    key = {"principal": principal, "conversations": list(conversation_ids), "terms": list(tokens)}
    found: dict[str, dict[str, int]] = {}
    for conversation, token, df, words in await fetch(connection, COUNTS, key):
        of = found.setdefault(conversation, {})
        for one, count in [(token, df)] if words is None else [(word, 1) for word in tokens.keys() & set(words)]:
            of[tokens[one]] = of.get(tokens[one], 0) + count
    return found


async def vocabulary(connection: Connection, key: Mapping[str, object]) -> list[str]:
    """Returns the terms that consist of letters only."""
    return [token for (token,) in await fetch(connection, VOCABULARY, key) if is_word(token)]


async def blocks(connection: Connection, principal: str, chunks: Mapping[str, int], terms: Sequence[str]) -> BlockHits:
    """Returns in which blocks terms occur; see `IndexedStore.find_blocks`.

    Args:
        chunks: How many chunks each conversation has, the most recently active conversation first.
    """
    tokens = {encode_term(term): term for term in terms}
    numbers = {conversation: number for number, conversation in enumerate(chunks)}
    key = {"principal": principal, "conversations": list(chunks), "terms": list(tokens)}
    found: dict[str, set[int]] = {}
    for conversation, token, rows, piece, words in await fetch(connection, BLOCKS, key):
        base = numbers[conversation] << BLOCK_BITS
        if token is not None:
            those = (chunk for places in rows for chunk in _unpack(places)[0])
            found.setdefault(token, set()).update(base | block_of(chunk) for chunk in those)
            continue
        for word in tokens.keys() & set(words):
            found.setdefault(word, set()).add(base | block_of(piece))
    places = {tokens[token]: sorted(those) for token, those in found.items()}
    total = sum(-(-count // BLOCK_CHUNKS) for count in chunks.values())
    return BlockHits(places, {number: one for one, number in numbers.items()}, total, [], len(chunks))
