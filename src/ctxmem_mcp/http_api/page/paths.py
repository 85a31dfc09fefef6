"""The paths of the page."""

from __future__ import annotations

ROOT = "/ui"
API = f"{ROOT}/api"
SESSION_PATH = f"{API}/session"


def is_public(path: str) -> bool:
    """Returns whether a path of the page is served without a token: its files, and the exchange of a key."""
    is_file = path.startswith(f"{ROOT}/") and not path.startswith(f"{API}/")
    return is_file or path in (ROOT, SESSION_PATH)
