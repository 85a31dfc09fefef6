"""A session that hooks capture and the gateway stores is one conversation, whatever the order."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctxmem_mcp.capture.transcript_sync import TranscriptSync
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.http_api.gateway.agent_session import conversation_of_session
from ctxmem_mcp.http_api.gateway.anthropic import Anthropic
from ctxmem_mcp.http_api.gateway.compaction import ConversationTracker
from ctxmem_mcp.http_api.gateway.memory_options import MemoryOptions
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transcripts import claude_code

SESSION = "1a2b3c4d-0000-4000-8000-000000000000"
OPTIONS = MemoryOptions(True, "m")
SYSTEM = "You are a coding agent."
REMINDER = "<system-reminder>\nToday is Monday.\n</system-reminder>"
RECAP = "This session is being continued from a previous conversation that ran out of context. All of it."
Block = dict[str, Any]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


class Session:
    """A session of Claude Code: what it writes to its transcript, and what it sends to the gateway."""

    def __init__(self, folder: Path, memory: Memory) -> None:
        self.file = folder / f"{SESSION}.jsonl"
        self.memory, self.tracker = memory, ConversationTracker(4_000, "o200k_base")
        self.sync = TranscriptSync(memory, folder / "data")
        self.messages: list[Block] = []
        self.rows: list[Block] = []

    def write(self, role: str, *blocks: Block, **more: Any) -> None:
        """Adds a row for each block."""
        for block in blocks:
            parent = self.rows[-1]["uuid"] if self.rows else None
            row = {"type": role, "uuid": str(len(self.rows)), "parentUuid": parent, "sessionId": SESSION, "cwd": "/w"}
            self.rows.append({**row, **more, "message": {"role": role, "content": [block]}})

    def add(self, role: str, *blocks: Block) -> None:
        """Adds to the messages of the next request; the first has a reminder before the prompt."""
        content = [*([] if self.messages else [text(REMINDER)]), *blocks]
        self.messages.append({"role": role, "content": content})

    async def hooks(self, rows: int) -> None:
        """Stores the transcript as it is with this many rows."""
        if rows:
            self.file.write_text("".join(json.dumps(row) + "\n" for row in self.rows[:rows]), "utf-8")
            await self.sync.sync_file(self.file, even_if_recent=True)

    async def request(self, *answer: Block, system: str = SYSTEM, messages: Any = None) -> None:
        """Sends a request through the gateway, which stores it and the answer."""
        provider = Anthropic()
        body = {"model": "m", "tools": [{"name": "Bash"}], "system": system, "messages": messages or self.messages}
        sent = await self.tracker.compact(self.memory, "", provider, body, OPTIONS, [SESSION])
        answered = provider.parse_response({"role": "assistant", "content": list(answer)})
        await self.tracker.store_answer(self.memory, sent.conversation, answered)

    async def line(self) -> list[tuple[str, str | None, str]]:
        turns = await self.memory.turns(SESSION)
        return [(turn.role, turn.name, turn.content) for turn in turns]

    def transcript(self) -> list[tuple[str, str | None, str]]:
        """What the transcript says."""
        raw = "".join(json.dumps(row) + "\n" for row in self.rows)
        return [(turn.role, turn.name, turn.content) for turn in claude_code.parse(raw, self.file.name).turns]


async def step(session: Session, number: int, calls: int, hooked: list[int], *, interleaved: bool) -> None:
    """A prompt, calls of tools, and an answer. hooked: how many of the existing rows hooks store, at each chance; below
    0: none."""

    async def maybe_hooks() -> None:
        if hooked and (count := hooked.pop()) >= 0:
            await session.hooks(min(count, len(session.rows)))

    session.write("user", text(f"Prompt {number}"))
    session.add("user", text(f"Prompt {number}"))
    await maybe_hooks()
    if calls:
        ids = [f"toolu_{number}_{i}" for i in range(calls)]
        uses = [{"type": "tool_use", "id": one, "name": "Bash", "input": {"command": f"ls {one}"}} for one in ids]
        results = [{"type": "tool_result", "tool_use_id": one, "content": f"result of {one}"} for one in ids]
        thought = {"type": "thinking", "thinking": f"Thought {number}", "signature": "s"}
        await session.request(thought, *uses)
        await maybe_hooks()
        session.write("assistant", thought)
        for use, result in zip(uses, results, strict=True) if interleaved else ():
            session.write("assistant", use)
            session.write("user", result)
        if not interleaved:
            session.write("assistant", *uses)
            session.write("user", *results)
        session.add("assistant", thought, *uses)
        session.add("user", *results)
        await maybe_hooks()
    await session.request(text(f"Answer {number}"))
    session.add("assistant", text(f"Answer {number}"))
    await maybe_hooks()
    session.write("assistant", text(f"Answer {number}"))
    await maybe_hooks()


def compact(session: Session) -> None:
    """The agent's own compaction: the next request has a recap in place of everything before it."""
    session.write("user", text(RECAP), isCompactSummary=True)
    session.messages = []
    session.add("user", text(RECAP))


CHANCES = st.lists(st.one_of(st.just(-1), st.integers(0, 60)), max_size=40)
STEPS = st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None)
@given(steps=STEPS, hooked=CHANCES)
@pytest.mark.anyio
async def test_law_both_ways_give_one_conversation_with_the_transcripts_line(
    steps: list[tuple[int, bool, bool]], hooked: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with open_memory(Settings(folder / "data", durability="normal")) as memory:
            session = Session(folder, memory)
            for number, (calls, interleaved, compacts) in enumerate(steps):
                await step(session, number, calls, hooked, interleaved=interleaved)
                if compacts:
                    compact(session)
            await session.hooks(len(session.rows))
            listed = (await memory.conversations()).conversations
            assert [(info.conversation_id, info.space) for info in listed] == [(SESSION, "/w")]
            assert await session.line() == session.transcript()
            assert await memory.verify(SESSION) == []


@pytest.mark.anyio
@pytest.mark.parametrize("hooked", [[], [9] * 30, [0, 9] * 15, [1, -1, 3] * 10])
async def test_no_branch_is_made_if_calls_follow_one_another(tmp_path: Path, hooked: list[int]) -> None:
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        session = Session(tmp_path, memory)
        for number in range(4):
            await step(session, number, 1, hooked, interleaved=False)
        await session.hooks(len(session.rows))
        assert await session.line() == session.transcript()
        assert len(await memory.branches(SESSION)) == 1


@pytest.mark.anyio
async def test_the_words_before_a_compaction_stay_without_hooks(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        session = Session(tmp_path, memory)
        await step(session, 0, 2, [], interleaved=False)
        compact(session)
        await step(session, 1, 1, [], interleaved=False)
        said = [content for _, _, content in await session.line()]
        assert [one for one in said if one.startswith(("Prompt", "Answer"))] == [
            "Prompt 0", "Answer 0", "Prompt 1", "Answer 1",
        ]  # fmt: skip
        assert len(await memory.branches(SESSION)) == 1


@pytest.mark.anyio
async def test_a_sub_agents_request_is_not_the_sessions(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path / "data", durability="normal")) as memory:
        session = Session(tmp_path, memory)
        await step(session, 0, 1, [], interleaved=False)
        before = await session.line()
        await session.request(text("Found."), system="You search.", messages=[{"role": "user", "content": "Search."}])
        assert await session.line() == before
        assert len((await memory.conversations()).conversations) == 2


@pytest.mark.parametrize(
    ("metadata", "headers", "expected"),
    [
        ({"user_id": json.dumps({"device_id": "d", "session_id": SESSION})}, {}, SESSION),
        ({"user_id": f"user_ab12_account__session_{SESSION}"}, {}, SESSION),
        ({"user_id": "a person"}, {}, None),
        ({"user_id": "[1"}, {}, None),
        ({"user_id": 7}, {}, None),
        (None, {"x-claude-code-session-id": SESSION}, SESSION),
        (None, {"x-claude-code-session-id": SESSION, "x-claude-code-agent-id": "a1"}, f"{SESSION}:a1"),
        (None, {"x-claude-code-session-id": SESSION, "x-claude-code-agent-id": " "}, SESSION),
        (None, {"x-claude-code-agent-id": "a1"}, None),
        (None, {"session_id": SESSION}, SESSION),
        (None, {"session-id": "  "}, None),
        (None, {"x-session-affinity": SESSION}, SESSION),
        ("no object", {}, None),
    ],
)
def test_the_session_is_found_in_headers_and_metadata(metadata: Any, headers: Any, expected: str | None) -> None:
    assert conversation_of_session({"metadata": metadata}, headers) == expected
