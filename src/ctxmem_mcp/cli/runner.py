"""What most commands start with: the settings, an open memory, and the conversation that the user named."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TypeVar

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.recent_session import last_session
from ctxmem_mcp.cli.output import hidden_by_expiry
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import InvalidArgument, NotFound, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.serve.logs import log_to_stderr
from ctxmem_mcp.settings import Settings

_log = logging.getLogger(__name__)
T = TypeVar("T")
LAST = "last"
# The exit code of a process that Ctrl-C ended, as a shell reports it.
_INTERRUPTED = 130
# With more spooled events than this, a command waits only so long until they are stored.
BACKLOG_EVENTS, BACKLOG_SECONDS = 500, 1.0


@dataclass
class GlobalOptions:
    """The options before the command, which apply to every command."""

    data_dir: str | None = None
    config: Path | None = None

    def settings(self) -> Settings:
        return Settings.load({"data_dir": self.data_dir}, config_path=self.config)

    def require_files(self, remedy: str) -> None:
        """Refuses a command that reads the conversations' files, if they are in a database.

        Raises:
            InvalidArgument: They are.
        """
        settings = self.settings()
        if settings.store_url is not None:
            name = settings.spelling("store_url")
            raise InvalidArgument(name, "is set, and this command copies the files of a data folder", remedy)


def with_memory(options: GlobalOptions, work: Callable[[Memory], Awaitable[T]]) -> T:
    """Runs `work` with an open memory, after storing the events that agents' hooks have spooled."""
    settings = options.settings()
    log_to_stderr(settings)

    async def run() -> T:
        with exit_at_second_interrupt():
            async with open_memory(settings) as memory:
                await _drain_spool(memory, settings.data_dir)
                return await work(memory)

    return asyncio.run(run())


def record(
    options: GlobalOptions,
    action: str,
    *,
    conversation: str | None = None,
    space: str | None = None,
    target: str | None = None,
) -> None:
    """Adds a line about a command to the audit, if a team uses the data folder or the database."""
    from ctxmem_mcp.team.audit import record_local

    asyncio.run(record_local(options.settings(), action, space=space, conversation=conversation, target=target))


@contextmanager
def exit_at_second_interrupt() -> Iterator[None]:
    """Ends the process at the second Ctrl-C, without cleanup: what was acknowledged is on disk.

    The first one cancels the work. What it then waits for can't be interrupted, and a second exception raised there
    would leave threads behind for which Python waits at exit.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = signal.getsignal(signal.SIGINT)

    def handle(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))
        if callable(first):
            first(number, frame)

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is handle:
            signal.signal(signal.SIGINT, first)


async def _drain_spool(memory: Memory, data_dir: Path) -> None:
    from ctxmem_mcp.capture.spool_worker import drain

    # A backlog is not waited for. What remains of it is stored by the next command, or by a server.
    limit = None if spool.count_pending(str(data_dir)) <= BACKLOG_EVENTS else BACKLOG_SECONDS
    try:
        await asyncio.wait_for(drain(memory, data_dir, wait=True), limit)
    except TimeoutError:
        _log.warning("%d events of agents' hooks are not stored yet.", spool.count_pending(str(data_dir)))
    except Exception as error:
        _log.warning("The events spooled by agents' hooks could not be stored: %s", error)


async def resolve_conversation(memory: Memory, name: str) -> str:
    """The conversation id for an id, a unique prefix of one, or `last`: the session last active.

    Raises:
        NotFound: there is no such conversation, or none at all.
        AmbiguousId: several ids start with the name.
    """
    with suppress(NotFound):
        return (await memory.info(name)).conversation_id if name == LAST else await memory.resolve_id(name)
    page = await memory.conversations(limit=sys.maxsize)
    known = [info.conversation_id for info in page.conversations]
    if not known and page.unreadable:
        raise NotFound(f"None of {len(page.unreadable)} files can be read.", next(iter(page.unreadable.values())))
    if not known and (expired := await memory.count_expired()):
        raise NotFound(hidden_by_expiry(expired))
    if not known:
        raise NotFound("There are no conversations yet.", "`ctxmem-mcp import --all` imports your agents' sessions.")
    if name == LAST:
        return await last_session(memory) or known[0]
    raise NotFound(UnknownConversation(name).message, "`ctxmem-mcp list` prints the ids.")
