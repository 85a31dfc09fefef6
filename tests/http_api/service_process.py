"""The service as a process with its own port."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVE = """
import json, sys
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import Settings
serve(Settings.load(json.loads(sys.argv[1]), {}), "http", "127.0.0.1", 0)
"""


@contextmanager
def started(data: Path, **settings: object) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Starts a server; yields its URL and process, which is killed if the block does not stop it."""
    import json

    flags = {"data_dir": str(data), "log_level": "info", **settings}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, json.dumps(flags)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        try:
            assert process.stderr is not None
            match = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert match is not None
            yield match[0], process
        finally:
            process.kill()


@contextmanager
def served(data: Path, **settings: object) -> Iterator[str]:
    """Runs a server inside the block; yields its URL. Its log is read all the time, so that it never blocks on it."""
    import threading

    with started(data, **settings) as (base, process):
        assert process.stderr is not None
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        yield base
        process.terminate()
        process.wait(timeout=100)
        reader.join()
