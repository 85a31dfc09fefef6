"""An empty home in the test's own folder, so that no test touches the real one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp.install.host_paths import HostPaths
from ctxmem_mcp.install.server_entry import ServerCommand

COMMAND = "/opt/ctxmem/bin/ctxmem-mcp"


@pytest.fixture
def server() -> ServerCommand:
    return ServerCommand(COMMAND)


@pytest.fixture
def host(tmp_path: Path) -> HostPaths:
    project = tmp_path / "project"
    project.mkdir()
    return HostPaths("linux", tmp_path / "home", project)
