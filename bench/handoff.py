"""Measures whether a hand-off brief leads to the evidence of questions.

    python -m bench handoff DATA... [--budget 4000] [--expand 8000]

Evaluates questions about errors and about statements of the user. Evidence counts as *verbatim* if the brief contains
it, and as *one step away* if expanding a single id in the brief (a turn or a section) shows it verbatim.
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
_IDS = re.compile(r"\b(n\d+-\d+-\d+|t\d+)\b")


def conversations(paths: list[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)


async def measure(paths: list[Path], budget: int, expand_budget: int) -> None:
    verbatim: dict[str, list[bool]] = {}
    reachable: dict[str, list[bool]] = {}
    for conversation in conversations(paths):
        memory = Memory(InMemoryStore(), ExtractiveSummarizer())
        turns = [NewTurn(t["role"], t["content"], t["name"], t["said_at"]) for t in conversation["turns"]]
        await memory.sync(turns, conversation_id="c")
        brief = (await memory.hand_off("c", token_budget=budget)).text
        expanded = [await expand(memory, shown_id, expand_budget) for shown_id in dict.fromkeys(_IDS.findall(brief))]
        content = {turn["id"]: turn["content"].strip() for turn in conversation["turns"]}
        for question in conversation["questions"]:
            if question["category"] not in CATEGORIES:
                continue
            for evidence in question["evidence"]:
                expected = evidence["text"] or content[evidence["turn"]]
                verbatim.setdefault(question["category"], []).append(expected in brief)
                reachable.setdefault(question["category"], []).append(
                    any(expected in text for text in [brief, *expanded])
                )
    print(f"# brief of {budget} tokens; one expand_node of {expand_budget} tokens")
    for category in verbatim:
        n = len(verbatim[category])
        print(
            f"{category:10s} n={n:4d}  verbatim {100 * sum(verbatim[category]) / n:5.1f} %  "
            f"verbatim or one step away {100 * sum(reachable[category]) / n:5.1f} %"
        )


async def expand(memory: Memory, shown_id: str, expand_budget: int) -> str:
    try:
        return (await memory.expand("c", shown_id, token_budget=expand_budget)).text
    except CtxmemError:
        return ""


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench handoff", description=__doc__)
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--budget", type=int, default=4_000)
    parser.add_argument("--expand", type=int, default=8_000)
    options = parser.parse_args(arguments)
    asyncio.run(measure(options.data, options.budget, options.expand))
