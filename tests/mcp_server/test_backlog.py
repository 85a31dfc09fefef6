"""While events of agents' hooks wait to be stored, lists and views say how many."""

from __future__ import annotations

import functools
import json

import pytest
from mcp import Client

from ctxmem_mcp import Settings, open_memory
from ctxmem_mcp.capture import spool
from ctxmem_mcp.mcp_server.server import build_server
from tests.mcp_server.conftest import Caller

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("layout", ["tree", "stable"])
async def test_lists_and_views_state_the_events_that_are_not_stored(settings: Settings, layout: str) -> None:
    async with Client(build_server(functools.partial(open_memory, settings, background=False))) as client:
        call = Caller(client)
        await call.record("append_turn", conversation_id="c", role="user", content="Hello there.")
        header, _ = await call.text("get_context", conversation_id="c", layout=layout)
        assert "events_pending" not in header
        assert (await call.record("list_conversations"))["events_pending"] == 0
        for number in range(3):
            spool.put(str(settings.data_dir), "cursor", json.dumps({"prompt": number}).encode())
        header, _ = await call.text("get_context", conversation_id="c", layout=layout)
        assert header["events_pending"] == 3
        assert (await call.record("list_conversations"))["events_pending"] == 3
