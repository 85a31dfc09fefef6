"""Chunks that a host wrote are flagged when they are stored."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory.commit_builder import CommitBuilder, Edge, chain_digests
from ctxmem_mcp.models import INJECTED, NewTurn
from ctxmem_mcp.stores.testing.builders import new_state
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.analyzer import Flag

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
