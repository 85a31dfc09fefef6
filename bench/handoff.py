"""Whether a brief for the next run leads to what was said: on conversations with known evidence.

    python -m bench handoff DATA... [--budget 4000] [--expand 8000]

For questions on errors and on what the user said: the evidence counts as *told* when it stands in the brief word for
word, and as *one step away* when opening a single id that the brief shows (a turn, a section) brings it up verbatim.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer

CATEGORIES = ("err-file", "test-fail", "user")
_SHOWN = re.compile(r"\b(n\d+-\d+-\d+|t\d+)\b")


def conversations(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


async def measure(paths: list[Path], budget: int, room: int) -> None:
    told: dict[str, list[bool]] = {}
    near: dict[str, list[bool]] = {}
    for conversation in conversations(paths):
        memory = Memory(InMemoryStore(), ExtractiveSummarizer())
        turns = [NewTurn(t["role"], t["content"], t["name"], t["said_at"]) for t in conversation["turns"]]
        await memory.sync(turns, conversation_id="c")
        brief = (await memory.hand_off("c", token_budget=budget)).text
        opened = [await opening(memory, shown, room) for shown in dict.fromkeys(_SHOWN.findall(brief))]
        content = {turn["id"]: turn["content"].strip() for turn in conversation["turns"]}
        for question in conversation["questions"]:
            if question["category"] not in CATEGORIES:
                continue
            for evidence in question["evidence"]:
                wanted = evidence["text"] or content[evidence["turn"]]
                told.setdefault(question["category"], []).append(wanted in brief)
                near.setdefault(question["category"], []).append(any(wanted in text for text in [brief, *opened]))
    print(f"# brief of {budget} tokens; one expand_node of {room} tokens")
    for category in told:
        n = len(told[category])
        print(
            f"{category:10s} n={n:4d}  told {100 * sum(told[category]) / n:5.1f} %  "
            f"told or one step away {100 * sum(near[category]) / n:5.1f} %"
        )


async def opening(memory: Memory, shown: str, room: int) -> str:
    try:
        return (await memory.expand("c", shown, token_budget=room)).text
    except CtxmemError:
        return ""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench handoff", description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--budget", type=int, default=4_000)
    parser.add_argument("--expand", type=int, default=8_000)
    given = parser.parse_args(arguments)
    asyncio.run(measure(given.data, given.budget, given.expand))
