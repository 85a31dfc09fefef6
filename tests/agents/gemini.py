"""Gemini CLI as a user runs it, and its own transcript, read independently of the product's parser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from tests.agents.home import Home
from tests.agents.model import Json, Model

MODEL = "gemini-2.5-flash"
# What the program and our hook add to the user's messages.
_HOST = ("<session_context>", "<hook_context>")


def set_up(path: Path, model: Model) -> Home:
    """A home in which a key is the login, and the scripted model the API."""
    home = Home(path, {"GEMINI_API_KEY": "not-a-real-key", "GOOGLE_GEMINI_BASE_URL": model.url})
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"disableAutoUpdate": True},
    }
    (home.path / ".gemini").mkdir()
    (home.path / ".gemini" / "settings.json").write_text(json.dumps(settings), "utf-8")
    home.ctxmem("install", "gemini")
    return home


def transcripts(home: Home) -> list[Path]:
    """The sessions' files, oldest first. A resume leaves one more, in which only the program's own context is."""
    found = sorted(
        (home.path / ".gemini" / "tmp").glob("*/chats/session-*.jsonl"), key=lambda file: file.stat().st_size
    )
    return list({session_of(file): file for file in found}.values())


def session_of(file: Path) -> str:
    """The id of a session."""
    return str(json.loads(file.read_text("utf-8").partition("\n")[0])["sessionId"])


def words_of(file: Path) -> Iterator[str]:
    """The texts of a session: messages, the calls' arguments, the results.

    After a resume, messages have their calls and results as parts, some of them twice and under another message's id.
    """
    messages: dict[tuple[str, str], Json] = {}
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        for message in row.get("$set", {}).get("messages", ()) or ([row] if "type" in row else ()):
            messages[message["id"], message["type"]] = message
    calls, results = set[str](), set[str]()
    for message in messages.values():
        content = message["content"]
        parts: list[Json] = [{"text": content}] if isinstance(content, str) else content
        for part in parts:
            yield from _part(part)
            yield from _call(part.get("functionCall", {}), calls)
            yield from _result(part.get("functionResponse", {}), results)
        for call in message.get("toolCalls", ()):
            yield from _call(call, calls)
            for part in call["result"]:
                yield from _result(part["functionResponse"], results)


def _part(part: Json) -> Iterator[str]:
    text = part.get("text") or ""
    if text.startswith("<hook_context>"):
        text = text.partition("</hook_context>\n\n")[2]
    if text and not text.startswith(_HOST):
        yield text


def _call(call: Json, seen: set[str]) -> Iterator[str]:
    if call and call["id"] not in seen:
        seen.add(call["id"])
        yield json.dumps(call["args"], separators=(",", ":"), ensure_ascii=False)


def _result(result: Json, seen: set[str]) -> Iterator[str]:
    if result and result["id"] not in seen:
        seen.add(result["id"])
        response = result["response"]
        yield response["output"] if "output" in response else response["error"]
