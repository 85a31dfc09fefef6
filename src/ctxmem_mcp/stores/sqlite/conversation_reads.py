"""The methods of the store contract that read one conversation's file by a single query."""

from __future__ import annotations

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from ctxmem_mcp.models import Node, Piece
from ctxmem_mcp.stores.records import ModelCall
from ctxmem_mcp.stores.sqlite import check, queries, term_index

T = TypeVar("T")


class ConversationReads(ABC):
    """Each method runs one query of `queries`, `term_index` or `check`."""

    @abstractmethod
    async def _run(self, conversation_id: str, work: Callable[[sqlite3.Connection], T]) -> T:
        """Runs `work` on the conversation's file."""

    async def digests(self, conversation_id: str, first_seq: int, last_seq: int) -> list[bytes]:
        return await self._run(conversation_id, partial(queries.digests, first_seq=first_seq, last_seq=last_seq))

    async def nodes(self, conversation_id: str, digests: Sequence[bytes]) -> dict[bytes, Node]:
        return await self._run(conversation_id, partial(queries.nodes, digests=digests))

    async def closings(self, conversation_id: str, first_seq: int, last_seq: int) -> list[tuple[int, Node]]:
        return await self._run(conversation_id, partial(queries.closings, first_seq=first_seq, last_seq=last_seq))

    async def nodes_over(self, conversation_id: str, first: int, last: int) -> list[tuple[int, Node]]:
        return await self._run(conversation_id, partial(queries.nodes_over, first=first, last=last))

    async def branch_roots(self, conversation_id: str, ranges: Sequence[tuple[int, int]]) -> list[Node]:
        return await self._run(conversation_id, partial(queries.branch_roots, ranges=ranges))

    async def model_calls(self, conversation_id: str) -> list[ModelCall]:
        return await self._run(conversation_id, queries.model_calls)

    async def pieces(self, conversation_id: str, ids: Sequence[int]) -> dict[int, Piece]:
        return await self._run(conversation_id, partial(queries.pieces, ids=ids))

    async def pieces_of(self, conversation_id: str, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        return await self._run(conversation_id, partial(queries.pieces_of, seqs=seqs))

    async def vectors(self, conversation_id: str, ids: Sequence[int]) -> dict[int, bytes]:
        return await self._run(conversation_id, partial(queries.vectors, ids=ids))

    async def extra(self, conversation_id: str, key: str) -> bytes | None:
        return await self._run(conversation_id, partial(queries.extra, key=key))

    async def dense_vectors(self, conversation_id: str, tag: bytes, ids: Sequence[int]) -> dict[int, bytes]:
        return await self._run(conversation_id, partial(queries.dense_vectors, tag=tag, ids=ids))

    async def vocabulary(self, conversation_id: str) -> list[str]:
        return await self._run(conversation_id, term_index.vocabulary)

    async def check(self, conversation_id: str) -> list[str]:
        return await self._run(conversation_id, check.find_faults)
