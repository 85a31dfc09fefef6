"""Forgets captured data along with its conversation: pending events are deleted, and the transcript is ignored."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.sync_state import FOLDER, SyncRecords

_log = logging.getLogger(__name__)


def purge_captured(data_dir: Path, conversation_ids: Collection[str]) -> None:
    """Deletes these conversations' events from the spool and records that their transcripts must not be stored again.

    Importing a transcript by name still brings it back. An error is logged, for the conversations are already gone.
    """
    try:
        pending = spool.pending(str(data_dir))
        if pending:
            _remove_events(pending, conversation_ids)
        if (data_dir / FOLDER).is_dir():
            SyncRecords(data_dir).mark_gone(conversation_ids)
    except OSError as error:
        _log.warning("Events of forgotten conversations may remain in the spool: %s", error)


def _remove_events(pending: list[spool.SpooledEvent], conversation_ids: Collection[str]) -> None:
    from ctxmem_mcp.capture.events import parse_event
    from ctxmem_mcp.capture.importer import conversation_id_for

    for spooled in pending:
        try:
            agent, raw, _ = spooled.read()
        except (OSError, ValueError):
            continue
        event = parse_event(agent, raw, spooled.at)
        if event is not None and conversation_id_for(event.session_id) in conversation_ids:
            spooled.remove()
