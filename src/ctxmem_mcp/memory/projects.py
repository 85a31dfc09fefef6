"""Reads all conversations of a project as one."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import replace

from ctxmem_mcp.errors import HeadMoved, NotFound, UnknownConversation
from ctxmem_mcp.memory import handoff, unindexed_view
from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.consistent_read import retry_if_replaced
from ctxmem_mcp.memory.edits import FileEdit, find_edits, talk_before
from ctxmem_mcp.memory.project_view import ProjectRequest, project_view, with_sessions
from ctxmem_mcp.memory.searches import MemorySearches
from ctxmem_mcp.memory.view import ViewRequest
from ctxmem_mcp.models import OF_AGENT
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import ConversationInfo, View

# The brief of the newest session takes up to this share of a project's.
BRIEF_SHARE = 0.7


class EmptyProject(NotFound):
    def __init__(self, project: Project) -> None:
        super().__init__(
            f"No conversation belongs to project {project.name!r}.",
            "Pass a folder that agents worked in, or a space; list_conversations shows what there is.",
        )


class MemoryProjects(MemorySearches):
    """The methods that read a project."""

    async def project_view(
        self, project: Project, *, query: str | None = None, token_budget: int = 8_000, short_ids: bool = True
    ) -> View:
        """Returns the history of a project within a token budget: its sessions in outline, what matters in full.

        Args:
            project: The project.
            query: What the reader wants to know. By default what ended the newest sessions is quoted.
            token_budget: The most that header and text take together.
            short_ids: Shorten the ids of conversations.

        Raises:
            EmptyProject: No conversation belongs to it.
            BudgetTooSmall: No view fits; its `floor` is the smallest budget that does.
        """
        infos = await self._project_infos(project)
        query = query.strip() or None if query else None
        ids = [info.conversation_id for info in infos]
        matching = await self._matching(ids, query) if query else {}
        if not matching:
            matching = dict.fromkeys([one for one in ids if OF_AGENT not in one] or ids, 1.0)
        request = await self._project_request(project, query, token_budget, short_ids)
        return await project_view(infos, matching, request, self._open_if_present)

    async def project_hand_off(
        self, project: Project, *, token_budget: int = 4_000, note: str | None = None, short_ids: bool = True
    ) -> View:
        """Returns a brief for the next agent run in a project: that of the newest session, and the sessions before.

        Args:
            project: The project.
            token_budget: The most that header and text take together.
            note: A text of the caller's to include, in full.
            short_ids: Shorten the ids of conversations.

        Raises:
            EmptyProject: No conversation belongs to it.
            InvalidArgument: The note is too long.
            BudgetTooSmall: No brief fits; its `floor` is the smallest budget that does.
        """
        infos = await self._project_infos(project)
        newest = next((info for info in infos if OF_AGENT not in info.conversation_id), infos[0])
        brief = await self.hand_off(newest.conversation_id, token_budget=round(token_budget * BRIEF_SHARE), note=note)
        request = await self._project_request(project, None, token_budget, short_ids)
        return with_sessions(infos, newest, brief.text, request)

    @retry_if_replaced
    async def hand_off(
        self, conversation_id: str, *, token_budget: int = 4_000, note: str | None = None, from_files: bool = True
    ) -> View:
        """Returns a brief for the next agent run: goal, terms, decisions, changes, errors and how they ended, open
        points, where to look.

        Args:
            conversation_id: The conversation.
            token_budget: The most that header and text take together.
            note: A text of the caller's to include, in full.
            from_files: Include standing instructions of the project's files, which an agent's context has already.

        Raises:
            UnknownConversation: There is no such conversation.
            InvalidArgument: The note is too long.
            BudgetTooSmall: No brief fits; its `floor` is the smallest budget that does.
        """
        branch, unindexed = await self._indexed_reader(conversation_id, cached=True)
        if unindexed:
            request = ViewRequest(None, token_budget)
            return await unindexed_view.view(branch, unindexed, self._summarizer, request)
        return await handoff.hand_off(branch, self._summarizer, token_budget, note, from_files=from_files)

    async def file_edits(
        self,
        path: str,
        *,
        project: Project | None = None,
        conversation_id: str | None = None,
        line: str | None = None,
        limit: int = 10,
    ) -> list[FileEdit]:
        """Returns the edits of a file that agents made, newest first, each with the talk that decided it.

        Args:
            path: The file, or the last parts of its path.
            project: Only in conversations of this project.
            conversation_id: Only in this conversation.
            line: Only edits that wrote this line.
            limit: The most to return.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        if conversation_id is not None:
            await self._state(conversation_id)
            matching: Collection[str] = [conversation_id]
        else:
            infos = (await self.conversations(limit=sys.maxsize, project=project)).conversations
            matching = await self._matching([info.conversation_id for info in infos], os.path.basename(path))
        found: list[FileEdit] = []
        for conversation_id in matching:
            if branch := await self._open_if_present(conversation_id):
                found += await find_edits(branch, path)
        own = {(edit.at, edit.turn.content): edit for edit in found if line is None or edit.wrote(line)}
        newest = sorted(own.values(), key=lambda edit: (-edit.at, -edit.turn.index))[:limit]
        return [await self._with_talk(edit) for edit in newest]

    async def _with_talk(self, edit: FileEdit) -> FileEdit:
        branch = await self._open_if_present(edit.conversation_id)
        return replace(edit, talk=await talk_before(branch, edit.turn.index)) if branch else edit

    async def _project_request(
        self, project: Project, query: str | None, token_budget: int, short_ids: bool
    ) -> ProjectRequest:
        shorten = (await self._short_ids(listed=True)).shorten if short_ids else str
        return ProjectRequest(project.name, query, token_budget, self._encoding, shorten)

    async def _project_infos(self, project: Project) -> Sequence[ConversationInfo]:
        infos = (await self.conversations(limit=sys.maxsize, project=project)).conversations
        if not infos:
            raise EmptyProject(project)
        return infos

    async def _open_if_present(self, conversation_id: str) -> BranchReader | None:
        try:
            branch, _ = await self._indexed_reader(conversation_id, cached=True, of_many=True)
        except (UnknownConversation, HeadMoved):
            return None
        return branch if branch.lineage.length else None
