"""The service as a process with a port of its own."""

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
    """A running server's address and process; ended by whoever started it, or killed."""
    import json

    flags = {"data_dir": str(data), "log_level": "info", **settings}
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, json.dumps(flags)], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    ) as process:
        try:
            assert process.stderr is not None
            said = re.search(r"http://127\.0\.0\.1:\d+", process.stderr.readline())
            assert said is not None
            yield said[0], process
        finally:
            process.kill()


@contextmanager
def served(data: Path, **settings: object) -> Iterator[str]:
    """Its address, while it runs. Whatever it logs is read, so that it never waits for that."""
    import threading

    with started(data, **settings) as (base, process):
        assert process.stderr is not None
        reader = threading.Thread(target=process.stderr.read)
        reader.start()
        yield base
        process.terminate()
        process.wait(timeout=20)
        reader.join()
