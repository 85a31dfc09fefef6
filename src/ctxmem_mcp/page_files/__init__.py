"""The files of the page, and the same sources as one file for hosts that show MCP Apps.

The page loads its modules one by one. An app is a single document: `app_document` joins the modules that it needs and
allows exactly them, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib import resources

from ctxmem_mcp.patterns import lazy_regex

TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# In the order in which each needs the ones before it.
_APP_MODULES = ("dom.js", "markdown.js", "view_text.js", "app.js")
_IMPORT = lazy_regex(r"^import [^;]*;\n", re.MULTILINE)
_EXPORT = lazy_regex(r"^export (?=(?:async )?function|const|class)", re.MULTILINE)


@cache
def files() -> dict[str, bytes]:
    """Returns the page's files by name. They are few and small, so they stay in memory."""
    folder = resources.files(__name__)
    return {file.name: file.read_bytes() for file in folder.iterdir() if f".{file.name.rpartition('.')[2]}" in TYPES}


@cache
def app_document() -> str:
    """Returns the document of the MCP App: script and style are inline, and its policy allows nothing else."""
    script = "\n".join(_EXPORT.sub("", _IMPORT.sub("", _text(name))) for name in _APP_MODULES)
    style = _text("page.css")
    policy = f"default-src 'none'; img-src data:; script-src '{_hash(script)}'; style-src '{_hash(style)}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>ctxmem</title>\n'
        f"<style>{style}</style>\n</head>\n"
        '<body>\n<main id="main"><p class="quiet">Waiting for the memory…</p></main>\n'
        '<p id="status" class="status" role="status" aria-live="polite"></p>\n'
        f'<script type="module">{script}</script>\n</body>\n</html>\n'
    )


def _text(name: str) -> str:
    return files()[name].decode()


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
