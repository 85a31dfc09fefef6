"""Exports that an agent goes on with: the exported words are in its next request, once and in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tests.agents import claude_code, codex
from tests.agents.home import Home
from tests.agents.model import Json, Model, say
from tests.agents.packages import CLAUDE_CODE, CODEX, installed
from tests.agents.test_codex import OPTIONS

CALL = {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": '{"path":"relay.toml"}'}}
MESSAGES: list[Json] = [
    {"role": "user", "content": "Which port does the relay listen on?"},
    {"role": "assistant", "content": "I look it up.", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_1", "content": "port = 7412  # äöü 🎉"},
    {"role": "assistant", "content": "It listens on 7412."},
]
WORDS = [message["content"] for message in MESSAGES]


def exported(home: Home, form: str) -> str:
    """Imports the messages, and exports them into the agent's own folder; returns the new session's id."""
    file = home.path / "messages.json"
    file.write_text(json.dumps(MESSAGES), "utf-8")
    home.ctxmem("import", str(file))
    resume = json.loads(home.ctxmem("export", "last", "--as", form, "--json"))["resume"]
    return str(resume).split()[-1]


def assert_words_in_order(text: str, words: Sequence[str]) -> None:
    places = [text.find(json.dumps(word, ensure_ascii=False)[1:-1]) for word in words]
    assert -1 not in places, places
    assert places == sorted(places)


def test_claude_code_resumes_an_export(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    session = exported(home, "claude-code")
    model.replies.append([say("On port 7412.")])
    home.run([installed(CLAUDE_CODE), "-p", "--resume", session, "Say it again."])
    sent = json.dumps(model.main_requests[-1].body["messages"], ensure_ascii=False)
    assert_words_in_order(sent, [*WORDS, "Say it again."])


def test_codex_resumes_an_export(tmp_path: Path, model: Model) -> None:
    home = codex.set_up(tmp_path / "home", model)
    session = exported(home, "codex")
    model.replies.append([say("On port 7412.")])
    home.run([installed(CODEX), "exec", "resume", session, *OPTIONS, "Say it again."])
    sent = json.dumps(model.main_requests[-1].body["input"], ensure_ascii=False)
    assert_words_in_order(sent, [*WORDS, "Say it again."])
