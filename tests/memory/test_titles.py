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
