"""Chooses the team store: beside the conversations, in the data folder or in the PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxmem_mcp.team import sqlite

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings
    from ctxmem_mcp.team.base import TeamStore


def open_team(settings: Settings) -> TeamStore:
    """Returns the team store that the settings name. It opens on first use.

    Raises:
        InvalidArgument: The package for PostgreSQL is not installed.
    """
    if settings.store_url is None:
        return sqlite.SqliteTeam(settings.data_dir)
    try:
        from ctxmem_mcp.team.postgres import PostgresTeam
    except ImportError as error:
        raise settings.missing_extra(error) from error
    return PostgresTeam(settings.store_url, settings.store_connections)


def is_configured(settings: Settings) -> bool:
    """Returns whether a principal was ever added, before a server starts.

    With a database, the one in the data folder counts as well: a server that was not open to all stays so.

    Raises:
        InvalidArgument: The store's URL can't be parsed, or its package is not installed.
        StoreUnavailable: The store can't be read.
    """
    if settings.store_url is not None:
        try:
            from ctxmem_mcp.team import postgres
        except ImportError as error:
            raise settings.missing_extra(error) from error
        if postgres.is_configured(settings.store_url):
            return True
    return sqlite.is_configured(settings.data_dir)
