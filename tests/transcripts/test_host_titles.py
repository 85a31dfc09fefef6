"""The titles that hosts give sessions: plain text, whatever the model that wrote them put around it."""

from __future__ import annotations

import json

import pytest

from ctxmem_mcp.transcripts import registry


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("Fix the login form", "Fix the login form"),
        ('{"title": "Fix the login form", "branch": "fix/login"}', "Fix the login form"),
        ('```json\n{"title": "Fix the login form"}\n```', "Fix the login form"),
        ('{"title": "Fix the login form", "branch": "fix/lo', "Fix the login form"),
        ("<think>A short one.</think>\n<title>Fix the login form</title>", "Fix the login form"),
        ("Title: Fix the login form", "Fix the login form"),
        ('{"branch": "fix/login"}', None),
    ],
)
def test_a_hosts_title_is_plain_text(written: str, title: str | None) -> None:
    rows = [
        {"type": "user", "uuid": "u1", "sessionId": "s1", "message": {"role": "user", "content": "Fix the login"}},
        {"type": "ai-title", "aiTitle": written, "sessionId": "s1"},
    ]
    text = "\n".join(map(json.dumps, rows))
    assert registry.parse(text, "s1.jsonl").title == title
    assert registry.parse_resumable(text, "s1.jsonl")[0].title == title
