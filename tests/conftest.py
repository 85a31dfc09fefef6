"""What all tests share: asyncio as the only backend, one hypothesis profile, where real data lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

# Shrinking is worth its minutes at a desk (CTXMEM_SHRINK=1), not in CI: the seed is printed either way.
_PHASES = tuple(Phase) if os.environ.get("CTXMEM_SHRINK") else (Phase.explicit, Phase.reuse, Phase.generate)
settings.register_profile(
    "ctxmem",
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    phases=_PHASES,
)
settings.load_profile("ctxmem")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def eval_dir() -> Path:
    """The folder of real conversations (README: 'Measured'), or the test steps aside."""
    given = os.environ.get("CTXMEM_EVAL_DIR")
    if not given:
        pytest.skip("CTXMEM_EVAL_DIR is not set: README says where anyone gets the data")
    return Path(given)
