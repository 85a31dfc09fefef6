"""The agents that `install` supports, by id."""

from __future__ import annotations

from ctxmem_mcp.install import claude_code, claude_desktop, cline, codex, cursor, vscode
from ctxmem_mcp.install.agent import Agent

AGENTS: dict[str, Agent] = {
    module.AGENT.name: module.AGENT for module in (claude_code, claude_desktop, cursor, cline, vscode, codex)
}
