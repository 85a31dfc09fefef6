"""What is forgotten is forgotten here too: no event of it waits in the spool, and its transcript is left alone."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.sync_state import FOLDER, SyncRecords

_log = logging.getLogger(__name__)


def purge_captured(data_dir: Path, conversation_ids: Collection[str]) -> None:
    """Strikes these conversations' events out of the spool and notes that their transcripts are not to be taken in
    again. A transcript that is imported by name comes back all the same."""
    try:
        waiting = spool.pending(str(data_dir))
        if waiting:
            _remove_events(waiting, conversation_ids)
        if (data_dir / FOLDER).is_dir():
            SyncRecords(data_dir).mark_gone(conversation_ids)
    except OSError as error:
        _log.warning("Events of forgotten conversations may still wait: %s", error)


def _remove_events(waiting: list[spool.SpooledEvent], conversation_ids: Collection[str]) -> None:
    from ctxmem_mcp.capture.events import parse_event
    from ctxmem_mcp.capture.importer import conversation_id_for

    for spooled in waiting:
        try:
            agent, raw, _ = spooled.read()
        except (OSError, ValueError):
            continue
        event = parse_event(agent, raw, spooled.at)
        if event is not None and conversation_id_for(event.session_id) in conversation_ids:
            spooled.remove()
