"""Measures the share of each view that is an unchanged prefix, which a provider's prompt cache would serve.

    python -m bench stability [TRANSCRIPT] [--budget 16000] [--every 1]

Replays a session turn by turn and builds the view that an agent would receive at each step. The unchanged tokens of a
view are those of its longest common prefix with the view before. The baselines are the newest turns that fit, and a
view ranked at each step for the user's last message. The default is a synthetic session.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import synthetic
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.transcripts import registry


class Tally:
    """Counts the tokens sent, and those in a prefix that was also sent in the step before."""

    def __init__(self) -> None:
        self.sent = self.unchanged = 0
        self._last = ""

    def add(self, text: str) -> None:
        same = _common_prefix(self._last, text)
        self.sent += tokenizer.count(text)
        self.unchanged += tokenizer.count(same)
        self._last = text

    def line(self, name: str) -> str:
        return f"{name:42s} {self.sent:>12,} tokens sent, {100 * self.unchanged / max(1, self.sent):5.1f} % unchanged"


def _common_prefix(a: str, b: str) -> str:
    end = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:end]


def newest_that_fit(turns: Sequence[NewTurn], counts: Sequence[int], budget: int) -> str:
    parts: list[str] = []
    for turn, count in zip(reversed(turns), reversed(counts), strict=True):
        if count > budget:
            break
        budget -= count
        parts.append(f"{turn.role}: {turn.content}\n")
    return "".join(reversed(parts))


async def replay(turns: Sequence[NewTurn], budget: int, every: int, write: Callable[[str], None]) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    counts = [tokenizer.count(f"{turn.role}: {turn.content}\n") for turn in turns]
    stable, with_query, ranked, last_n = Tally(), Tally(), Tally(), Tally()
    last_message = ""
    for i, turn in enumerate(turns):
        await memory.append(turn, conversation_id="c")
        last_message = turn.content[:2_000] if turn.role == "user" else last_message
        if i % every:
            continue
        stable.add((await memory.view("c", layout="stable", token_budget=budget)).text)
        with_query.add((await memory.view("c", query=last_message, layout="stable", token_budget=budget)).text)
        ranked.add((await memory.view("c", query=last_message, token_budget=budget)).text)
        last_n.add(newest_that_fit(turns[: i + 1], counts[: i + 1], budget))
    write(f"# {len(turns):,} turns, {sum(counts):,} tokens, a view every {every} turns within {budget:,} tokens")
    write(stable.line("stable layout"))
    write(with_query.line("stable layout, with the user's last words"))
    write(ranked.line("tree layout, ranked at every step"))
    write(last_n.line("newest turns that fit"))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench stability", description=__doc__)
    parser.add_argument("transcript", nargs="?", type=Path)
    parser.add_argument("--budget", type=int, default=16_000)
    parser.add_argument("--every", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.transcript:
        turns = registry.parse(options.transcript.read_text("utf-8"), options.transcript.name).turns
    else:
        turns = tuple(synthetic.turns(1_000))
    asyncio.run(replay(turns, options.budget, options.every, print))
