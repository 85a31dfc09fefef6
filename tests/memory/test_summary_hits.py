"""Questions that name nothing in particular: the turns of highlights are quoted, with what explains them."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.retrieval.query import asks_for_status
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.view_parser import parse_view, turns_in

pytestmark = pytest.mark.anyio

ABOUT_THE_STATUS = (
    "what is left to do?", "What's next?", "Where did we leave off?", "what is the current status of the project?",
    "What are we working on right now?", "What was the last thing we did?", "what is still unfinished", "continue",
    "catch me up", "What should I do next?",
)  # fmt: skip
ABOUT_SOMETHING = (
    "what state does the reducer hold?", "what is left in the tank?", "what was the last change to parser.go?",
    "what is the status of relay-17?", "continue the importer", "how do I resume a session", "which errors are open?",
)  # fmt: skip

PROPOSAL = (
    "There are two ways: keep the retries in the client, or move them to the queue. The queue survives a restart, the "
    "client does not, and nobody has to remember to call it. Shall I move the retries to the queue?"
)


def work(number: int) -> list[NewTurn]:
    """About 2,000 tokens without a decision."""
    return [
        NewTurn("user", f"Please look into file number {number} next."),
        NewTurn("assistant", f'{{"file_path": "/src/part{number}.py"}}', "Read", None, f"r{number}"),
        NewTurn("tool", f"def part{number}(value): return value\n" * 180, "Read", None, f"r{number}"),
        NewTurn("assistant", f"File {number} holds one function, repeated."),
    ]


@pytest.mark.parametrize("query", ABOUT_THE_STATUS)
async def test_a_question_about_the_status_is_answered_by_the_last_turns(query: str) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    last_words = "The importer is done; the exporter and its tests are what remains. " * 6
    turns = [*(turn for number in range(9) for turn in work(number)), NewTurn("assistant", last_words)]
    await memory.sync(turns, conversation_id="c")
    with_query, without_query = [await memory.view("c", query=q, token_budget=2_000) for q in (query, None)]
    assert last_words in with_query.text
    assert with_query.text == without_query.text


@pytest.mark.parametrize("query", ABOUT_SOMETHING)
def test_a_question_that_names_something_does_not_ask_for_the_status(query: str) -> None:
    assert not asks_for_status(query)


async def test_a_decision_is_quoted_with_its_proposal() -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    decided = [
        NewTurn("user", "Where should the retries live?"),
        NewTurn("assistant", PROPOSAL),
        NewTurn("assistant", "The user has to choose.", "thinking"),
        NewTurn("user", "yes"),
        NewTurn("assistant", "Moved."),
    ]
    turns = [turn for number in range(9) for turn in (work(number) if number != 3 else decided)]
    await memory.sync(turns, conversation_id="c")
    view = await memory.view("c", query="what did we decide?", token_budget=3_000)
    parts = parse_view(view.text)
    quoted = {part.first: "\n".join(part.lines) for part in parts if part.kind == "turn"}
    assert quoted[13] == PROPOSAL
    assert quoted[15] == "yes"
    assert quoted[12] == "Where should the retries live?"
    assert turns_in(parts) == list(range(len(turns)))


FAILED_CALL = [
    NewTurn("assistant", '{"command": "pytest"}', "Bash", None, "failed"),
    NewTurn(
        "tool", "Exit code 1\nFAILED tests/test_a.py::test_b - AssertionError: assert 1 == 2", "Bash", None, "failed"
    ),
    NewTurn("assistant", "One test fails."),
]


async def test_a_failed_call_leaves_room_for_the_errors_that_people_mention() -> None:
    """Without highlights of errors, ranking finds the mentions; one highlight must not replace what ranking finds."""
    mentions = [
        f"Build {number} of the relay complains again, an error about the lease of slot {number}."
        for number in range(9)
    ]
    turns = [turn for number in range(9) for turn in [*work(number), NewTurn("user", mentions[number])]]
    shown = []
    for session in (turns, [*turns, *FAILED_CALL]):
        memory = Memory(InMemoryStore(), ExtractiveSummarizer())
        await memory.sync(session, conversation_id="c")
        view = await memory.view("c", query="What errors did we encounter?", token_budget=3_000)
        assert view.shown_tokens >= 0.8 * 3_000
        shown.append(sum(mention in view.text for mention in mentions))
    assert shown[0] >= 5
    assert shown[1] >= shown[0] - 1
