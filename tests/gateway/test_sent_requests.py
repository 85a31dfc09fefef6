"""The gateway records each request by sizes and ids, and removes the records with the conversation."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp import sent_requests, usage_ledger
from ctxmem_mcp.http_api.gateway import usage_recorder
from ctxmem_mcp.record_stores.files import FileRecordStore
from ctxmem_mcp.sent_requests import NO_VIEW, REQUESTS_MAX, SentRequest
from ctxmem_mcp.usage_ledger import FILE, FORGOTTEN, LedgerEntry
from tests.gateway.harness import RunningGateway, UpstreamStub, long_history

WHOLE = SentRequest("c", 1.0, "t0-1", "t2-3", NO_VIEW, 30, 10, 0, 20)


def ask(running: RunningGateway, messages: list[dict[str, Any]]) -> dict[str, str]:
    body = {"model": "m:memory", "messages": messages}
    return dict(httpx2.post(f"{running.url}/v1/chat/completions", json=body, timeout=100).headers)


def recorded(running: RunningGateway, conversation_id: str, count: int) -> list[SentRequest]:
    """Returns the records once there are so many: they are written after the response."""
    until = time.monotonic() + 60
    while len(found := sent_requests.read(running.folder, conversation_id)) < count and time.monotonic() < until:
        time.sleep(0.01)
    assert len(found) == count
    return found


def test_a_whole_and_a_compacted_request_are_recorded_by_ids_and_sizes(
    running: RunningGateway, stub: UpstreamStub
) -> None:
    messages = long_history(30)
    ask(running, messages[:3])
    headers = ask(running, messages)
    assert headers["x-ctxmem-memory"] == "folded"
    conversation = headers["x-ctxmem-conversation"]
    whole, compacted = recorded(running, conversation, 2)
    turns = running.turns(conversation)
    by_id = {turn.id: turn for turn in turns}
    assert whole.view == NO_VIEW
    assert (by_id[whole.first].index, by_id[whole.last].index) == (1, 2)
    assert compacted.history == int(headers["x-ctxmem-tokens-in"])
    assert compacted.system + compacted.head + compacted.rest == int(headers["x-ctxmem-tokens-sent"])
    assert compacted.cached == 64
    assert compacted.tokens_in == 120
    sent = stub.bodies[-1]["messages"]
    rest = [turn.content for turn in turns[by_id[compacted.first].index : by_id[compacted.last].index + 1]]
    assert rest[-1] == "And now?"
    assert [text for text in rest if text in {one["content"] for one in messages}] == [
        one["content"] for one in sent[2:] if one["content"]
    ]
    assert by_id[compacted.view.end].index == by_id[compacted.first].index - 1
    assert by_id[compacted.view.query].role == "user"


def test_the_records_hold_no_text_and_are_removed_with_the_conversation(running: RunningGateway) -> None:
    headers = ask(running, long_history(30))
    conversation = headers["x-ctxmem-conversation"]
    recorded(running, conversation, 1)
    assert b"token1" not in (running.folder / FILE).read_bytes()
    running.do(running.memory.forget(conversation, conversation))
    assert sent_requests.read(running.folder, conversation) == []
    assert conversation.encode() not in (running.folder / FILE).read_bytes()


def test_a_conversation_that_is_forgotten_before_its_request_is_recorded_leaves_only_the_cost(
    running: RunningGateway,
) -> None:
    conversation = ask(running, long_history(3))["x-ctxmem-conversation"]
    recorded(running, conversation, 1)
    running.do(running.memory.forget(conversation, conversation))
    entry = LedgerEntry(7, conversation, 1, 10, 2, 5, 90)
    sent = replace(WHOLE, conversation_id=conversation)
    running.do(usage_recorder._add_to_records(running.memory, FileRecordStore(running.folder), entry, sent))
    assert sent_requests.read(running.folder, conversation) == []
    assert {one.conversation_id for one in usage_ledger.read(running.folder)} == {FORGOTTEN}
    assert conversation.encode() not in (running.folder / FILE).read_bytes()


def test_the_newest_requests_of_a_conversation_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_requests, "REQUESTS_MAX", 3)
    assert REQUESTS_MAX >= 3
    for at in range(5):
        sent_requests.add(tmp_path, replace(WHOLE, at=float(at)))
        sent_requests.add(tmp_path, replace(WHOLE, conversation_id="other", at=float(at)))
    assert [one.at for one in sent_requests.read(tmp_path, "c")] == [2.0, 3.0, 4.0]
    assert len(sent_requests.read(tmp_path, "other")) == 3


def test_a_corrupt_file_does_not_prevent_forgetting(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"no table at all" * 100)
    sent_requests.forget(tmp_path, ["c"])
