"""When the last event of each agent was taken from the spool: one small file beside the pending ones.

`doctor` compares it with the agents' transcripts: a transcript that grows while no event arrives means that the agent
does not call its hooks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ctxmem_mcp.capture import spool
from ctxmem_mcp.private_files import create_folder, open_new, read_file

_FILE = "arrivals.json"


def read(data_dir: Path) -> dict[str, float]:
    """Returns the time of each agent's last event, in seconds since 1970."""
    try:
        times = json.loads(read_file(data_dir / spool.FOLDER / _FILE))
    except (OSError, ValueError):
        return {}
    return {agent: at for agent, at in times.items() if isinstance(at, float)} if isinstance(times, dict) else {}


def record(data_dir: Path, latest: Mapping[str, float]) -> None:
    """Records the times of these agents' last events. Called under the drain's lock."""
    if not latest:
        return
    path = data_dir / spool.FOLDER / _FILE
    create_folder(path.parent)
    unfinished = path.with_name(f"{_FILE}.{os.getpid()}")
    unfinished.unlink(missing_ok=True)  # of a killed process that had the same number
    with os.fdopen(open_new(unfinished), "w", encoding="utf-8") as file:
        json.dump({**read(data_dir), **latest}, file)
    unfinished.replace(path)
