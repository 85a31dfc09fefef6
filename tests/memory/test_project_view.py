"""The view of a project: all its conversations within one budget, each shown one tiled, nothing left out silently."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctxmem_mcp.errors import AmbiguousId, BudgetTooSmall, NotFound, UnknownConversation
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import View
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer

pytestmark = pytest.mark.anyio

SHOP = Project("/home/ann/shop", None, ("/home/ann/shop",))
NOW = 1_800_000_000.0
_SESSION = re.compile(r"^\[s (\S+) (?:\S+ )?(\S+) (\d+) turns \S+\]", re.MULTILINE)
_GAP = re.compile(r"^\[… (\d+) sessions? ", re.MULTILINE)


@pytest.fixture(params=["in memory", "sqlite"])
async def memory(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Memory]:
    store = InMemoryStore() if request.param == "in memory" else SqliteStore(tmp_path, durability="normal")
    memory = Memory(store, ExtractiveSummarizer(), clock=lambda: NOW)
    yield memory
    await memory.close()


async def store_session(memory: Memory, number: int, *texts: str, space: str = "/home/ann/shop") -> None:
    turns = [
        NewTurn("assistant" if i % 2 else "user", text, None, f"2026-01-{number + 1:02}T10:{i:02}:00Z")
        for i, text in enumerate(texts)
    ]
    await memory.sync(turns, conversation_id=f"session-{number}", space=space)


async def fill(memory: Memory, sessions: int = 12) -> None:
    for number in range(sessions):
        texts = [f"Please change part {number} of the shop, step {i}. " + "It is slow today. " * 9 for i in range(30)]
        if number == 4:
            texts[20] = "From the zeppelin we decided to keep the JWT for 15 minutes."
        texts[-1] = f"All tests of part {number} pass."
        await store_session(memory, number, *texts)
    await store_session(memory, 27, "The zeppelin of another project.", space="/home/ann/shopping")


def check_laws(view: View, sessions: int) -> list[str]:
    """Returns the ids of the sessions that have a line. Every other one is counted in a gap, in the order of time."""
    assert view.shown_tokens == tokenizer.count(view.render()) <= view.token_budget
    shown = _SESSION.findall(view.text)
    assert len(shown) + sum(int(number) for number in _GAP.findall(view.text)) == sessions
    assert [day for day, _, _ in shown] == sorted(day for day, _, _ in shown)
    return [conversation for _, conversation, _ in shown]


async def test_the_session_that_answers_is_quoted_and_the_others_are_in_outline(memory: Memory) -> None:
    await fill(memory)
    view = await memory.project_view(SHOP, query="how long does the JWT of the zeppelin live?", token_budget=3_000)
    shown = check_laws(view, 12)
    assert "From the zeppelin we decided to keep the JWT for 15 minutes." in view.text
    assert "session-4" in shown
    assert "another project" not in view.text
    header = json.loads(view.header)
    assert (header["project"], header["conversations"], header["conversation_id"]) == (SHOP.name, 12, None)


async def test_the_ids_in_it_open_what_they_stand_for(memory: Memory) -> None:
    await fill(memory)
    view = await memory.project_view(SHOP, query="JWT of the zeppelin", token_budget=3_000)
    (part,) = re.findall(r"^\[s \S+ session-4 [^\n]*\n(?: ended[^\n]*\n)?((?:(?!\[s |\[… \d).*\n)+)", view.text, re.M)
    covered: list[int] = []
    for first, last in re.findall(r"^\s*\[(?:… )?[tn](\d+)(?:-t?(\d+))?[- \]]", part, re.M):
        is_turn = re.search(rf"^\s*\[t{first}-{last} (?:user|assistant)", part, re.M) or not last
        covered += [int(first)] if is_turn else range(int(first), int(last) + 1)
    assert covered == list(range(30))
    opened = await memory.expand("session-4", "t20")
    assert "15 minutes" in opened.text


async def test_without_a_question_it_shows_how_the_newest_sessions_ended(memory: Memory) -> None:
    await fill(memory)
    view = await memory.project_view(SHOP, token_budget=2_000)
    check_laws(view, 12)
    assert "All tests of part 11 pass." in view.text
    assert "ended: All tests of part" in view.text


async def test_without_a_question_it_quotes_requests_and_outcomes_not_the_output_of_tools(memory: Memory) -> None:
    fixture = "".join(f'{{"id": {i}, "fixture": "row {i} of the table"}}\n' for i in range(400))
    turns = [
        NewTurn("user", "Make the zeppelin's import accept rows without a date."),
        NewTurn("assistant", "cat rows.json", call_id="1", name="Bash"),
        NewTurn("tool", fixture, call_id="1", name="Bash"),
        NewTurn("assistant", "The import accepts rows without a date now; the tests pass."),
        NewTurn("user", "thanks"),
        NewTurn("assistant", "cat rows.json", call_id="2", name="Bash"),
        NewTurn("tool", fixture[:3_000], call_id="2", name="Bash"),
    ]
    await memory.sync(turns, conversation_id="imports", space="/home/ann/shop")
    view = await memory.project_view(SHOP, token_budget=2_000)
    check_laws(view, 1)
    assert "user]\nMake the zeppelin's import accept rows" in view.text
    assert "the tests pass." in view.text
    assert "row 7 of the table" not in view.text


async def test_copies_of_a_session_are_quoted_once(memory: Memory) -> None:
    for number in range(3):
        await store_session(memory, 7, "The zeppelin leaks.", "It is the hull.") if not number else None
        turns = [
            NewTurn("user", "The zeppelin leaks.", None, "2026-01-08T10:00:00Z"),
            NewTurn("user", f"go on {number}"),
        ]
        await memory.sync(turns, conversation_id=f"copy-{number}", space="/home/ann/shop")
    view = await memory.project_view(SHOP, query="zeppelin leaks", token_budget=2_000)
    assert view.text.count("The zeppelin leaks.") <= 2  # once quoted, once perhaps in a title


async def test_a_file_that_every_session_read_is_quoted_once_unless_there_is_room(memory: Memory) -> None:
    source = "".join(
        f"def part_{word}(zeppelin): return zeppelin.{word}\n" for word in ("hull", "keel", "mast", "rope")
    )
    for number in range(6):
        turns = [
            NewTurn("user", f"Change part {number}.", None, f"2026-01-{number + 1:02}T10:00:00Z"),
            NewTurn("tool", source * 2 + f"# read {number}\n", "Read", call_id="1"),
            NewTurn("assistant", f"The zeppelin's hull has rivet {'abcdef'[number]} now. " + "It holds. " * 40),
        ]
        await memory.sync(turns, conversation_id=f"session-{number}", space="/home/ann/shop")
    view = await memory.project_view(
        SHOP, query="the parts of the zeppelin: hull, keel, mast, rope", token_budget=1_200
    )
    check_laws(view, 6)
    assert view.text.count("def part_keel") <= 4
    assert view.text.count("hull has rivet") >= 4


async def test_a_project_without_conversations_is_named_in_the_error(memory: Memory) -> None:
    await fill(memory, 2)
    with pytest.raises(NotFound, match="/home/bob"):
        await memory.project_view(Project("/home/bob", None, ("/home/bob",)))
    with pytest.raises(BudgetTooSmall) as error:
        await memory.project_view(SHOP, token_budget=60)
    view = await memory.project_view(SHOP, token_budget=error.value.floor)
    check_laws(view, 2)


async def test_a_brief_of_a_project_has_the_newest_session_and_names_the_others(memory: Memory) -> None:
    await fill(memory)
    brief = await memory.project_hand_off(SHOP, token_budget=2_000, note="Mind the hull.")
    assert "Mind the hull." in brief.text
    assert "session-11" in check_laws(brief, 12)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.lists(
            st.sampled_from(("zeppelin", "hull " * 40, "[s 2026 forged 1 turns 2]\n[… 9 sessions", "ok")), min_size=1
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(150, 2_500),
    st.sampled_from((None, "the zeppelin", "hull", "nothing of it")),
)
async def test_no_view_exceeds_its_budget_and_every_session_is_accounted_for(
    sessions: list[list[str]], budget: int, query: str | None
) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer(), clock=lambda: NOW)
    for number, texts in enumerate(sessions):
        await store_session(memory, number, *texts)
    try:
        view = await memory.project_view(SHOP, query=query, token_budget=budget)
    except BudgetTooSmall as error:
        view = await memory.project_view(SHOP, query=query, token_budget=error.floor)
    assert view.shown_tokens == tokenizer.count(view.render()) <= view.token_budget
    lines = [line for line in view.text.splitlines() if line.startswith("[s 2026-01")]
    assert len(lines) <= len(sessions)


async def test_long_ids_are_shortened_and_open_their_sessions(memory: Memory) -> None:
    ids = [f"0bb9a2d{number}-a51e-4d5a-8275-566c766a0ff2" for number in range(3)]
    for one in ids:
        turns = [NewTurn("user", f"The zeppelin {one[:8]} leaks.", None, "2026-01-03T10:00:00Z")]
        await memory.sync(turns, conversation_id=one, space="/home/ann/shop")
    await store_session(memory, 5, "The garden is dry.", space="/home/ann/shopping")
    for view in (await memory.project_view(SHOP, query="zeppelin"), await memory.project_view(SHOP)):
        shown = check_laws(view, 3)
        assert shown
        assert all(one in [whole[:8] for whole in ids] for one in shown)
        assert [await memory.resolve_id(one) for one in shown] == [
            whole for one in shown for whole in ids if whole.startswith(one)
        ]
    assert check_laws(await memory.project_view(SHOP, query="zeppelin", short_ids=False), 3)[0] in ids
    with pytest.raises(AmbiguousId, match=rf"'0bb9a2d' matches more than one id: {ids[0]}, {ids[1]}, {ids[2]}"):
        await memory.resolve_id("0bb9a2d")
    with pytest.raises(UnknownConversation):
        await memory.resolve_id("0bb9a2d9-a51")


async def test_how_a_session_ended_is_shown_without_the_marks_of_markdown(memory: Memory) -> None:
    ended = "---\n\n## Summary\n\n**All** tests of `a*b` pass:\n\n***\n> quoted\n- one\n### 2 **left**\n- # of rows\n"
    await store_session(memory, 1, "Please repair the zeppelin.", ended)
    view = await memory.project_view(SHOP, token_budget=2_000)
    assert " ended: Summary: All tests of `a*b` pass: quoted - one 2 left: - # of rows\n" in view.text
