"""Qwen Code as a user runs it, and its own transcript, read independently of the product's parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.agents.home import Home
from tests.agents.model import Json, Model


def set_up(path: Path, model: Model) -> Home:
    """A home in which the scripted model is the provider."""
    variables = {"OPENAI_API_KEY": "not-a-real-key", "OPENAI_BASE_URL": f"{model.url}/v1", "OPENAI_MODEL": "stub-model"}
    home = Home(path, variables)
    settings = {
        "security": {"auth": {"selectedType": "openai"}}, "model": {"name": "stub-model"},
        "privacy": {"usageStatisticsEnabled": False}, "general": {"disableAutoUpdate": True},
    }  # fmt: skip
    (home.path / ".qwen").mkdir()
    (home.path / ".qwen" / "settings.json").write_text(json.dumps(settings), "utf-8")
    home.ctxmem("install", "qwen-code")
    return home


def transcripts(home: Home) -> list[Path]:
    """The sessions' files, oldest first."""
    found = (home.path / ".qwen" / "projects").glob("*/chats/*.jsonl")
    return sorted(found, key=lambda file: file.stat().st_mtime)


def words_of(file: Path) -> Iterator[str]:
    """The texts of a session: messages, the calls' arguments, the results."""
    for line in file.read_text("utf-8").splitlines():
        for part in json.loads(line).get("message", {}).get("parts", ()):
            yield from _part(part)


def _part(part: Json) -> Iterator[str]:
    if part.get("text"):
        yield part["text"]
    elif "functionCall" in part:
        yield json.dumps(part["functionCall"]["args"], separators=(",", ":"), ensure_ascii=False)
    elif "functionResponse" in part:
        response = part["functionResponse"]["response"]
        yield response["output"] if "output" in response else response["error"]
