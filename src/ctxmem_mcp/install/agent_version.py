"""Asks an installed agent for its version: an older one rejects all hooks of a file that names an event it does not
know."""

from __future__ import annotations

import shutil
import subprocess
from functools import lru_cache

from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.patterns import lazy_regex

Version = tuple[int, ...]
SECONDS_MAX = 10.0
_NUMBERS = lazy_regex(r"\d+(?:\.\d+)+")


def installed_version(program: str, host: HostPaths) -> Version | None:
    """Returns the version of a program on the user's PATH; None if it is not there or does not print one.

    Args:
        program: the program's name.
        host: the user's environment.
    """
    path = shutil.which(program, path=host.environ.get("PATH", ""))
    return _version_of(path) if path else None


@lru_cache(maxsize=8)
def _version_of(path: str) -> Version | None:
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=SECONDS_MAX, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    found = _NUMBERS.search(done.stdout)
    return tuple(map(int, found[0].split("."))) if found and done.returncode == 0 else None
