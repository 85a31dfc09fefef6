"""A machine with nothing on it, in a folder of the test's own: no test comes near the real home."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp.install.machine import Machine
from ctxmem_mcp.install.server_entry import Ours

COMMAND = "/opt/ctxmem/bin/ctxmem-mcp"


@pytest.fixture
def ours() -> Ours:
    return Ours(COMMAND)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    project = tmp_path / "project"
    project.mkdir()
    return Machine("linux", tmp_path / "home", project)
