"""What is stored beside the conversations: usage, sent requests, sessions, groups of sessions, redactions in progress.

In files of the data folder, or in the PostgreSQL database: then a server needs no disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxmem_mcp.record_stores.base import RecordStore

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

__all__ = ["RecordStore", "open_record_store"]


def open_record_store(settings: Settings, principal: str) -> RecordStore:
    """Returns the record store that the settings name. It opens on first use.

    Args:
        settings: With the principal's data folder.
        principal: Whose records they are, in a PostgreSQL database; in files, the folder tells.

    Raises:
        InvalidArgument: The package for PostgreSQL is not installed.
    """
    if settings.store_url is None:
        from ctxmem_mcp.record_stores.files import FileRecordStore

        return FileRecordStore(settings.data_dir)
    try:
        from ctxmem_mcp.record_stores.postgres import PostgresRecordStore
    except ImportError as error:
        raise settings.missing_extra(error) from error
    return PostgresRecordStore(settings.store_url, principal, settings.store_connections)
