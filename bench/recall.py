"""python -m bench recall [DATA...] [--budgets 1000,2000,...] [--categories] [--questions N] [--limit N] [--why]

How much of a question's evidence stands verbatim in a view of so many tokens, beside plain ways of filling the same
budget with turns (see baselines.py). DATA: files or folders, see bench/data; without it, all that CTXMEM_EVAL_DIR has.
No model takes part, nothing is judged.

A piece of evidence counts when its text, or its whole turn, is in what came back; of a turn over 4,000 characters
every line under 400 characters has to be. All of a view counts as tokens: header line, outline, ids. The memory runs
in this process on a fresh store; a view's time is that of the call, without MCP around it.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from bench import missed
from bench.baselines import WAYS, Baselines
from bench.data import at_hand, conversations
from bench.data.contract import Conversation, Question
from bench.train.evidence import verbatim
from ctxmem_mcp.errors import BudgetTooSmall
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer

BUDGETS = "1000,2000,4000,8000,16000"
VIEW = "ctxmem"
CHUNK_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class Row:
    """One question answered in one way within one budget. ms: of views only."""

    way: str
    category: str
    budget: int
    recall: float
    tokens: int
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    budgets: tuple[int, ...]
    questions: int | None = None
    limit: int | None = None
    seed: int = 1
    store: str = "sqlite"
    baselines: bool = True
    why: bool = False


def recall(question: Question, conversation: Conversation, text: str) -> float:
    """The share of the evidence that stands in the text."""
    return statistics.fmean(
        evidence.text in text if evidence.text else verbatim(conversation.turns[evidence.turn].content, text)
        for evidence in question.evidence
    )


def sampled(conversation: Conversation, settings: Settings) -> Conversation:
    """With so many of its questions, drawn by the seed, in their order."""
    asked, most = conversation.questions, settings.questions
    if most is None or len(asked) <= most:
        return conversation
    drawn = random.Random(settings.seed).sample(range(len(asked)), most)
    return replace(conversation, questions=tuple(asked[i] for i in sorted(drawn)))


def chosen(path: Path, settings: Settings) -> Iterator[Conversation]:
    for conversation in islice(conversations(path, settings.seed), settings.limit):
        yield sampled(conversation, settings)


@asynccontextmanager
async def fresh_memory(kind: str) -> AsyncIterator[tuple[Memory, Store]]:
    """A memory with nothing in it, on a store of its own that goes away."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        store: Store = InMemoryStore() if kind == "plain" else SqliteStore(Path(folder), durability="normal")
        memory = Memory(store, ExtractiveSummarizer())
        try:
            yield memory, store
        finally:
            await memory.close()


async def stored(memory: Memory, conversation: Conversation) -> str:
    """Stores it; gives its id there."""
    turns, name, after = list(conversation.turns.values()), None, None
    for i in range(0, len(turns), CHUNK_TURNS):
        done = await memory.sync(turns[i : i + CHUNK_TURNS], conversation_id=name or "bench", after=after)
        name, after = done.conversation_id, done.head
    return name or "bench"


async def of_views(memory: Memory, store: Store, conversation: Conversation, settings: Settings) -> list[Row]:
    name = await stored(memory, conversation)
    rows = []
    for question in conversation.questions:
        for budget in settings.budgets:
            began = time.perf_counter()
            try:
                text = (await memory.view(name, query=question.query, token_budget=budget)).render()
            except BudgetTooSmall:
                text = ""
            ms = (time.perf_counter() - began) * 1000
            found = recall(question, conversation, text)
            rows.append(Row(VIEW, question.category, budget, found, tokenizer.count(text), ms))
            if settings.why and found < 1 and budget == max(settings.budgets):
                print("\n".join(await missed.lines(store, name, conversation, question, text)))
    return rows


def of_baselines(conversation: Conversation, settings: Settings) -> list[Row]:
    rows = []
    with closing(Baselines(conversation.turns)) as plain:
        for question in conversation.questions:
            for way in WAYS:
                order = list(plain.order(way, question.query))
                for budget in settings.budgets:
                    text = plain.text(plain.filled(order, budget))
                    found = recall(question, conversation, text)
                    rows.append(Row(way, question.category, budget, found, tokenizer.count(text)))
    return rows


async def measured(path: Path, settings: Settings) -> tuple[list[Row], str]:
    """The rows of a data file, and what it holds, in words."""
    rows: list[Row] = []
    counts = [0, 0, 0, 0]
    for conversation in chosen(path, settings):
        said = sum(tokenizer.count(turn.content) for turn in conversation.turns.values())
        async with fresh_memory(settings.store) as (memory, store):
            rows += await of_views(memory, store, conversation, settings)
        rows += of_baselines(conversation, settings) if settings.baselines else []
        these = (1, len(conversation.turns), said, len(conversation.questions))
        counts = [a + b for a, b in zip(counts, these, strict=True)]
        print(f"# {path.name}: {conversation.id} done", file=sys.stderr)
    what = "{:,} conversations, {:,} turns, {:,} tokens, {:,} questions".format(*counts)
    return rows, what


# ------------------------------------------------------------------------------------------------- tables


def table(rows: Sequence[Row], budgets: Sequence[int], categories: bool) -> str:
    """Ways by budgets as Markdown: evidence found in %, in brackets the share of questions with all of it found."""
    lines = ["| way | questions | " + " | ".join(f"{budget:,}" for budget in budgets) + " | tokens taken |"]
    lines.append("| --- | ---: |" + " ---: |" * len(budgets) + " --- |")
    for way in (VIEW, *WAYS):
        mine = [row for row in rows if row.way == way]
        if mine:
            lines.append(_line(way, mine, budgets, _spent(mine, budgets)))
        lines += [
            _line(f"{way}: {name}", [row for row in mine if row.category == name], budgets)
            for name in sorted({row.category for row in mine if categories})
        ]
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Row], budgets: Sequence[int], spent: str = "") -> str:
    by_budget = [[row for row in rows if row.budget == budget] for budget in budgets]
    cells = [f"{_share(row.recall for row in of)} ({_share(row.recall == 1 for row in of)})" for of in by_budget]
    return f"| {name} | {len(by_budget[0])} | " + " | ".join(cells) + f" | {spent} |"


def _spent(rows: Sequence[Row], budgets: Sequence[int]) -> str:
    """What texts took on average, by budget."""
    means = (statistics.fmean(row.tokens for row in rows if row.budget == budget) for budget in budgets)
    return ", ".join(f"{mean:,.0f}" for mean in means)


def _share(values: Iterable[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f}"


def over(rows: Iterable[Row]) -> list[Row]:
    """Views of more tokens than asked for."""
    return [row for row in rows if row.way == VIEW and row.tokens > row.budget]


def speed(rows: Iterable[Row]) -> str:
    took = sorted(row.ms for row in rows if row.way == VIEW)
    if not took:
        return ""
    return f"a view took {took[len(took) // 2]:.1f} ms at the median, {took[int(len(took) * 0.95)]:.1f} ms at p95"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench recall", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--questions", type=int, help="at most so many of each conversation, drawn by the seed")
    parser.add_argument("--limit", type=int, help="at most so many conversations of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "plain"), default="sqlite")
    parser.add_argument("--categories", action="store_true", help="a line for each category of questions")
    parser.add_argument("--only-views", action="store_true", help="nothing beside them")
    parser.add_argument("--why", action="store_true", help="where evidence missed at the largest budget was lost")
    given = parser.parse_args(arguments)
    settings = Settings(
        tuple(sorted(int(budget) for budget in given.budgets.split(","))),
        given.questions, given.limit, given.seed, given.store, not given.only_views, given.why,
    )  # fmt: skip
    too_long = 0
    for path in at_hand(given.data):
        rows, what = asyncio.run(measured(path, settings))
        if not rows:
            sys.exit(f"{path}: holds no question")
        too_long += len(over(rows))
        views = sum(row.way == VIEW for row in rows)
        print(f"\n{path.name}: {what}; seed {settings.seed}, store {settings.store}\n")
        print(table(rows, settings.budgets, given.categories))
        print(f"\n{speed(rows)}; over budget: {len(over(rows))} of {views}")
    sys.exit(1 if too_long else 0)
