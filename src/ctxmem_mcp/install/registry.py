"""The agents that `install` supports, by id."""

from __future__ import annotations

from ctxmem_mcp.install import claude_code, claude_desktop, cline, codex, cursor, vscode
from ctxmem_mcp.install.agent import Agent
from ctxmem_mcp.install.mcp_only import (
    AMP_AGENT,
    GOOSE_AGENT,
    JETBRAINS_AGENT,
    KILO_AGENT,
    KIRO_AGENT,
    ROO_AGENT,
    WINDSURF_AGENT,
    ZED_AGENT,
)
from ctxmem_mcp.install.terminal_agents import COPILOT_AGENT, GEMINI_AGENT, OPENCODE_AGENT, QWEN_CODE_AGENT

_KNOWN = (
    claude_code.AGENT, claude_desktop.AGENT, cursor.AGENT, cline.AGENT, vscode.AGENT, codex.AGENT, GEMINI_AGENT,
    OPENCODE_AGENT, COPILOT_AGENT, QWEN_CODE_AGENT, WINDSURF_AGENT, ZED_AGENT, JETBRAINS_AGENT, KIRO_AGENT, AMP_AGENT,
    GOOSE_AGENT, ROO_AGENT, KILO_AGENT,
)  # fmt: skip
AGENTS: dict[str, Agent] = {agent.name: agent for agent in _KNOWN}
