"""The page that shows the memory in a browser: static files under /ui, and the JSON that they read under /ui/api.

/ui/                            the page; public, for it contains no data
/ui/api/session                 exchanges the one-time key of `ctxmem-mcp open` for the page's token
/ui/api/conversations...        reads
/ui/api/project/...             reads of all conversations of a folder
/ui/api/conversations/ID/...    changes; they need the token of the page
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxmem_mcp.http_api.page import changes, project_reads, reads, sent_reads, static_files
from ctxmem_mcp.http_api.page.access import PageAccess

if TYPE_CHECKING:
    from starlette.routing import Route

    from ctxmem_mcp.http_api.deps import Deps


def build_routes(deps: Deps, access: PageAccess) -> list[Route]:
    """Returns the routes of the page.

    Args:
        deps: The server's dependencies.
        access: Who may use the page.
    """
    return [
        *static_files.routes(),
        *access.routes(),
        *reads.routes(deps),
        *project_reads.routes(deps),
        *sent_reads.routes(deps),
        *changes.routes(deps, access),
    ]
