"""Questions that name nothing: what summaries tell of is opened, with what it needs to be understood."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.retrieval.query import asks_for_status
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.view_parser import read, told

pytestmark = pytest.mark.anyio

AT_THE_END = (
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
    """About 2,000 tokens in which nothing is decided."""
    return [
        NewTurn("user", f"Please look into file number {number} next."),
        NewTurn("assistant", f'{{"file_path": "/src/part{number}.py"}}', "Read", None, f"r{number}"),
        NewTurn("tool", f"def part{number}(value): return value\n" * 180, "Read", None, f"r{number}"),
        NewTurn("assistant", f"File {number} holds one function, repeated."),
    ]


@pytest.mark.parametrize("query", AT_THE_END)
async def test_how_far_things_have_come_is_answered_by_what_was_said_last(query: str) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    said = "The importer is done; the exporter and its tests are what remains. " * 6
    turns = [*(turn for number in range(9) for turn in work(number)), NewTurn("assistant", said)]
    await memory.sync(turns, conversation_id="c")
    asked, bare = [await memory.view("c", query=q, token_budget=2_000) for q in (query, None)]
    assert said in asked.text
    assert asked.text == bare.text


@pytest.mark.parametrize("query", ABOUT_SOMETHING)
def test_a_question_that_names_something_does_not_ask_for_the_end(query: str) -> None:
    assert not asks_for_status(query)


async def test_a_decision_comes_with_what_was_proposed() -> None:
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
    parts = read(view.text)
    quoted = {part.first: "\n".join(part.words) for part in parts if part.kind == "turn"}
    assert quoted[13] == PROPOSAL
    assert quoted[15] == "yes"
    assert quoted[12] == "Where should the retries live?"
    assert told(parts) == list(range(len(turns)))
