"""Chunks that a host wrote are flagged when they are stored."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.commit_builder import CommitBuilder, Edge, chain_digests
from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.testing.builders import new_state
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.chunk_flags import Flag

SKILL = "Base directory for this skill: /home/dev/.claude/skills/review\n\n# Review\n\nRead every file first."


@pytest.mark.parametrize(
    ("turn", "is_host"),
    [
        (NewTurn("user", "Fix the login"), False),
        (NewTurn("user", SKILL), True),
        (NewTurn("user", "<system-reminder>be brief and polite in all you write</system-reminder>\nFix it"), True),
        (NewTurn("user", "<command-args>Fix the login form of the web page please</command-args>"), False),
        (NewTurn("system", "You may read these folders", INJECTED), True),
        (NewTurn("assistant", SKILL), False),
    ],
)
def test_a_chunk_of_host_text_is_flagged(turn: NewTurn, is_host: bool) -> None:
    builder = CommitBuilder(new_state(), Edge(), ExtractiveSummarizer(), now=0.0)
    builder.add([turn], chain_digests([turn], b"", b""))
    flags = {bool(stored.piece.flags & Flag.HOST) for stored in builder.build(None).commit.pieces}
    assert flags == {is_host}


COMMAND = "<command-name>/compact</command-name>\n<command-message>compact</command-message>\n"


@pytest.mark.anyio
@pytest.mark.parametrize("layout", ["tree", "stable"])
@pytest.mark.parametrize(
    ("content", "label"),
    [
        (COMMAND, "user injected]"),
        (SKILL, "user injected]"),
        (f"{COMMAND}<command-args>Keep the port 7412.</command-args>", "user]"),
        ("What does <command-name> mean?", "user]"),
    ],
)
async def test_a_view_does_not_call_a_hosts_text_the_users(layout: str, content: str, label: str) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    done = await memory.sync([NewTurn("user", content), NewTurn("assistant", "Yes.")], conversation_id="c")
    short = "-".join(part[: 3 if i else None] for i, part in enumerate(done.turn_ids[0].split("-")))
    assert f"[{short} {label}" in (await memory.view("c", layout=layout)).text
