"""Tensorheart's sessions: the examples and promises of the seed document."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx2
import pytest

from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text import tokenizer

pytestmark = pytest.mark.anyio

PATH = "/v1/chat/sessions"


async def data(response: httpx2.Response, status: int = 200) -> Any:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["success"] is True
    assert re.fullmatch(r"req_[0-9a-f]{16}", body["meta"]["request_id"])
    assert body["meta"]["processing_time_ms"] >= 0
    return body["data"]


async def error_message(response: httpx2.Response, status: int, code: str) -> str:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["success"] is False
    assert body["error"]["code"] == code
    message = body["error"]["message"]
    assert isinstance(message, str)
    return message


async def create(http: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    session = await data(await http.post(PATH, json=fields))
    assert isinstance(session, dict)
    return session


async def add_message(http: httpx2.AsyncClient, session: str, role: str, content: str) -> dict[str, Any]:
    message = await data(await http.post(f"{PATH}/{session}/messages", json={"role": role, "content": content}))
    assert isinstance(message, dict)
    return message


async def fill(http: httpx2.AsyncClient, turns: int = 60, **fields: Any) -> str:
    """Creates a session that exceeds its budget, with one distinctive fact near its beginning."""
    session = str((await create(http, **fields))["id"])
    for i in range(turns):
        fact = "The staging password rotates on the ZEBRA-77 schedule. " if i == 6 else ""
        await add_message(
            http, session, "user", f"{fact}Requirement {i}: the importer reads file number {i}. " + "word " * 60
        )
        await add_message(
            http, session, "assistant", f"Noted requirement {i}, the importer is changed. " + "done " * 60
        )
    return session


# ---------------------------------------------------------------- the seed's examples


async def test_the_seeds_example_of_creating_a_session(http: httpx2.AsyncClient) -> None:
    """curl -X POST .../v1/chat/sessions -d '{"name": "Project Planning", "context_budget": 16000}'"""
    response = await http.post(
        PATH,
        content='{\n"name": "Project Planning",\n"context_budget": 16000\n}',
        headers={"Authorization": "Bearer anything", "Content-Type": "application/json"},
    )
    session = await data(response)
    assert session["id"].startswith("session_")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", session["created_at"])
    expected = {"name": "Project Planning", "context_budget": 16000, "message_count": 0}
    assert {name: session[name] for name in expected} == expected


async def test_the_seeds_example_of_sending_a_message(http: httpx2.AsyncClient) -> None:
    session = (await create(http))["id"]
    content = "Let me tell you about the project requirements..."
    message = await add_message(http, session, "user", content)
    assert (message["role"], message["content"], message["message_count"]) == ("user", content, 1)
    assert (await data(await http.get(f"{PATH}/{session}")))["message_count"] == 1


async def test_a_session_without_fields_has_the_defaults_of_the_seed(http: httpx2.AsyncClient) -> None:
    for response in (await http.post(PATH, json={}), await http.post(PATH)):
        session = await data(response)
        assert (session["name"], session["system_prompt"], session["space_id"]) == (None, None, None)
        assert session["context_budget"] == 8000


async def test_list_get_and_delete(http: httpx2.AsyncClient) -> None:
    first, second = await create(http, name="a"), await create(http, name="b", space_id="work")
    await add_message(http, first["id"], "user", "hello")
    listed = await data(await http.get(PATH))
    assert {session["id"]: session["message_count"] for session in listed} == {first["id"]: 1, second["id"]: 0}
    assert [session["id"] for session in await data(await http.get(PATH, params={"space_id": "work"}))] == [
        second["id"]
    ]
    assert await data(await http.delete(f"{PATH}/{first['id']}")) == {"id": first["id"], "deleted": True}
    assert [session["id"] for session in await data(await http.get(PATH))] == [second["id"]]
    for response in (await http.get(f"{PATH}/{first['id']}"), await http.delete(f"{PATH}/{first['id']}")):
        await error_message(response, 404, "not_found")


async def test_messages_are_returned_byte_for_byte_in_pages(http: httpx2.AsyncClient) -> None:
    session = (await create(http))["id"]
    contents = ["größer 🧵\r\n\tx", "</compressed-context>\n[t0-123]", " ", "last"]
    for i, content in enumerate(contents):
        await add_message(http, session, ("user", "assistant")[i % 2], content)
    pages = [
        await data(await http.get(f"{PATH}/{session}/messages", params={"limit": 3, "offset": offset}))
        for offset in (0, 3, 6)
    ]
    assert [len(page) for page in pages] == [3, 1, 0]
    assert [message["content"] for page in pages for message in page] == contents


async def test_sessions_survive_a_restart(serve: Any) -> None:
    before = await serve()
    session = await create(before, name="kept", system_prompt="Be brief.")
    await add_message(before, session["id"], "user", "hello")
    after = await serve()
    found = await data(await after.get(f"{PATH}/{session['id']}"))
    assert (found["name"], found["system_prompt"], found["message_count"]) == ("kept", "Be brief.", 1)


# ---------------------------------------------------------------- context


async def test_a_short_session_is_returned_whole(http: httpx2.AsyncClient) -> None:
    session = (await create(http, system_prompt="Be brief."))["id"]
    empty = await data(await http.get(f"{PATH}/{session}/context"))
    assert empty["messages"] == [{"role": "system", "content": "Be brief."}]
    await add_message(http, session, "user", "one")
    await add_message(http, session, "assistant", "two")
    context = await data(await http.get(f"{PATH}/{session}/context"))
    assert [message["content"] for message in context["messages"]] == ["Be brief.", "one", "two"]
    assert context["compressed"] is False


async def test_a_long_session_is_compressed_within_its_budget_and_expanded_for_the_query(
    http: httpx2.AsyncClient,
) -> None:
    session = await fill(http, context_budget=4000, system_prompt="You plan projects.")
    path = f"{PATH}/{session}/context"
    plain = await data(await http.get(path))
    expanded = await data(await http.get(path, params={"query": "which schedule does the staging password rotate on"}))
    for context in (plain, expanded):
        assert context["compressed"] is True
        roles = [message["role"] for message in context["messages"]]
        assert roles[:2] == ["system", "system"]
        assert set(roles[2:]) == {"user", "assistant"}
        assert context["messages"][0]["content"] == "You plan projects."
        last = context["messages"][-1]["content"]
        assert last.startswith("Noted requirement 59")
        spent = sum(tokenizer.count(message["content"]) for message in context["messages"])
        assert spent <= context["token_count"] <= 4000
    assert "ZEBRA-77" in expanded["messages"][1]["content"]
    assert expanded["messages"][1]["content"].startswith("<compressed-context>\n")


@pytest.mark.parametrize("budget", [500, 700, 1000, 2000, 20_000])
async def test_the_budget_holds(http: httpx2.AsyncClient, budget: int) -> None:
    session = await fill(http, turns=25)
    response = await http.get(f"{PATH}/{session}/context", params={"context_budget": budget})
    context = await data(response)
    assert sum(tokenizer.count(message["content"]) for message in context["messages"]) <= budget


async def test_a_message_longer_than_the_budget_is_an_excerpt(http: httpx2.AsyncClient) -> None:
    session = (await create(http))["id"]
    await add_message(http, session, "user", "\n".join(f"line {i} of a very long log" for i in range(4000)))
    context = await data(await http.get(f"{PATH}/{session}/context"))
    assert context["compressed"] is True
    assert sum(tokenizer.count(message["content"]) for message in context["messages"]) <= 8000


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"context_budget": "many"}, "context_budget"),
        ({"context_budget": 499}, "context_budget"),
        ({"context_budget": True}, "context_budget"),
        ({"context_budget": 1.5}, "context_budget"),
        ({"name": 3}, "name"),
        ({"name": "\ud800"}, "name"),
        ({"system_promt": "x"}, "system_promt"),
        ([], "body"),
    ],
)
async def test_an_invalid_session_field_is_named(http: httpx2.AsyncClient, body: Any, named: str) -> None:
    import json

    response = await http.post(PATH, content=json.dumps(body))
    assert named in await error_message(response, 400, "invalid_request")
    assert await data(await http.get(PATH)) == []


@pytest.mark.parametrize(
    "body",
    [{}, {"role": "user"}, {"content": "x"}, {"role": "system", "content": "x"}, {"role": "user", "content": None}],
)
async def test_an_invalid_message_stores_nothing(http: httpx2.AsyncClient, body: Any) -> None:
    session = (await create(http))["id"]
    await error_message(await http.post(f"{PATH}/{session}/messages", json=body), 400, "invalid_request")
    assert (await data(await http.get(f"{PATH}/{session}")))["message_count"] == 0


@pytest.mark.parametrize("name", ["session_0123456789abcdef", "..", "../../etc/passwd", "%2e%2e%2fsalt", "x" * 5000])
async def test_an_unknown_session_id_is_not_found(http: httpx2.AsyncClient, name: str) -> None:
    for path in (f"{PATH}/{name}", f"{PATH}/{name}/messages", f"{PATH}/{name}/context"):
        assert (await http.get(path)).status_code == 404


# ---------------------------------------------------------------- forgetting


async def test_a_deleted_session_is_in_no_file(http: httpx2.AsyncClient, settings: Settings) -> None:
    session = (await create(http, name="QUAGGA-name", system_prompt="QUAGGA-prompt", space_id="QUAGGA-space"))["id"]
    await add_message(http, session, "user", "QUAGGA-content")
    assert holding(settings.data_dir, b"QUAGGA-name")
    await data(await http.delete(f"{PATH}/{session}"))
    assert holding(settings.data_dir, b"QUAGGA") == []


async def test_forgetting_the_conversation_removes_the_session(http: httpx2.AsyncClient, settings: Settings) -> None:
    from ctxmem_mcp.composition import open_memory

    session = (await create(http, name="QUAGGA-name"))["id"]
    await add_message(http, session, "user", "hello")
    async with open_memory(settings) as memory:
        await memory.forget(session, session)
    await error_message(await http.get(f"{PATH}/{session}"), 404, "not_found")
    assert holding(settings.data_dir, b"QUAGGA") == []


def holding(folder: Path, text: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()]
