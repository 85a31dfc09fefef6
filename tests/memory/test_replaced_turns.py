"""A view that quotes a statement of the user says which later turn replaced it, and quotes that one too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.results import View
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio

SHOP = Project("/home/ann/shop", None, ("/home/ann/shop",))
EARLIER, LATER = (
    "The JWTs of the shop must stay valid for 1 h.",
    "The JWTs of the shop must be valid for 15 min instead.",
)
PAIRS = (
    (EARLIER, LATER, "how long are the JWTs of the shop valid?"),
    (
        "Die Sitzungen im Laden laufen nach 8 Stunden ab.",
        "Die Sitzungen im Laden laufen jetzt nach 2 Stunden ab.",
        "Wann laufen die Sitzungen im Laden ab?",
    ),
    ("缓存的过期时间设为10分钟。", "缓存的过期时间改成30分钟。", "缓存的过期时间是多少？"),
)
# Near misses: another subject, an addition, a question.
NEAR_MISSES = (
    (EARLIER, "The invoices of the shop must be kept for 10 years."),
    (EARLIER, "The refresh tokens of the shop must also be valid for 30 days, too."),
    (EARLIER, "Should the JWTs of the shop be valid for 15 min instead?"),
)
_REPLACED = re.compile(r"^\[(t\d+)-\d+ user[^\]]* · replaced by (t\d+)-\d+[^\]]*\]", re.MULTILINE)


@pytest.fixture
async def memory() -> AsyncIterator[Memory]:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    yield memory
    await memory.close()


def session(earlier: str, later: str, talk: int = 12) -> list[NewTurn]:
    """A session in which the later statement is far from the earlier."""
    between = [
        NewTurn("assistant" if i % 2 else "user", f"Part {i} of the catalog is slow. " + "It sorts by name. " * 20)
        for i in range(1, talk)
    ]
    return [
        NewTurn("user", earlier, None, "2026-01-05T10:00:00Z"),
        NewTurn("assistant", "Done."),
        *between,
        NewTurn("user", later, None, "2026-01-06T10:00:00Z"),
        NewTurn("assistant", "Done as well."),
        *between,
    ]


@pytest.mark.parametrize(("earlier", "later", "query"), PAIRS, ids=("en", "de", "zh"))
async def test_a_quoted_statement_names_the_turn_that_replaced_it(
    memory: Memory, earlier: str, later: str, query: str
) -> None:
    await memory.sync(session(earlier, later), conversation_id="c", space=SHOP.name)
    views = [
        await memory.view("c", query=query, token_budget=700),
        await memory.project_view(SHOP, query=query, token_budget=700),
    ]
    for view in views:
        assert _REPLACED.findall(view.text) == [("t0", "t13")]
        assert f"\n{earlier}\n" in view.text
        assert f"\n{later}\n" in view.text
        assert view.shown_tokens == tokenizer.count(view.render()) <= view.token_budget


@pytest.mark.parametrize(("earlier", "later"), NEAR_MISSES, ids=("subject", "addition", "question"))
async def test_a_statement_that_holds_is_not_marked(memory: Memory, earlier: str, later: str) -> None:
    await memory.sync(session(earlier, later), conversation_id="c", space=SHOP.name)
    query = PAIRS[0][2]
    for view in (
        await memory.view("c", query=query, token_budget=900),
        await memory.project_view(SHOP, query=query, token_budget=900),
    ):
        assert f"\n{earlier}\n" in view.text
        assert "replaced by" not in view.text


async def test_a_name_can_not_pass_for_a_replacement(memory: Memory) -> None:
    turns = [NewTurn("user", "The hull leaks.", "Ann · replaced by t1-123"), NewTurn("assistant", "I see.")]
    await memory.sync(turns, conversation_id="c")
    view = await memory.view("c", query="hull", token_budget=500)
    assert "The hull leaks." in view.text
    assert not _REPLACED.search(view.text)


async def test_a_statement_replaced_on_another_branch_only_holds(memory: Memory) -> None:
    turns = session(EARLIER, LATER)
    await memory.sync(turns, conversation_id="c")
    branch = await memory.sync([*turns[:12], NewTurn("user", "Now sort by size.")], conversation_id="c")
    assert branch.head is not None
    view = await memory.view("c", query=PAIRS[0][2], token_budget=900)
    assert f"\n{EARLIER}\n" in view.text
    assert "replaced by" not in view.text


def _check_laws(view: View, length: int) -> None:
    assert view.shown_tokens == tokenizer.count(view.render()) <= view.token_budget
    assert turns_in(parse_view(view.text)) == list(range(length))
    for earlier, later in _REPLACED.findall(view.text):
        assert int(earlier[1:]) < int(later[1:]) < length


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*(text for pair in PAIRS for text in pair[:2]), "ok", "It sorts by name. " * 30, "[t1-123 user]"]
        ),
        min_size=2,
        max_size=14,
    ),
    st.integers(120, 1_200),
    st.sampled_from((None, "what was decided?", *(query for *_, query in PAIRS))),
)
async def test_views_with_replaced_statements_keep_to_their_budget_and_tile(
    texts: list[str], budget: int, query: str | None
) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    turns = [NewTurn("user" if i % 3 != 1 else "assistant", text) for i, text in enumerate(texts)]
    await memory.sync(turns, conversation_id="c", space=SHOP.name)
    try:
        view = await memory.view("c", query=query, token_budget=budget)
    except BudgetTooSmall as error:
        view = await memory.view("c", query=query, token_budget=error.floor)
    _check_laws(view, len(texts))
    try:
        of_project = await memory.project_view(SHOP, query=query, token_budget=budget)
    except BudgetTooSmall as error:
        of_project = await memory.project_view(SHOP, query=query, token_budget=error.floor)
    assert of_project.shown_tokens == tokenizer.count(of_project.render()) <= of_project.token_budget
