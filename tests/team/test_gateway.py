"""The gateway in a shared space: members' requests are stored in the space, up to its limit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.records import Right
from tests.gateway.harness import answers_with, upstream_stub
from tests.http_api.test_principals import call
from tests.team.teams import in_space, served_team, share

pytestmark = pytest.mark.anyio


async def test_a_members_request_is_stored_in_the_space_until_it_is_full(tmp_path: Path) -> None:
    with upstream_stub(answers_with("It is green.")) as upstream:
        settings = Settings(tmp_path, durability="normal", upstream_base_url=f"{upstream.url}/v1")
        async with served_team(settings, "alice", "bob", stored_turns_max=2) as clients:
            await share(settings.data_dir, "web", {"alice": Right.CONTINUE, "bob": Right.READ})
            alice, bob = (in_space(clients[name], "web") for name in ("alice", "bob"))
            outcomes = []
            for question in ("Is the build green?", "And the tests?"):
                body = {"model": "m:memory", "messages": [{"role": "user", "content": question}]}
                response = await alice.post("/v1/chat/completions", json=body)
                assert response.json()["choices"][0]["message"]["content"] == "It is green."
                outcomes.append(response.headers["x-ctxmem-memory"])
            assert outcomes == ["whole", "full"]
            found = json.dumps(await call(bob, "search_turns", query="build green"))
            assert "Is the build green?" in found
            assert "It is green." in found
            assert "And the tests?" not in json.dumps(await call(bob, "search_turns", query="tests"))
            assert len((await bob.get("/v1/usage")).json()["data"]) == 1
            assert (await clients["alice"].get("/v1/usage")).json()["data"] == []
            for sent in upstream.headers:
                assert "ctxmem_" not in json.dumps(sent)
