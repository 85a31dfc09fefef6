"""How long the process has been running. Imports nothing slow."""

from __future__ import annotations

import os
import time

_LOADED_AT = time.monotonic()
# A process's age that is larger was not understood.
_PLAUSIBLE_SECONDS = 3_600.0


def process_age() -> float:
    """Returns the seconds since the process started. If the system doesn't tell, since this module was loaded."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        age = -1.0
    return age if 0 <= age < _PLAUSIBLE_SECONDS else time.monotonic() - _LOADED_AT
