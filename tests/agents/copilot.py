"""GitHub Copilot CLI as a user runs it, and its own transcript, read independently of the product's parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.agents.home import Home
from tests.agents.model import Json, Model


def set_up(path: Path, model: Model) -> Home:
    """A home in which the scripted model is the provider, without a login."""
    variables = {
        "COPILOT_OFFLINE": "1", "COPILOT_AUTO_UPDATE": "false", "COPILOT_PROVIDER_BASE_URL": f"{model.url}/v1",
        "COPILOT_PROVIDER_API_KEY": "not-a-real-key", "COPILOT_MODEL": "gpt-4.1",
    }  # fmt: skip
    home = Home(path, variables)
    home.ctxmem("install", "copilot-cli")
    return home


def transcripts(home: Home) -> list[Path]:
    """The sessions' files, oldest first."""
    found = (home.path / ".copilot" / "session-state").glob("*/events.jsonl")
    return sorted(found, key=lambda file: file.stat().st_mtime)


def session_of(file: Path) -> str:
    """The id of a session."""
    return file.parent.name


def words_of(file: Path) -> Iterator[str]:
    """The texts of a session: messages, the calls' arguments, the results."""
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield from _row(row["type"], row["data"])


def _row(kind: str, data: Json) -> Iterator[str]:
    if kind in ("user.message", "assistant.message") and data["content"]:
        yield data["content"]
    if kind == "assistant.message":
        for call in data["toolRequests"]:
            yield json.dumps(call["arguments"], separators=(",", ":"), ensure_ascii=False)
    elif kind == "tool.execution_complete":
        yield data["result"]["content"] if "result" in data else data["error"]["message"]
