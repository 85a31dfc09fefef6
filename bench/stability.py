"""How much of what is sent at each step stands in an unchanged prefix: what a provider's prompt cache would serve.

    python -m bench stability [TRANSCRIPT] [--budget 16000] [--every 1]

Replays a session turn by turn and takes the view that an agent would be sent at each step. Of each view's tokens those
count as unchanged that belong to the longest common beginning with the view before. Beside it the newest turns that
fit, and a view ranked anew at every step for what the user said last. Without a transcript, a session is made up.
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
    """Tokens sent, and of them those in a beginning that was sent just before."""

    def __init__(self) -> None:
        self.sent = self.kept = 0
        self._last = ""

    def add(self, text: str) -> None:
        same = _common_beginning(self._last, text)
        self.sent += tokenizer.count(text)
        self.kept += tokenizer.count(same)
        self._last = text

    def line(self, name: str) -> str:
        return f"{name:42s} {self.sent:>12,} tokens sent, {100 * self.kept / max(1, self.sent):5.1f} % unchanged"


def _common_beginning(a: str, b: str) -> str:
    end = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    return a[:end]


def newest(turns: Sequence[NewTurn], counts: Sequence[int], budget: int) -> str:
    parts: list[str] = []
    for turn, count in zip(reversed(turns), reversed(counts), strict=True):
        if count > budget:
            break
        budget -= count
        parts.append(f"{turn.role}: {turn.content}\n")
    return "".join(reversed(parts))


async def replay(turns: Sequence[NewTurn], budget: int, every: int, say: Callable[[str], None]) -> None:
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    counts = [tokenizer.count(f"{turn.role}: {turn.content}\n") for turn in turns]
    stable, asked, ranked, last_n = Tally(), Tally(), Tally(), Tally()
    said = ""
    for i, turn in enumerate(turns):
        await memory.append(turn, conversation_id="c")
        said = turn.content[:2_000] if turn.role == "user" else said
        if i % every:
            continue
        stable.add((await memory.view("c", layout="stable", token_budget=budget)).text)
        asked.add((await memory.view("c", query=said, layout="stable", token_budget=budget)).text)
        ranked.add((await memory.view("c", query=said, token_budget=budget)).text)
        last_n.add(newest(turns[: i + 1], counts[: i + 1], budget))
    say(f"# {len(turns):,} turns, {sum(counts):,} tokens, a view every {every} turns within {budget:,} tokens")
    say(stable.line("stable layout"))
    say(asked.line("stable layout, with the user's last words"))
    say(ranked.line("tree layout, ranked at every step"))
    say(last_n.line("newest turns that fit"))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench stability", description=__doc__)
    parser.add_argument("transcript", nargs="?", type=Path)
    parser.add_argument("--budget", type=int, default=16_000)
    parser.add_argument("--every", type=int, default=1)
    given = parser.parse_args(arguments)
    if given.transcript:
        turns = registry.parse(given.transcript.read_text("utf-8"), given.transcript.name).turns
    else:
        turns = tuple(synthetic.turns(1_000))
    asyncio.run(replay(turns, given.budget, given.every, print))
