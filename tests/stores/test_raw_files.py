"""Law 11: a text that was forgotten, redacted or has expired is in no file of the data folder, whatever stored it.

The other tests of this law search what the store writes. This one has a session as its agent, its hooks and the gateway
leave it: records for the hooks, pending and unrecognised events, the ledger, sessions of an agent's run, the audit, the
whole of an output that a hook shortened.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp import redaction, sent_requests, usage_ledger
from ctxmem_mcp.capture import session_files, spool, unrecognised, whole_outputs
from ctxmem_mcp.capture.spool_worker import drain
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.memory.expiry import CONFIRM_SECONDS
from ctxmem_mcp.private_files import PRINCIPALS
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.sent_requests import NO_VIEW, SentRequest
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.stores.testing.builders import DAY
from ctxmem_mcp.sweeper import Sweeper
from ctxmem_mcp.team.audit import Audit
from ctxmem_mcp.team.folders import tenant_folder
from ctxmem_mcp.team.sqlite import SqliteTeam
from ctxmem_mcp.usage_ledger import LedgerEntry
from tests.stores.samples import raw_files

pytestmark = pytest.mark.anyio

# Its id is a word of no other text.
SESSION = "zebra-session"
# A word of each turn: of a long prompt, a call that fails, its result, one that works, and an answer.
PROMPT, CALL, ERROR, SOLUTION, ANSWER = "quixoplex", "vandrubel", "mizzentorp", "jabberkin", "oxyclamp"
# A word of the whole output only, which the result of the call that works is a short form of.
WHOLE = "brindlewhack"
CALL_EVENT = {"tool_name": "Bash", "tool_input": {"command": "jabberkin  --check staging"}, "tool_use_id": "c2"}
OUTPUT = f"All is well.\nThe {WHOLE} is well.\n"
OUTPUT_ID = whole_outputs.output_id(SESSION, CALL_EVENT, OUTPUT)
SHORT = f"All is well. [expand_node with conversation {OUTPUT_ID} and id t1 returns all of it.]"
LETTERS = "bcdfghjklmnpqrstvwxz"
# Longer than what a record for the hooks quotes of it, in one line and with more words than a record has hashes of.
LONG_PROMPT = "Look into the quixoplex of staging: " + " ".join(f"lamp{a}{b}" for a in LETTERS for b in LETTERS)
WORDS = (PROMPT, CALL, ERROR, SOLUTION, ANSWER, WHOLE)
TEXTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("user", {"type": "text", "text": LONG_PROMPT}),
    ("assistant", {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "vandrubel --check staging"}}),
    ("user", {"type": "tool_result", "tool_use_id": "c1", "content": "Exit code 1\nerror: mizzentorp\n" + "at x\n"}),
    ("assistant", {"type": "tool_use", "id": "c2", "name": "Bash", "input": {"command": "jabberkin  --check staging"}}),
    ("user", {"type": "tool_result", "tool_use_id": "c2", "content": SHORT}),
    ("assistant", {"type": "text", "text": "The oxyclamp of staging is shut, its valves and lamps are fine."}),
)  # fmt: skip
BEGINNING = ("user", {"type": "text", "text": "Good morning, here is some work for you."})
OTHER = ("user", {"type": "text", "text": "No, do something else with the other project."})
Removal = Callable[[Memory, Path, list[str]], Awaitable[object]]


def write_transcript(file: Path, *branches: tuple[tuple[str, dict[str, Any]], ...]) -> None:
    """Writes branches that begin with the same row, the head's last."""
    rows = []
    for number, branch in enumerate(((BEGINNING,), *branches)):
        for i, (role, block) in enumerate(branch):
            parent = (f"{number}-{i - 1}" if i else "0-0") if number else None
            rows.append({
                "type": role, "uuid": f"{number}-{i}", "parentUuid": parent, "sessionId": SESSION, "cwd": "/w",
                "timestamp": "2026-01-09T10:50:40Z", "message": {"role": role, "content": [block]},
            })  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def transcript_of(data: Path) -> Path:
    """The session's transcript, which is not ours, beside the data folder."""
    root = data.parents[1] if data.parent.name == PRINCIPALS else data
    return root.parent / f"{SESSION}.jsonl"


def put_event(data: Path, **fields: str) -> str:
    event = {"session_id": SESSION, "transcript_path": str(transcript_of(data)), "cwd": "/w", **fields}
    return spool.put(str(data), "claude-code", json.dumps(event).encode())


async def fill(memory: Memory, data: Path, *later: tuple[str, dict[str, Any]]) -> list[str]:
    """Stores the session, and what is beside it. Returns the ids of the turns with TEXTS.

    Args:
        memory: A memory over the folder.
        data: The folder.
        later: Turns of a branch that the head is on afterwards.
    """
    file = transcript_of(data)
    write_transcript(file, TEXTS)
    spool.put(str(data), "claude-code", whole_outputs.event_for(CALL_EVENT, SESSION, OUTPUT))
    put_event(data, hook_event_name="SessionEnd")
    await drain(memory, data, wait=True)
    ids = [turn.id for turn in await memory.history(SESSION)][1:]
    assert len(ids) == len(TEXTS)
    assert (await memory.search(SOLUTION)).hits  # now the index over all conversations has it
    if later:
        write_transcript(file, TEXTS, later)
        put_event(data, hook_event_name="SessionEnd")
        await drain(memory, data, wait=True)
        assert len(await memory.branches(SESSION)) == 2
    sent_requests.add(data, SentRequest(SESSION, 1.0, ids[0], ids[-1], NO_VIEW, 1, 1, 1, 1))
    usage_ledger.add(data, LedgerEntry(20_000, SESSION, 1, 1, 1, 1, 1))
    session_files.note_lines(str(data), SESSION, [session_files.quotation_key(SESSION, 1)])
    return ids


def add_events(data: Path, *, pending: bool = True) -> None:
    """Leaves an event that is not understood, and one that is to be stored after the head."""
    words = " ".join(WORDS)
    unknown = put_event(data, hook_event_name="Mystery", prompt=words)
    (data / unrecognised.FOLDER).mkdir()
    Path(unknown).rename(data / unrecognised.FOLDER / Path(unknown).name)
    if pending:
        put_event(data, hook_event_name="UserPromptSubmit", prompt=words)


async def add_to_audit(root: Path) -> None:
    team = SqliteTeam(root)
    await team.add_space("work", 1.0)
    for action in ("append", "read", "forget"):
        await Audit(team, 100).record("alice", action, conversation=SESSION)
    await team.close()


def holding(root: Path, *words: str) -> dict[str, list[str]]:
    """The files that hold a word. The audit has the ids of what was forgotten: it says who did."""
    found = {
        name: [word for word in words if word.encode() in raw.lower()]
        for name, raw in raw_files(root).items()
        if not (words == (SESSION,) and name.startswith("team.sqlite3"))
    }
    return {name: some for name, some in found.items() if some}


@asynccontextmanager
async def opened(data: Path, sweeper: Sweeper | None = None) -> AsyncIterator[Memory]:
    async with open_memory(Settings(data, durability="normal"), background=False, sweeper=sweeper) as memory:
        yield memory


async def test_every_kind_of_file_holds_the_words_or_the_id_as_long_as_they_are_stored(tmp_path: Path) -> None:
    """Shows that the tests below would find what was left."""
    data = tmp_path / "data"
    async with opened(data) as memory:
        await fill(memory, data)
        add_events(data)
        names = " ".join({**holding(data, *WORDS), **holding(data, SESSION)})
        await add_to_audit(data)
    for kind in ("catalog.db", "search.db", "spool", "unrecognised", "failed_calls", "spoken_turns", "spending.sqlite3",
                 "warned", "conversations"):  # fmt: skip
        assert kind in names, (kind, names)
    assert "team.sqlite3" in raw_files(data)
    failed = next(raw for name, raw in raw_files(data).items() if name.startswith("failed_calls") and b"c1" in raw)
    assert ERROR.encode() in failed
    assert SOLUTION.encode() in failed


async def forget_conversation(memory: Memory, data: Path, ids: list[str]) -> None:
    await memory.forget(SESSION, SESSION)


async def forget_branch(memory: Memory, data: Path, ids: list[str]) -> None:
    await memory.forget(SESSION, SESSION, ids[-1])


async def forget_from(memory: Memory, data: Path, ids: list[str]) -> None:
    await memory.forget_from(SESSION, ids[0])


@pytest.mark.parametrize("has_later", [False, True], ids=["head", "other branch"])
@pytest.mark.parametrize("remove", [forget_conversation, forget_branch, forget_from])
async def test_no_file_holds_what_was_forgotten(
    tmp_path: Path, remove: Removal, has_later: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ctxmem_mcp")
    data = tmp_path / "data"
    async with opened(data) as memory:
        ids = await fill(memory, data, *((OTHER,) if has_later else ()))
        add_events(data, pending=not has_later)
        await remove(memory, data, ids)
        assert holding(data, *WORDS) == {}
        if remove is forget_conversation:
            assert holding(data, SESSION) == {}
        assert sent_requests.read(data, SESSION) == []
        await drain(memory, data, wait=True)
    assert holding(data, *WORDS) == {}
    assert not any(word in caplog.text for word in WORDS)


async def test_no_file_of_a_server_holds_what_a_principal_forgot(tmp_path: Path) -> None:
    root = tmp_path / "data"
    data = tenant_folder(root, "alice")
    async with opened(data) as memory:
        await fill(memory, data)
        add_events(data)
        await memory.forget(SESSION, SESSION)
        await add_to_audit(root)
        assert holding(root, *WORDS) == {}
        assert holding(root, SESSION) == {}
    assert holding(root, *WORDS) == {}


@pytest.mark.parametrize("number", range(len(TEXTS)))
async def test_no_file_holds_a_turn_that_was_redacted(
    tmp_path: Path, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "ctxmem_mcp")
    data, words = tmp_path / "data", {0: PROMPT, 1: CALL, 2: ERROR, 3: SOLUTION, 5: ANSWER}
    async with opened(data) as memory:
        ids = await fill(memory, data)
        receipt = await redaction.redact(memory, data, await memory.find_copies(SESSION, ids[number]))
        if words.get(number) == SOLUTION:  # the call of the whole output has it too, which the receipt says
            (warning,) = receipt.warnings
            assert f"of {OUTPUT_ID} still quotes it" in warning
            await memory.forget_output(OUTPUT_ID)
        else:
            assert receipt.warnings == []
        if number in words:
            assert holding(data, words[number]) == {}
            assert words[number] not in caplog.text
        others = {word for at, word in words.items() if at != number}
        assert all(holding(data, word) for word in others)


async def test_no_file_holds_what_has_expired(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "ctxmem_mcp")
    data, sweeper = tmp_path / "data", Sweeper()
    async with opened(data, sweeper) as memory:
        await fill(memory, data)
        add_events(data)
        now = memory._clock() + 4_000 * DAY
        memory._clock = lambda: now
        sweeper.conversations._monotonic = iter((0.0, CONFIRM_SECONDS)).__next__
        for expected in ([], [SESSION, OUTPUT_ID]):
            assert await sweeper.sweep(memory, FileRecordStore(data)) == expected
        await add_to_audit(data)
        assert holding(data, *WORDS) == {}
        assert holding(data, SESSION) == {}
    assert not any(word in caplog.text for word in WORDS)
