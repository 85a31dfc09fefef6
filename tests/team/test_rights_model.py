"""Random principals, spaces, rights and operations: nobody sees or changes what the rights of a model do not permit.

The quick form runs in this process; one history runs against a server process whose rights other processes change.
"""

from __future__ import annotations

import json
import random
import re
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httpx2
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import TOKEN_KIND, Right
from ctxmem_mcp.team.sqlite import SqliteTeam
from tests.http_api.service_process import served
from tests.http_api.test_principals import call
from tests.http_api.test_process import wait_until_ready
from tests.team.teams import Clients, add_principals, in_space, served_team, share

PEOPLE, SPACES, CONVERSATIONS = ("ann", "ben", "cat"), ("red", "blue"), ("c", "d")
WORD = re.compile(r"word[0-9]+x")
Step = tuple[str, str, str, str]
NEEDED = {
    "append": Right.CONTINUE, "store": Right.CONTINUE, "message": Right.CONTINUE, "context": Right.READ,
    "search": Right.READ, "page": Right.READ, "list": Right.READ, "forget": Right.MANAGE, "share": Right.MANAGE,
}  # fmt: skip
OWN = "own"
steps = st.lists(
    st.tuples(
        st.sampled_from([*NEEDED, "grant", "grant"]),
        st.sampled_from(PEOPLE),
        st.sampled_from([*SPACES, *SPACES, OWN]),
        st.sampled_from([*CONVERSATIONS, *(right.word for right in Right), "none"]),
    ),
    min_size=12,
    max_size=30,
)


@dataclass
class Model:
    """What each memory holds, and who may do what in it. A memory is a space, or a person's own."""

    rights: dict[tuple[str, str], Right] = field(default_factory=dict)
    words: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    said: int = 0

    def right(self, who: str, space: str) -> Right | None:
        return Right.MANAGE if space == OWN else self.rights.get((space, who))

    def memory(self, who: str, space: str) -> dict[str, set[str]]:
        return self.words.setdefault(who if space == OWN else space, {})


class Run:
    """Performs steps on a server and on the model, and compares what each shows."""

    def __init__(self, clients: Clients, data_dir: Path) -> None:
        self.clients, self.team, self.model = clients, SqliteTeam(data_dir), Model()

    async def step(self, step: Step) -> None:
        action, who, space, detail = step
        if action == "grant":
            await self.grant(who, space, detail)
            return
        http = self.clients[who] if space == OWN else in_space(self.clients[who], space)
        conversation = detail if detail in CONVERSATIONS else CONVERSATIONS[0]
        right = self.model.right(who, space)
        if action == "share" and (space == OWN or detail in (*CONVERSATIONS, "none")):
            return
        word = f"word{self.model.said}x"
        self.model.said += 1
        status, text = await self.request(http, action, conversation, word, detail)
        permitted = right is not None and right >= NEEDED[action]
        assert permitted or "needs the right" in text or status == 404, (step, status, text)
        assert (status == 404) is (right is None), (step, status, text)
        seen = set(WORD.findall(text)) - {word}
        memory = self.model.memory(who, space)
        assert seen <= set().union(*memory.values(), set()) if permitted else not seen, (step, text)
        if not permitted:
            return
        if action in ("append", "message"):
            memory.setdefault(conversation, set()).add(word)
        elif action == "store":
            memory.setdefault(f"stored {word}", set()).add(word)
        elif action == "forget":
            memory.pop(conversation, None)
        elif action == "share":
            self.model.rights[space, "cat"] = Right[detail.upper()]
        elif action == "context":
            assert seen == memory.get(conversation, set()), (step, text)

    async def request(
        self, http: httpx2.AsyncClient, action: str, conversation: str, word: str, detail: str
    ) -> tuple[int, str]:
        """Sends one request by the interface that the action stands for; returns its status and all that it shows."""
        if action in ("append", "message", "context", "search", "list", "forget"):
            return await self.tool(http, action, conversation, word)
        if action == "store":
            body = {"messages": [{"role": "user", "content": f"{word} is new"}]}
            response = await http.post("/v1/memory", json=body)
        elif action == "page":
            response = await http.get("/ui/api/search", params={"query": "is what was said"})
        else:
            response = await http.put("/members/cat", json={"right": detail})
        return response.status_code, response.text

    async def tool(self, http: httpx2.AsyncClient, action: str, conversation: str, word: str) -> tuple[int, str]:
        said = {"role": "user", "content": f"{word} is what was said", "conversation_id": conversation}
        name, arguments = {
            "append": ("append_turn", said),
            "message": ("append_turn", {**said, "role": "assistant"}),
            "context": ("get_context", {"conversation_id": conversation}),
            "search": ("search_turns", {"query": "is what was said"}),
            "list": ("list_conversations", {}),
            "forget": ("forget_conversation", {"conversation_id": conversation, "confirm": conversation}),
        }[action]
        body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        reply = await http.post("/mcp", json=body, headers={"Accept": "application/json, text/event-stream"})
        if reply.status_code == 404:
            return 404, reply.text
        return 200, json.dumps(await call(http, name, **arguments))

    async def grant(self, who: str, space: str, detail: str) -> None:
        """Changes a right as the admin does."""
        if space == OWN:
            return
        right = None if detail in (*CONVERSATIONS, "none") else Right[detail.upper()]
        await self.team.set_right(space, TOKEN_KIND + who, right)
        if right is None:
            self.model.rights.pop((space, who), None)
        else:
            self.model.rights[space, who] = right

    async def check_all(self) -> None:
        """Everyone reads every memory: all of it, or nothing."""
        for who in PEOPLE:
            for space in (*SPACES, OWN):
                for conversation in CONVERSATIONS:
                    await self.step(("context", who, space, conversation))
                await self.step(("search", who, space, CONVERSATIONS[0]))
        await self.team.close()


async def run(history: list[Step]) -> None:
    with TemporaryDirectory() as folder:
        settings = Settings(Path(folder), durability="normal")
        async with served_team(settings, *PEOPLE) as clients:
            for space in SPACES:
                await share(settings.data_dir, space, {})
            running = Run(clients, settings.data_dir)
            for step in history:
                await running.step(step)
            await running.check_all()


@hypothesis_settings(max_examples=8, deadline=None)
@given(steps)
def test_nobody_sees_or_changes_what_the_rights_do_not_permit(history: list[Step]) -> None:
    anyio.run(run, history)


@pytest.mark.soak
@hypothesis_settings(max_examples=300, deadline=None)
@given(steps)
def test_nobody_sees_or_changes_more_in_long_runs(history: list[Step]) -> None:
    anyio.run(run, history)


async def run_random(running: Run, count: int) -> None:
    """Performs random steps, the same each time."""
    chance = random.Random(7)
    words = [*CONVERSATIONS, *(right.word for right in Right)]
    actions = [*NEEDED, *["grant"] * 4]
    for _ in range(count):
        await running.step(
            (chance.choice(actions), chance.choice(PEOPLE), chance.choice([*SPACES, OWN]), chance.choice(words))
        )
    await running.check_all()


@pytest.mark.anyio
async def test_a_server_process_keeps_the_rights_that_other_processes_change(tmp_path: Path) -> None:
    tokens = await add_principals(tmp_path, *PEOPLE)
    for space in SPACES:
        await share(tmp_path, space, {})
    with served(tmp_path, durability="normal") as base:
        await wait_until_ready(base)
        async with AsyncExitStack() as stack:
            clients = {
                who: await stack.enter_async_context(
                    httpx2.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=100)
                )
                for who, token in tokens.items()
            }
            await run_random(Run(clients, tmp_path), 60)
