"""Codex as a user runs it, and its own transcript, read independently of the product's parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.agents.home import Home
from tests.agents.model import Json, Model, text_of

# What Codex adds to the user's messages on its own.
_HOST = ("<environment_context>", "# AGENTS.md", "<user_instructions>", "<permissions", "<skills_instructions>")


def set_up(path: Path, model: Model) -> Home:
    """A home whose configuration names the scripted model."""
    home = Home(path, {"STUB_KEY": "not-a-real-key"})
    config = f"""\
model = "stub-model"
model_provider = "stub"
check_for_update_on_startup = false

[analytics]
enabled = false

[model_providers.stub]
name = "Stub"
base_url = "{model.url}/v1"
wire_api = "responses"
env_key = "STUB_KEY"

[projects."{home.project}"]
trust_level = "trusted"
"""
    (home.path / ".codex").mkdir()
    (home.path / ".codex" / "config.toml").write_text(config, "utf-8")
    home.ctxmem("install", "codex")
    return home


def transcripts(home: Home) -> list[Path]:
    """The rollouts, oldest first."""
    return sorted((home.path / ".codex" / "sessions").rglob("rollout-*.jsonl"))


def rows_of(file: Path) -> list[Json]:
    """The items of a rollout that the model sees."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    return [row["payload"] for row in rows if row["type"] == "response_item"]


def announced(file: Path) -> set[str]:
    """All texts in the rows that are events. Of a killed agent's answer a rollout may have nothing else."""
    rows = [json.loads(line) for line in file.read_text("utf-8").splitlines() if line.strip()]
    return {text for row in rows if row["type"] == "event_msg" for text in _strings(row["payload"])}


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _strings(inner)


def words_of(item: Json) -> Iterator[str]:
    """The texts that an item carries, without what the host adds."""
    kind = item["type"]
    if kind == "message" and item["role"] in ("user", "assistant"):
        text = text_of(item["content"])
        if not text.startswith(_HOST):
            yield text
    elif kind == "function_call":
        yield item["arguments"]
    elif kind == "function_call_output":
        output = item["output"]
        yield output if isinstance(output, str) else text_of(output)
