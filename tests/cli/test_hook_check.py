"""The event with which `doctor` tries a hook is one that the agent sends, so that it is stored."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from ctxmem_mcp.cli import hook_check
from ctxmem_mcp.cli.options import HOOK_AGENTS
from ctxmem_mcp.install.host_paths import HostPaths


@pytest.mark.parametrize("agent", HOOK_AGENTS)
def test_the_event_of_doctor_is_stored_for_every_agent(agent: str, tmp_path: Path) -> None:
    host = HostPaths("linux", tmp_path, tmp_path, dict(os.environ))
    assert hook_check._probe(agent, [sys.executable, "-m", "ctxmem_mcp", "hook", agent], host) == ""
