"""python -m bench project [--budgets 2000,8000] [--made-up N] [--store DIR] [--searches N] [--questions FILE...]

Measures the memory of a project: every session in CTXMEM_EVAL_DIR (coding-dev, people-dev, transcripts) is stored as a
conversation of its own in one project, and questions are asked of the project without naming the session, beside the
same questions asked of the right session. Then N made-up conversations are put beside them, and asked again.

A made-up conversation has turns of real sessions that no question is about, in a new order. They are made 250 at a
time; further ones are copies of these under other ids, which costs an index as much.

Also measured: the time of a search over everything, of bringing the index up to date, and its size.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.data import native
from bench.data.models import Evidence, Question, eval_folder
from bench.train.evidence import verbatim
from ctxmem_mcp.capture.importer import find_files
from ctxmem_mcp.capture.importer import read as transcript_in
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.projects import Project
from ctxmem_mcp.stores.sqlite.checksums import CONVERSATION_COLUMNS, row_checksum
from ctxmem_mcp.stores.sqlite.connection import open_plain
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name
from ctxmem_mcp.stores.sqlite.store import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text import tokenizer

PROJECT = Project("/home/ann/cli", None, ("/home/ann/cli",))
DATA = ("people-dev", "coding-dev")
MADE_AT_ONCE, MADE_UP_TOKENS = 250, 10_000
CHUNK_TURNS = 1_000


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and the session and content of each turn that is evidence."""

    question: Question
    sessions: dict[str, str]
    turns: dict[str, NewTurn]
    data: str


def read_sessions(name: str) -> tuple[dict[str, list[NewTurn]], list[Asked]]:
    """Reads a data file's sessions, each as a conversation, and its questions."""
    sessions: dict[str, list[NewTurn]] = {}
    asked: list[Asked] = []
    with gzip.open(eval_folder() / "data" / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        for line in lines:
            given = json.loads(line)
            conversation = native.conversation(given)
            of = {t["id"]: f"{given['id']}-{t['session'].replace(' ', '-')}" for t in given["turns"]}
            for turn_id, turn in conversation.turns.items():
                sessions.setdefault(of[turn_id], []).append(turn)
            asked += [Asked(one, of, conversation.turns, name) for one in conversation.questions]
    return sessions, asked


def read_transcripts() -> dict[str, list[NewTurn]]:
    """Reads the session files."""
    found: dict[str, list[NewTurn]] = {}
    for file in find_files([eval_folder() / "transcripts"])[0]:
        try:
            found[f"transcript-{len(found)}"] = list(transcript_in(file).turns)
        except InvalidArgument:
            continue
    return {name: turns for name, turns in found.items() if turns}


def made_up(texts: Sequence[NewTurn], seed: int) -> Iterator[list[NewTurn]]:
    """Makes conversations up: stretches of a few turns of different sessions, in a new order."""
    draw = random.Random(seed)
    while True:
        turns: list[NewTurn] = []
        size = 0
        while size < MADE_UP_TOKENS * 4:
            at = draw.randrange(len(texts) - 8)
            stretch = [turn for turn in texts[at : at + draw.randint(2, 8)] if len(turn.content) < 8_000]
            turns += stretch
            size += sum(len(turn.content) for turn in stretch)
        yield turns


async def store_session(memory: Memory, name: str, turns: Sequence[NewTurn], space: str) -> None:
    after = None
    for start in range(0, len(turns), CHUNK_TURNS):
        part = turns[start : start + CHUNK_TURNS]
        after = (await memory.sync(part, conversation_id=name, after=after, space=space)).head


def copy_conversation(folder: Path, name: str, copy: str) -> None:
    """Copies a conversation's file under another id."""
    target = folder / FOLDER / file_name(copy)
    target.write_bytes((folder / FOLDER / file_name(name)).read_bytes())
    with closing(open_plain(target)) as db:
        row = list(db.execute(f"SELECT {CONVERSATION_COLUMNS} FROM conversation").fetchone())
        row[0] = copy
        db.execute("UPDATE conversation SET id = ?, checksum = ?", (copy, row_checksum(row)))


# ------------------------------------------------------------------------------------------------- measuring


def is_found(evidence: Evidence, asked: Asked, text: str) -> bool:
    return any(
        place.text in text if place.text else verbatim(asked.turns[place.turn].content, text)
        for place in (evidence, *evidence.alternatives)
    )


async def ask_right(memory: Memory, asked: Asked, budget: int) -> float:
    """The recall of asking the session that each piece of evidence is in."""
    texts: dict[str, str] = {}
    for evidence in asked.question.evidence:
        session = asked.sessions[evidence.turn]
        if session not in texts:
            view = await memory.view(session, query=asked.question.query, token_budget=budget)
            texts[session] = view.render()
    return statistics.fmean(is_found(e, asked, texts[asked.sessions[e.turn]]) for e in asked.question.evidence)


async def ask_project(memory: Memory, asked: Asked, budget: int) -> tuple[float, int, float]:
    """The recall of asking the project, the tokens of the view, and the milliseconds that it took."""
    started = time.perf_counter()
    text = (await memory.project_view(PROJECT, query=asked.question.query, token_budget=budget)).render()
    ms = (time.perf_counter() - started) * 1000
    return statistics.fmean(is_found(e, asked, text) for e in asked.question.evidence), tokenizer.count(text), ms


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


async def measure_project(memory: Memory, questions: Sequence[Asked], budgets: Sequence[int], label: str) -> None:
    for data in dict.fromkeys(one.data for one in questions):
        mine = [one for one in questions if one.data == data]
        cells, times, over = [], [], 0
        for budget in budgets:
            found = [await ask_project(memory, one, budget) for one in mine]
            over += sum(tokens > budget for _, tokens, _ in found)
            times += [ms for _, _, ms in found]
            cells.append(f"{100 * statistics.fmean(recall for recall, _, _ in found):.1f}")
        speed = f"{statistics.median(times):.0f} ms, p95 {percentile(times, 0.95):.0f} ms"
        print(f"| {data} | {label} | {' | '.join(cells)} | {speed}; over budget: {over} |", flush=True)


async def measure_right(memory: Memory, questions: Sequence[Asked], budgets: Sequence[int]) -> None:
    for data in dict.fromkeys(one.data for one in questions):
        mine = [one for one in questions if one.data == data]
        found = [[await ask_right(memory, one, budget) for one in mine] for budget in budgets]
        cells = [f"{100 * statistics.fmean(recalls):.1f}" for recalls in found]
        print(f"| {data} | the right session | {' | '.join(cells)} | |", flush=True)


async def measure_searches(memory: Memory, store: SqliteStore, questions: Sequence[Asked], count: int) -> None:
    started = time.perf_counter()
    hits = await store.find_blocks([], time.time(), 3_600)
    print(
        f"index of {hits.conversations:,} conversations up to date after {time.perf_counter() - started:.1f} s",
        flush=True,
    )
    times = []
    for one in questions[:count]:
        started = time.perf_counter()
        await memory.search(one.question.query)
        times.append((time.perf_counter() - started) * 1000)
    print(f"{len(times)} searches: median {statistics.median(times):.0f} ms, p95 {percentile(times, 0.95):.0f} ms")


async def run(options: argparse.Namespace, folder: Path) -> None:
    sessions: dict[str, list[NewTurn]] = {}
    questions: list[Asked] = []
    for data in DATA:
        read, asked = read_sessions(data)
        sessions |= read
        questions += asked
    transcripts = read_transcripts()
    if options.questions:
        draw = random.Random(1)
        questions = draw.sample(questions, min(len(questions), options.questions))
    store = SqliteStore(folder, durability="normal")
    memory = Memory(store, ExtractiveSummarizer())
    try:
        known = {info.conversation_id for info in await memory.all_conversations()}
        started = time.perf_counter()
        for name, turns in (sessions | transcripts).items():
            if name not in known:
                await store_session(memory, name, turns, PROJECT.name)
        print(f"{len(sessions)} + {len(transcripts)} sessions stored in {time.perf_counter() - started:.0f} s")
        budgets = [int(one) for one in options.budgets.split(",")]
        print("| questions | asked of | " + " | ".join(f"{one:,}" for one in budgets) + " | |")
        if not options.no_right:
            await measure_right(memory, questions, budgets)
        if not options.made_up:
            await measure_project(memory, questions, budgets, "the project")
        else:
            await add_made_up(
                memory, folder, [turn for turns in transcripts.values() for turn in turns], options, known
            )
            await measure_searches(memory, store, questions, options.searches)
            await measure_project(memory, questions, budgets, f"the project beside {options.made_up:,} made up")
        await measure_searches(memory, store, questions, options.searches)
        index = folder / "search.db"
        print(f"index {index.stat().st_size / 1e6:.1f} MB" if index.exists() else "no index")
    finally:
        await memory.close()


async def add_made_up(
    memory: Memory, folder: Path, texts: Sequence[NewTurn], options: argparse.Namespace, known: set[str]
) -> None:
    conversations = made_up(texts, 1)
    for number in range(options.made_up):
        name, turns = f"made-up-{number}", next(conversations) if number < MADE_AT_ONCE else None
        if name in known:
            continue
        if turns is not None:
            await store_session(memory, name, turns, PROJECT.name)
        else:
            if number == MADE_AT_ONCE:
                await memory.close()  # their logs are in the files now
            copy_conversation(folder, f"made-up-{number % MADE_AT_ONCE}", name)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench project", description=__doc__)
    parser.add_argument("--budgets", default="2000,8000")
    parser.add_argument("--made-up", type=int, default=0)
    parser.add_argument("--questions", type=int, help="maximum number, sampled")
    parser.add_argument("--searches", type=int, default=200)
    parser.add_argument("--store", type=Path, help="keep the store in this folder")
    parser.add_argument("--no-right", action="store_true", help="do not ask the right sessions")
    options = parser.parse_args(arguments)
    if options.store:
        asyncio.run(run(options, options.store))
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        asyncio.run(run(options, Path(folder)))
