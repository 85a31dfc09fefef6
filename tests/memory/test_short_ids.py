"""Shortened conversation ids: as short as they may be, and never of another conversation."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.memory.short_ids import SHORT_CHARS_MIN, WHOLE_CHARS_MAX, ShortIds
from ctxmem_mcp.models import OF_AGENT

_IDS = st.text("ab:-.", min_size=1, max_size=24).filter(lambda one: one[0] in "ab")


@given(st.lists(_IDS, min_size=1, max_size=30, unique=True))
def test_a_shortened_id_means_its_own_conversation(ids: list[str]) -> None:
    short = ShortIds(ids)
    for one in ids:
        beginning = short.shorten(one)
        assert one.startswith(beginning)
        assert beginning == one if len(one) <= WHOLE_CHARS_MAX else len(beginning) >= SHORT_CHARS_MIN
        assert beginning == one or (
            beginning not in ids and short.matching(beginning) == short.matching_shortened(beginning) == [one]
        )
        others = ShortIds(other for other in ids if other != one)
        agents = {other for other in ids if other.startswith(one + OF_AGENT)}
        assert agents.isdisjoint(others.matching_shortened(one))


def test_ids_are_as_long_as_they_must_be() -> None:
    session = "0bb9a2d9-a51e-4d5a-8275-566c766a0ff2"
    ids = [session, f"{session}:agent-1", f"{session}:agent-2", "0bb9a2d9-a5", "task", "019a0000-1", "019a0000-2"]
    short = ShortIds([*ids, "0bb9b000-a51e-4d5a-8275-566c766a0ff2", "fix-the-parser-1", "fix-the-parser-12345"])
    assert short.shorten(session) == "0bb9a2d9-a51"
    assert short.shorten("0bb9b000-a51e-4d5a-8275-566c766a0ff2") == "0bb9b000"
    assert short.shorten(f"{session}:agent-1") == f"{session}:agent-1"
    assert short.shorten("task") == "task"
    assert short.shorten("fix-the-parser-12345") == "fix-the-parser-12"
    assert short.matching("0bb9a2d9-a51e") == [session]
    assert short.matching("019a") == ["019a0000-1", "019a0000-2"]
    assert short.matching("nothing") == []
