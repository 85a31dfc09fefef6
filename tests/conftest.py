"""Shared by all tests: asyncio as the only backend, one hypothesis profile, the folder of real data."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# Hundreds of tests start processes: the modules are compiled once, not by each of them.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Shrinking takes minutes: worth it on a desk (CTXMEM_SHRINK=1), not in CI. The seed is printed either way.
_PHASES = tuple(Phase) if os.environ.get("CTXMEM_SHRINK") else (Phase.explicit, Phase.reuse, Phase.generate)
settings.register_profile(
    "ctxmem",
    deadline=None,
    max_examples=int(os.environ.get("CTXMEM_EXAMPLES", "40")),
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    phases=_PHASES,
)
settings.load_profile("ctxmem")


def pytest_xdist_auto_num_workers() -> int:
    """Returns the workers of `-n auto`: half as many again as cores: tests also wait for disks and processes.

    On two cores the suite takes a sixth less time with three.
    """
    cores = os.cpu_count() or 1
    return cores + cores // 2


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def eval_dir() -> Path:
    """Returns the folder of real conversations (see 'Measured' in the README); skips the test if there is none."""
    given = os.environ.get("CTXMEM_EVAL_DIR")
    if not given:
        pytest.skip("CTXMEM_EVAL_DIR is not set; the README says where to get the data")
    return Path(given)
