"""A conversation's title, which people see first: something that its user asked for."""

from __future__ import annotations

import pytest

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

pytestmark = pytest.mark.anyio

REQUEST = "Please rename the retry option of the uploader."
TITLE = "Rename the retry option of the uploader"
COMMAND = "<command-name>/mode</command-name><command-message>mode</command-message><command-args></command-args>"
PICTURE = '{"type":"input_image","image_url":null,"detail":"auto"}'


@pytest.mark.parametrize(
    "before",
    [
        [NewTurn("user", "/mode"), NewTurn("system", "Request was aborted", "injected")],
        [NewTurn("user", COMMAND)],
        [NewTurn("user", PICTURE)],
        [NewTurn("system", "You are an autonomous programmer. " * 300, "injected")],
        [],
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_the_title_is_the_first_informative_request(before: list[NewTurn], at_once: bool) -> None:
    turns = [*before, NewTurn("user", REQUEST), NewTurn("assistant", "The option is called attempts now.")]
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    for count in [len(turns)] if at_once else range(1, len(turns) + 1):
        await memory.sync(turns[:count], conversation_id="c")
    assert (await memory.info("c")).title == TITLE


def call(name: str, content: str) -> list[NewTurn]:
    return [
        NewTurn("assistant", '{"command":"show"}', name, call_id="c1"),
        NewTurn("tool", content, name, call_id="c1"),
    ]


ISSUE = """We're currently solving the following issue within our repository. Here's the issue text:
ISSUE:
Uploads are retried twice
Hi there! I found that every upload is sent again.

INSTRUCTIONS:
Now, you're going to solve this issue on your own. Edit all the files you need to and run any checks or tests that you
want. Remember, YOU CAN ONLY ENTER ONE COMMAND AT A TIME.
"""
PULL = "## Context\n\n- Current pull request status: title:\tRetries of uploads\nstate:\tOPEN\nauthor:\tann\n"
LATER = [NewTurn("user", "Now remove the import in `upload.py`."), NewTurn("assistant", "I removed it. " * 300)]
SHOWN = "○ shop-4te [EPIC] · Retries of uploads   [P1 · OPEN]\nOwner: Ann"
CLOSING = "All done. The entire **shop-4te** epic (Retries of uploads) is complete. Here's a summary."
REFERENCE = [NewTurn("user", "Work on bead shop-4te. Run bd show shop-4te to see the issue details.")]


@pytest.mark.parametrize(
    ("turns", "title"),
    [
        ([NewTurn("user", ISSUE)], "Uploads are retried twice"),
        ([NewTurn("user", PULL)], "Retries of uploads"),
        ([NewTurn("user", "You are implementing Task 3: Add retries\n\n## Task Description\nx.")], "Add retries"),
        (
            [NewTurn("user", "**Task:** Remove retries of uploads\n\n**Context:** They fail.")],
            "Remove retries of uploads",
        ),
        (
            [
                NewTurn(
                    "user", "You are reviewing whether it matches.\n\n## Requested\n\n**Task 1: Add retries**\n\nDo it."
                )
            ],
            "Review Task 1: Add retries",
        ),
        ([NewTurn("user", "Implement the following plan:\n\n# Plan: Improve the output\n\nx")], "Improve the output"),
        ([NewTurn("user", "What can you say about this package?"), NewTurn("user", REQUEST)], TITLE),
        (REFERENCE, "Work on bead shop-4te"),
        ([*REFERENCE, *call("Bash", SHOWN)], "Retries of uploads (shop-4te)"),
        ([*REFERENCE, *call("Bash", "[main 64f1b9a] feat: retry uploads (shop-4te)\n")], "Retry uploads (shop-4te)"),
        ([*REFERENCE, NewTurn("assistant", CLOSING)], "Retries of uploads (shop-4te)"),
        ([NewTurn("user", REQUEST), NewTurn("assistant", CLOSING)], TITLE),
        ([NewTurn("user", "[REDACTED_TEXT len=225 sha=f1c9b7b8]")], ""),
        ([turn for _ in range(30) for turn in call("Bash", "[REDACTED_TEXT len=225] " * 100)], ""),
    ],
)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_conversation_is_called_what_a_person_would_call_it(
    turns: list[NewTurn], title: str, at_once: bool
) -> None:
    """The title of an issue, a plan or a task; never boilerplate, a call's name or a detail of what followed."""
    turns = [*turns, *LATER * 3] if title else turns
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    for count in [len(turns)] if at_once else range(1, len(turns) + 1):
        await memory.sync(turns[:count], conversation_id="c")
    assert (await memory.info("c")).title == title


@pytest.mark.parametrize(
    ("said", "title"),
    [
        ("The deploy key is in the vault.", "“The deploy key is in the vault”"),
        ("Fix it", "“Fix it”"),
        ("hi there, how are you?", ""),
    ],
)
async def test_what_the_user_says_is_the_title_until_a_request_names_the_work(said: str, title: str) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.append(NewTurn("user", said), conversation_id="c")
    assert (await memory.info("c")).title == title
    await memory.append(NewTurn("user", REQUEST), conversation_id="c")
    assert (await memory.info("c")).title == TITLE


async def test_a_closing_about_something_whose_name_is_in_a_word_of_the_title_does_not_replace_it() -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    await memory.append(NewTurn("user", "Fix the mapping of user ids in the importer."), conversation_id="c")
    before = (await memory.info("c")).title
    closing = "The whole app migration (moved to React 19) is complete."
    await memory.append(NewTurn("assistant", closing), conversation_id="c")
    assert (await memory.info("c")).title == before
