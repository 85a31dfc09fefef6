"""python -m bench recall [DATA...] [--budgets 1000,2000,...] [--categories] [--questions N] [--limit N] [--why]

Measures how much of a question's evidence a view of a given number of tokens contains verbatim, beside baselines that
fill the same budget with turns (see baselines.py). DATA: files or folders, see bench/data; the default is all data in
CTXMEM_EVAL_DIR. No model is involved and nothing is judged.

A piece of evidence counts if the view contains its text or, if it has none, its whole turn; of a turn over 4,000
characters, each line under 400 characters. All text of a view counts as tokens: header, outline, ids. The memory runs
in this process on a new store. The time of a view is that of the call, without MCP.
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

from bench import misses
from bench.baselines import METHODS, Baselines
from bench.data import conversations, find_data
from bench.data.models import Conversation, Evidence, Question
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
    """The recall of one question with one method and budget. ms: milliseconds; of views only."""

    method: str
    category: str
    budget: int
    recall: float
    tokens: int
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of a run."""

    budgets: tuple[int, ...]
    questions: int | None = None
    limit: int | None = None
    seed: int = 1
    store: str = "sqlite"
    baselines: bool = True
    why: bool = False


def recall(question: Question, conversation: Conversation, text: str) -> float:
    """Returns the share of the question's evidence that the text contains."""
    return statistics.fmean(is_found(evidence, conversation, text) for evidence in question.evidence)


def is_found(evidence: Evidence, conversation: Conversation, text: str) -> bool:
    """Returns whether the text contains a piece of evidence, or one of its alternatives."""
    return any(
        place.text in text if place.text else verbatim(conversation.turns[place.turn].content, text)
        for place in (evidence, *evidence.alternatives)
    )


def sample_questions(conversation: Conversation, settings: Settings) -> Conversation:
    """Returns the conversation with at most `settings.questions` questions, sampled with the seed, in their order."""
    questions, limit = conversation.questions, settings.questions
    if limit is None or len(questions) <= limit:
        return conversation
    drawn = random.Random(settings.seed).sample(range(len(questions)), limit)
    return replace(conversation, questions=tuple(questions[i] for i in sorted(drawn)))


def sample_conversations(path: Path, settings: Settings) -> Iterator[Conversation]:
    """Yields the conversations of a data file or folder within the limits of the settings."""
    for conversation in islice(conversations(path, settings.seed), settings.limit):
        yield sample_questions(conversation, settings)


@asynccontextmanager
async def fresh_memory(kind: str) -> AsyncIterator[tuple[Memory, Store]]:
    """An empty memory on a temporary store. kind: "sqlite" or "plain" (in memory)."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        store: Store = InMemoryStore() if kind == "plain" else SqliteStore(Path(folder), durability="normal")
        memory = Memory(store, ExtractiveSummarizer())
        try:
            yield memory, store
        finally:
            await memory.close()


async def store_conversation(memory: Memory, conversation: Conversation) -> str:
    """Stores a conversation. Returns its id."""
    turns, name, after = list(conversation.turns.values()), None, None
    for i in range(0, len(turns), CHUNK_TURNS):
        done = await memory.sync(turns[i : i + CHUNK_TURNS], conversation_id=name or "bench", after=after)
        name, after = done.conversation_id, done.head
    return name or "bench"


async def measure_views(memory: Memory, store: Store, conversation: Conversation, settings: Settings) -> list[Row]:
    name = await store_conversation(memory, conversation)
    rows = []
    for question in conversation.questions:
        for budget in settings.budgets:
            started = time.perf_counter()
            try:
                text = (await memory.view(name, query=question.query, token_budget=budget)).render()
            except BudgetTooSmall:
                text = ""
            ms = (time.perf_counter() - started) * 1000
            found = recall(question, conversation, text)
            rows.append(Row(VIEW, question.category, budget, found, tokenizer.count(text), ms))
            if settings.why and found < 1 and budget == max(settings.budgets):
                print("\n".join(await misses.miss_lines(store, name, conversation, question, text)))
    return rows


def measure_baselines(conversation: Conversation, settings: Settings) -> list[Row]:
    rows = []
    with closing(Baselines(conversation.turns)) as baselines:
        for question in conversation.questions:
            for method in METHODS:
                order = list(baselines.rank(method, question.query))
                for budget in settings.budgets:
                    text = baselines.text(baselines.fill(order, budget))
                    found = recall(question, conversation, text)
                    rows.append(Row(method, question.category, budget, found, tokenizer.count(text)))
    return rows


async def measure_file(path: Path, settings: Settings) -> tuple[list[Row], str]:
    """Measures a data file. Returns the rows and a description of the data."""
    rows: list[Row] = []
    counts = [0, 0, 0, 0]
    for conversation in sample_conversations(path, settings):
        tokens = sum(tokenizer.count(turn.content) for turn in conversation.turns.values())
        async with fresh_memory(settings.store) as (memory, store):
            rows += await measure_views(memory, store, conversation, settings)
        rows += measure_baselines(conversation, settings) if settings.baselines else []
        counted = (1, len(conversation.turns), tokens, len(conversation.questions))
        counts = [a + b for a, b in zip(counts, counted, strict=True)]
        print(f"# {path.name}: {conversation.id} done", file=sys.stderr)
    description = "{:,} conversations, {:,} turns, {:,} tokens, {:,} questions".format(*counts)
    return rows, description


# ------------------------------------------------------------------------------------------------- tables


def table(rows: Sequence[Row], budgets: Sequence[int], categories: bool) -> str:
    """Renders a Markdown table of methods by budgets: recall in percent, and, in brackets, the percentage of questions
    with all evidence found."""
    lines = ["| method | questions | " + " | ".join(f"{budget:,}" for budget in budgets) + " | tokens taken |"]
    lines.append("| --- | ---: |" + " ---: |" * len(budgets) + " --- |")
    for method in (VIEW, *METHODS):
        mine = [row for row in rows if row.method == method]
        if mine:
            lines.append(_line(method, mine, budgets, _mean_tokens(mine, budgets)))
        lines += [
            _line(f"{method}: {name}", [row for row in mine if row.category == name], budgets)
            for name in sorted({row.category for row in mine if categories})
        ]
    return "\n".join(lines)


def _line(name: str, rows: Sequence[Row], budgets: Sequence[int], mean_tokens: str = "") -> str:
    by_budget = [[row for row in rows if row.budget == budget] for budget in budgets]
    cells = [f"{_share(row.recall for row in of)} ({_share(row.recall == 1 for row in of)})" for of in by_budget]
    return f"| {name} | {len(by_budget[0])} | " + " | ".join(cells) + f" | {mean_tokens} |"


def _mean_tokens(rows: Sequence[Row], budgets: Sequence[int]) -> str:
    """The mean tokens of the texts, by budget."""
    means = (statistics.fmean(row.tokens for row in rows if row.budget == budget) for budget in budgets)
    return ", ".join(f"{mean:,.0f}" for mean in means)


def _share(values: Iterable[float]) -> str:
    return f"{100 * statistics.fmean(values):.1f}"


def over_budget(rows: Iterable[Row]) -> list[Row]:
    """Returns the views that exceed their budget."""
    return [row for row in rows if row.method == VIEW and row.tokens > row.budget]


def speed_line(rows: Iterable[Row]) -> str:
    """Describes the time per view."""
    times = sorted(row.ms for row in rows if row.method == VIEW)
    if not times:
        return ""
    return f"a view took {times[len(times) // 2]:.1f} ms at the median, {times[int(len(times) * 0.95)]:.1f} ms at p95"


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench recall", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--budgets", default=BUDGETS)
    parser.add_argument("--questions", type=int, help="maximum per conversation, sampled with the seed")
    parser.add_argument("--limit", type=int, help="maximum number of conversations per file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", choices=("sqlite", "plain"), default="sqlite")
    parser.add_argument("--categories", action="store_true", help="add a line per category of questions")
    parser.add_argument("--only-views", action="store_true", help="measure no baselines")
    parser.add_argument("--why", action="store_true", help="list evidence missed at the largest budget and its ranks")
    options = parser.parse_args(arguments)
    settings = Settings(
        tuple(sorted(int(budget) for budget in options.budgets.split(","))),
        options.questions, options.limit, options.seed, options.store, not options.only_views, options.why,
    )  # fmt: skip
    over = 0
    for path in find_data(options.data):
        rows, description = asyncio.run(measure_file(path, settings))
        if not rows:
            sys.exit(f"{path}: contains no questions")
        over += len(over_budget(rows))
        views = sum(row.method == VIEW for row in rows)
        print(f"\n{path.name}: {description}; seed {settings.seed}, store {settings.store}\n")
        print(table(rows, settings.budgets, options.categories))
        print(f"\n{speed_line(rows)}; over budget: {len(over_budget(rows))} of {views}")
    sys.exit(1 if over else 0)
