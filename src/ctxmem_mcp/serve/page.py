"""Serves the page that shows the memory in a browser, for one user on this machine."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import quote

from ctxmem_mcp.serve.logs import log_to_stderr

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

_HOST = "127.0.0.1"


def serve_page(
    settings: Settings, on_listen: Callable[[str], None], conversation_id: str | None = None, port: int = 0
) -> None:
    """Serves the page until the process is stopped by a signal.

    Args:
        settings: The settings; tokens and OAuth don't apply, for the page's address is the only way in.
        on_listen: Called with the page's address. It holds a key that works once.
        conversation_id: The conversation to show first; None for the list.
        port: The port to listen on; 0 for a free one.
    """
    from ctxmem_mcp.http_api.app import build_app
    from ctxmem_mcp.serve.http import serve_http

    log_to_stderr(replace(settings, log_level="warning"))
    key = secrets.token_urlsafe(32)
    shown = f"&c={quote(conversation_id, safe='')}" if conversation_id else ""
    app = build_app(settings, _HOST, page_key=key)
    serve_http(app, settings, _HOST, port, lambda url: on_listen(f"{url}/ui/#key={key}{shown}"))
