"""Where the memories of a server's principals and shared spaces are."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ctxmem_mcp.private_files import PRINCIPALS


def tenant_folder(data_dir: Path, key: str) -> Path:
    """Returns the data folder of a principal or a shared space, by its key. A listing of folders names nobody."""
    name = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40]
    return data_dir / PRINCIPALS / name
