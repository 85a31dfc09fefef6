"""Exports: an agent or an API is given every word of the branch, in order; what people read can't do anything."""

from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.exports.formats import SUFFIXES, export_turns
from ctxmem_mcp.exports.messages import NO_RESULT
from ctxmem_mcp.models import INJECTED, THINKING, Turn
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import compact_json
from tests.cli.test_commands import EXAMPLE, Ran, run

__all__ = ["run"]

SESSION = UUID("5e55104e-0000-4000-8000-000000000001")
NOW = "2026-05-01T10:00:00.000Z"


def stored(*turns: tuple[str, str | None, str | None, str]) -> list[Turn]:
    """Returns turns of (role, name, call id, content)."""
    return [
        Turn(i + 1, i, bytes(32), role, content, name, None, call_id, 1)  # type: ignore[arg-type]
        for i, (role, name, call_id, content) in enumerate(turns)
    ]


def export(turns: list[Turn], form: str) -> str:
    return export_turns(turns, form, "A chat", SESSION, "/w", NOW).text


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=20).filter(
    lambda s: s.strip()
)


@st.composite
def conversations(draw: st.DrawFn) -> list[Turn]:
    """Talk, and rounds of calls whose results follow in any order."""
    found: list[tuple[str, str | None, str | None, str]] = [("user", None, None, "Hello.")]
    for number in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(("user", "assistant", "calls", "thinking", "injected")))
        if kind == "calls":
            ids = [f"c{number}-{i}" for i in range(draw(st.integers(1, 3)))]
            found += [("assistant", "run", id, compact_json({"command": draw(texts)})) for id in ids]
            found += [("tool", "run", id, draw(texts)) for id in draw(st.permutations(ids))]
        elif kind == "thinking":
            found.append(("assistant", THINKING, None, draw(texts)))
        elif kind == "injected":
            found.append(("system", INJECTED, None, draw(texts)))
        else:
            found.append((kind, None, None, draw(texts)))
    return stored(*found)


def words(turns: Any) -> list[tuple[str, str]]:
    """Returns what can be exported. The results of a round of calls come in the order of the calls."""
    kept = [turn for turn in turns if turn.name != THINKING and turn.role != "system"]
    return sorted((turn.role, turn.content) for turn in kept)


@pytest.mark.parametrize("form", ["openai", "anthropic", "claude-code", "codex"])
@given(turns=conversations())
def test_every_word_comes_back_from_an_export(form: str, turns: list[Turn]) -> None:
    found = registry.parse(export(turns, form), f"rollout-x{SUFFIXES[form]}")
    assert words(found.turns) == words(turns)
    said = [turn.content for turn in turns if turn.role != "tool" and turn.name != THINKING and turn.role != "system"]
    assert [turn.content for turn in found.turns if turn.role != "tool" and turn.role != "system"] == said
    waiting: dict[str | None, str] = {}
    for turn in found.turns:
        if turn.role == "assistant" and turn.call_id:
            waiting[turn.call_id] = turn.content
        elif turn.role == "tool":
            waiting.pop(turn.call_id)
        else:
            assert not waiting, "results follow their calls"


def test_a_call_without_a_result_gets_one_and_a_result_without_a_call_is_the_users_text() -> None:
    turns = stored(
        ("tool", "ls", "gone", "a.py"), ("assistant", "run", "c", "not JSON"), ("user", None, None, "Go on.")
    )
    body = json.loads(export(turns, "anthropic"))
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "[Result of ls]\na.py"}]},
        {
            "role": "assistant",
            "content": [{"type": "tool_use", "id": "call_1", "name": "run", "input": {"input": "not JSON"}}],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": NO_RESULT},
                {"type": "text", "text": "Go on."},
            ],
        },
    ]


class Elements(HTMLParser):
    """The elements of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.names.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(texts)
def test_hostile_text_is_text_on_a_page(text: str) -> None:
    hostile = f"<script>alert(1)</script></pre>{text}<img src=x onerror=y>"
    page = Elements()
    page.feed(export(stored(("user", None, None, hostile), ("tool", "<b>", "c", hostile)), "html"))
    assert not page.names & {"script", "img", "b", "iframe", "form", "link"}
    assert page.text.count(hostile) == 2


def test_a_fence_is_longer_than_those_in_the_text() -> None:
    page = export(stored(("tool", "cat", "c", "````\ncode\n````\n")), "markdown")
    assert "`````\n````\ncode\n````\n\n`````" in page


def test_a_session_is_put_where_the_agent_looks_for_it(
    run: Callable[..., Ran], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "claude"))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    run("import", str(EXAMPLE))
    for form, folder in (("claude-code", "claude/projects"), ("codex", "codex/sessions")):
        done = run("export", "last", "--as", form, "--json").json
        (file,) = (tmp_path / folder).rglob("*.jsonl")
        assert (Path(done["file"]), done["resume"].split()[-1] in file.name) == (file, True)
        assert len(registry.parse(file.read_text("utf-8"), file.name).turns) == done["turns"] > 10
    page = tmp_path / "page.html"
    assert run("export", "last", str(page), "--as", "html").code == 0
    assert run("export", "last", str(page), "--as", "html").code == 1
    assert "is one of claude-code, codex" in run("export", "last", "--as", "word").err
