"""The methods of the store contract that read one conversation's rows by a single query."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from ctxmem_mcp.models import Node, Piece, Summary, Turn
from ctxmem_mcp.stores.postgres import check, model_calls, queries, term_index
from ctxmem_mcp.stores.postgres.database import Connection
from ctxmem_mcp.stores.postgres.queries import Key
from ctxmem_mcp.stores.records import ModelCall, TermHits

T = TypeVar("T")


class ConversationReads(ABC):
    """Each method runs one query of `queries`, `model_calls`, `term_index` or `check`."""

    @abstractmethod
    async def _read(self, conversation_id: str, query: Callable[[Connection, Key], Awaitable[T]]) -> T:
        """Runs `query` on the conversation's rows."""

    async def turns(self, conversation_id: str, seqs: Sequence[int], *, metadata_only: bool = False) -> list[Turn]:
        return await self._read(conversation_id, partial(queries.turns, seqs=seqs, metadata_only=metadata_only))

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        return await self._read(conversation_id, partial(queries.digests, first_seq=first_seq, last_seq=last_seq))

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]:
        return await self._read(conversation_id, partial(queries.nodes, digests=digests))

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        return await self._read(conversation_id, partial(queries.closings, first_seq=first_seq, last_seq=last_seq))

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        return await self._read(conversation_id, partial(queries.nodes_over, first=first, last=last))

    async def branch_roots(self, conversation_id: str, ranges: Sequence[tuple[int, int]]) -> list[Node]:
        return await self._read(conversation_id, partial(queries.branch_roots, ranges=ranges))

    async def summaries(self, conversation_id: str, digests: Sequence[bytes]) -> Mapping[bytes, list[Summary]]:
        return await self._read(conversation_id, partial(queries.summaries, digests=digests))

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        async def read(connection: Connection, key: Key) -> list[ModelCall]:
            await queries.require(connection, key)
            return await model_calls.calls(connection, key)

        return await self._read(conversation_id, read)

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        return await self._read(conversation_id, partial(queries.pieces, ids=ids))

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        return await self._read(conversation_id, partial(queries.pieces_of, seqs=seqs))

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        return await self._read(conversation_id, partial(queries.vectors, ids=ids))

    async def dense_vectors(self, conversation_id: str, tag: bytes, ids: Sequence[int]) -> dict[int, bytes]:
        return await self._read(conversation_id, partial(queries.dense_vectors, tag=tag, ids=ids))

    async def extra(self, conversation_id: str, key: str) -> bytes | None:
        return await self._read(conversation_id, partial(queries.extra, name=key))

    async def term_hits(self, conversation_id: str, terms: Sequence[str], cap: int) -> Mapping[str, TermHits]:
        async def read(connection: Connection, key: Key) -> dict[str, TermHits]:
            found = await term_index.hits(connection, key, list(dict.fromkeys(terms)), cap)
            if not found:
                await queries.require(connection, key)
            return found

        return await self._read(conversation_id, read)

    async def vocabulary(self, conversation_id: str) -> list[str]:
        async def read(connection: Connection, key: Key) -> list[str]:
            await queries.require(connection, key)
            return await term_index.vocabulary(connection, key)

        return await self._read(conversation_id, read)

    async def check(self, conversation_id: str) -> list[str]:
        return await self._read(conversation_id, check.find_faults)
