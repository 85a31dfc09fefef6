"""What every command begins with: the settings of the command line, an open memory, the conversation that is meant."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ctxmem_mcp.capture.recent_session import last_session
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import AmbiguousId, NotFound, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import OF_AGENT
from ctxmem_mcp.serve.run import log_to_stderr
from ctxmem_mcp.settings import Settings

_log = logging.getLogger(__name__)
Given = TypeVar("Given")
LAST = "last"


@dataclass
class GlobalOptions:
    """The options before the command; they hold for all of them."""

    data_dir: str | None = None
    config: Path | None = None

    def settings(self) -> Settings:
        return Settings.load({"data_dir": self.data_dir}, config_path=self.config)


def with_memory(options: GlobalOptions, work: Callable[[Memory], Awaitable[Given]]) -> Given:
    """Does the work with an open memory, which is closed afterwards whatever happens. What agents' hooks left is taken
    in first."""
    settings = options.settings()
    log_to_stderr(settings)

    async def run() -> Given:
        async with open_memory(settings) as memory:
            await _up_to_date(memory, settings.data_dir)
            return await work(memory)

    return asyncio.run(run())


async def _up_to_date(memory: Memory, data_dir: Path) -> None:
    from ctxmem_mcp.capture.spool_worker import drain

    try:
        await drain(memory, data_dir, wait=True)
    except Exception as error:
        _log.warning("What agents' hooks left could not be taken in: %s", error)


async def resolve_conversation(memory: Memory, given: str) -> str:
    """The id meant by a whole id, a beginning that only one has, or `last`, the session last active."""
    try:
        return (await memory.info(given)).conversation_id
    except NotFound:
        known = [info.conversation_id for info in await memory.all_conversations()]
    if not known:
        raise NotFound("There are no conversations yet.", "`ctxmem-mcp import PATH` brings in transcripts.")
    if given == LAST:
        return await last_session(memory) or known[0]
    fitting = [conversation for conversation in known if conversation.startswith(given)]
    # A session's sub-agents begin with its id; who names the beginning means the session.
    main = [one for one in fitting if all(other.startswith(one + OF_AGENT) for other in fitting if other != one)]
    fitting = main or fitting
    if len(fitting) > 1:
        raise AmbiguousId(given, fitting[:10])
    if not fitting:
        raise NotFound(UnknownConversation(given).message, "`ctxmem-mcp list` shows those there are.")
    return fitting[0]
