"""Searches conversations: one, those of a project, or all."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import anyio

from ctxmem_mcp.errors import HeadMoved, UnknownConversation
from ctxmem_mcp.memory import search
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.core import INDEX_SECONDS
from ctxmem_mcp.memory.global_search import SECONDS_MAX, find_languages, match_conversations, search_everything
from ctxmem_mcp.memory.reads import MemoryReads
from ctxmem_mcp.memory.search import FoundTurn, SearchRequest
from ctxmem_mcp.memory.validation import check_role, parse_time
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import Hit, SearchResult
from ctxmem_mcp.stores.extensions import IndexedStore


class MemorySearches(MemoryReads):
    """The methods that search."""

    async def search(
        self,
        query: str,
        *,
        conversation_id: str | None = None,
        project: Project | None = None,
        agent: str | None = None,
        limit: int = 10,
        role: str | None = None,
        since: str | None = None,
        until: str | None = None,
        explain: bool = False,
    ) -> SearchResult:
        """Finds turns that contain words of the query, best first. A query without a word is searched for as a text.

        Args:
            query: The words.
            conversation_id: By default all conversations, for a few seconds: the result says how many were searched.
                Unreadable ones are named in the result, and a turn in several of them is one hit.
            project: Only conversations of this project.
            agent: Only sessions of this agent.
            limit: The most hits to return.
            role: Only turns of this role.
            since: Only turns said, or else stored, at or after this time (ISO 8601).
            until: Only turns said, or else stored, at or before this time (ISO 8601).
            explain: Give each hit its score, and why.

        Raises:
            InvalidArgument: `role`, `since` or `until` breaks its rule.
            UnknownConversation: There is no such conversation.
        """
        if role is not None:
            check_role(role, "")
        request = SearchRequest(query, role, parse_time("since", since), parse_time("until", until), limit, explain)
        if conversation_id is not None:
            found = await self._search_one(conversation_id, request)
        else:
            unindexed = await self._store.unindexed()
            with anyio.move_on_after(INDEX_SECONDS):
                for one in unindexed:
                    await self._index(one)
            found = await self._search_many(request, project, agent, listed=not unindexed)
            found = replace(found, unreadable={**await self._unindexed(unindexed), **found.unreadable})
        return found if explain else replace(found, hits=[replace(hit, score=None) for hit in found.hits])

    async def index_for_search(self, seconds: float) -> int:
        """Brings the index over all conversations up to date, for at most so many seconds.

        Returns:
            How many conversations it does not have yet, without those that it can't have: too large or unreadable.
        """
        if not isinstance(self._store, IndexedStore):
            return 0
        return len((await self._store.find_blocks([], self._clock(), seconds)).behind)

    @retry_if_replaced
    async def _search_one(self, conversation_id: str, request: SearchRequest) -> SearchResult:
        branch, _ = await self._indexed_reader(conversation_id, cached=True)
        hits = await search.search(branch, request) if branch.lineage.length else []
        return SearchResult(hits, unreadable=await self._unindexed([conversation_id]))

    async def _matching(self, conversation_ids: Sequence[str], query: str) -> dict[str, float]:
        """Returns those of the conversations, which were listed just now, that contain words of the query, best first,
        and how well they match."""
        forms = SearchRequest(query).forms(await find_languages(self._store, self._clock(), listed=True))
        if not forms:
            return {}
        matches = await match_conversations(self._store, conversation_ids, forms, self._clock(), self._monotonic)
        return dict(sorted(matches.scores.items(), key=lambda pair: -pair[1]))

    async def _search_many(
        self, request: SearchRequest, project: Project | None, agent: str | None, *, listed: bool
    ) -> SearchResult:
        """listed: the conversations were listed just now."""
        until = self._monotonic() + SECONDS_MAX
        forms = (
            {} if request.is_literal else request.forms(await find_languages(self._store, self._clock(), listed=listed))
        )
        ids: Sequence[str] | None = None
        unreadable: Mapping[str, str] = {}
        if project or agent or not (forms and isinstance(self._store, IndexedStore)):
            listed = listed or bool(forms)
            page = await self._store.conversations(self._clock(), limit=sys.maxsize, project=project, listed=listed)
            ids = [info.conversation_id for info in page.conversations if agent in (None, info.agent)]
            unreadable = page.unreadable
        matches = await match_conversations(self._store, ids, forms, self._clock(), self._monotonic)
        matches = replace(matches, unreadable={**unreadable, **matches.unreadable})
        return await search_everything(
            matches,
            request.limit,
            lambda one: self._find_if_present(one, request),
            lambda one, found: self._load_if_present(one, found, request),
            lambda: self._monotonic() > until,
        )

    async def _find_if_present(self, conversation_id: str, request: SearchRequest) -> Sequence[FoundTurn | Hit]:
        """Searches one of many conversations. One that is gone has no hits."""
        try:
            return await self._find(conversation_id, request)
        except (UnknownConversation, HeadMoved):
            return []

    @retry_if_replaced
    async def _find(self, conversation_id: str, request: SearchRequest) -> Sequence[FoundTurn | Hit]:
        branch, _ = await self._indexed_reader(conversation_id, cached=True, of_many=True, seconds=0.0)
        if not branch.lineage.length:
            return []
        return await (search.search_literally if request.is_literal else search.find_turns)(branch, request)

    async def _load_if_present(
        self, conversation_id: str, found: Sequence[FoundTurn | Hit], request: SearchRequest
    ) -> Sequence[Hit]:
        """Reads the text of turns that were found in a conversation; nothing if it was replaced since."""
        try:
            return await self._load(conversation_id, found, request)
        except (UnknownConversation, HeadMoved):
            return []

    @retry_if_replaced
    async def _load(
        self, conversation_id: str, found: Sequence[FoundTurn | Hit], request: SearchRequest
    ) -> Sequence[Hit]:
        turns = [one for one in found if isinstance(one, FoundTurn)]
        if not turns:
            return [one for one in found if isinstance(one, Hit)]
        if (await self._state(conversation_id)).created != turns[0].branch.state.created:
            return []
        return await search.load_hits(turns, request)
