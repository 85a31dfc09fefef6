"""opencode as a user runs it, and its own database, read independently of the product's parser."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from tests.agents.home import Home
from tests.agents.model import Json, Model


def set_up(path: Path, model: Model) -> Home:
    """A home in which the scripted model is the only provider."""
    home = Home(path, {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"})
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Stub",
        "options": {"baseURL": f"{model.url}/v1", "apiKey": "not-a-real-key"},
        "models": {"stub-model": {"name": "stub-model"}},
    }
    config = {"model": "stub/stub-model", "autoupdate": False, "share": "disabled", "provider": {"stub": provider}}
    folder = home.path / ".config" / "opencode"
    folder.mkdir(parents=True)
    (folder / "opencode.json").write_text(json.dumps(config), "utf-8")
    home.ctxmem("install", "opencode")
    return home


def _rows(home: Home, query: str, *values: str) -> list[tuple[str, ...]]:
    file = home.path / ".local" / "share" / "opencode" / "opencode.db"
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as database:
        return database.execute(query, values).fetchall()


def sessions(home: Home) -> list[str]:
    """The sessions' ids, oldest first."""
    return [id for (id,) in _rows(home, "SELECT id FROM session ORDER BY time_created")]


def words_of(home: Home, session: str) -> Iterator[str]:
    """The texts of a session: messages, the calls' arguments, the results."""
    query = "SELECT data FROM part WHERE session_id = ? ORDER BY message_id, id"
    for (data,) in _rows(home, query, session):
        yield from _part(json.loads(data))


def _part(part: Json) -> Iterator[str]:
    if part["type"] in ("text", "reasoning") and not part.get("synthetic"):
        if part["text"]:  # a killed answer has none
            yield part["text"]
    elif part["type"] == "tool":
        state = part["state"]
        yield json.dumps(state["input"], separators=(",", ":"), ensure_ascii=False)
        if "output" in state or "error" in state:
            yield state.get("output") or state.get("error")
