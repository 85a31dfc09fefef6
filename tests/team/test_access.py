"""The table of rights names every method of Memory, and a guarded memory does nothing else."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import AccessDenied
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.team.access import RULES, Access, guard
from ctxmem_mcp.team.records import Right

pytestmark = pytest.mark.anyio
# What only the process that owns a memory does.
OWNERS_ONLY = {"close", "sweep", "remove_moved", "has_unconfirmed_expiry", "remove_unfinished_redactions"}


def access(right: Right) -> Access:
    return Access("token:alice", "space:1", "team", right)


def test_every_method_of_memory_has_a_rule() -> None:
    methods = {name for name, _ in inspect.getmembers(Memory) if not name.startswith("_")}
    assert methods == set(RULES) | OWNERS_ONLY


@pytest.mark.parametrize("right", Right)
async def test_a_method_that_needs_more_is_refused_before_anything_is_read(tmp_path: Path, right: Right) -> None:
    async with open_memory(Settings(tmp_path), background=False) as memory:
        guarded: Any = guard(memory, access(right))
        for name, rule in RULES.items():
            if rule.right > right:
                with pytest.raises(AccessDenied):
                    await getattr(guarded, name)()  # without the arguments that it would need
        for name in OWNERS_ONLY:
            with pytest.raises(AttributeError):
                getattr(guarded, name)


async def test_continuing_never_shortens_what_others_are_promised(tmp_path: Path) -> None:
    async with open_memory(Settings(tmp_path), background=False) as memory:
        continuing = guard(memory, access(Right.CONTINUE))
        await memory.append(NewTurn("user", "hello"), conversation_id="c", retention_days=90)
        await continuing.append(NewTurn("user", "more"), conversation_id="c", retention_days=1)
        turns = [NewTurn("user", "hello"), NewTurn("user", "more"), NewTurn("user", "again")]
        await continuing.sync(turns, conversation_id="c", retention_days=2)
        assert (await memory.info("c")).retention_days == 90
        await continuing.append(NewTurn("user", "new"), conversation_id="d", retention_days=2)
        assert (await memory.info("d")).retention_days == 2
        await guard(memory, access(Right.MANAGE)).append(NewTurn("user", "x"), conversation_id="c", retention_days=3)
        assert (await memory.info("c")).retention_days == 3
