"""Claude Code as a user runs it, and its own transcript, read independently of the product's parser."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.agents.home import Home
from tests.agents.model import Model
from tests.agents.packages import CLAUDE_CODE, installed

KEY = "sk-ant-api03-not-a-real-key-0123456789"
Row = dict[str, Any]


def set_up(path: Path, model: Model) -> Home:
    """A home in which the program was started before, trusts the project and may run commands."""
    home = Home(path)
    home.variables |= {
        "ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": KEY, "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1",
        "PATH": os.pathsep.join([home.environment["PATH"], str(installed(CLAUDE_CODE).parent)]),  # for its version
    }  # fmt: skip
    trusted = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True, "allowedTools": []}
    state = {
        "hasCompletedOnboarding": True, "theme": "dark", "numStartups": 9, "lastOnboardingVersion": "2.1.332",
        "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []}, "projects": {str(home.project): trusted},
    }  # fmt: skip
    (home.path / ".claude.json").write_text(json.dumps(state), "utf-8")
    (home.path / ".claude").mkdir()
    settings = {
        "permissions": {"allow": ["Bash", "mcp__ctxmem"], "defaultMode": "default"},
        "spinnerTipsEnabled": False,
    }
    (home.path / ".claude" / "settings.json").write_text(json.dumps(settings), "utf-8")
    home.ctxmem("install", "claude-code")
    return home


def transcript_of(home: Home, session: str) -> Path:
    """The path of a session's transcript."""
    (found,) = (home.path / ".claude" / "projects").glob(f"*/{session}.jsonl")
    return found


def rows_of(file: Path) -> list[Row]:
    """The rows of a transcript."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]


def words_of(row: Row) -> Iterator[str]:
    """The texts that a row carries: what was said or thought, a call's arguments, a result."""
    message = row.get("message")
    if row.get("type") not in ("user", "assistant") or not isinstance(message, dict):
        return
    if message.get("model") == "<synthetic>":  # the program's own, not the model's
        return
    content = message.get("content")
    for block in [{"type": "text", "text": content}] if isinstance(content, str) else content or ():
        kind = block.get("type")
        if kind == "tool_use":
            yield json.dumps(block["input"], separators=(",", ":"), ensure_ascii=False)
        elif kind == "tool_result":
            yield from _result(block.get("content"))
        elif kind in ("text", "thinking") and block[kind]:
            yield block[kind]


def _result(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for part in content or ():
        yield part["text"] if part.get("type") == "text" else json.dumps(part, separators=(",", ":"))
