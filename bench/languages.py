"""python -m bench languages [--why]

Measures search in other languages than English, on the conversations in bench/data/languages: two of twelve turns and
ten questions each per language, written for this. Counts how often the turn that answers the question is the first hit,
or one of the first three. No embeddings: the word vectors know English. The memory runs in this process.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.data import native
from bench.data.models import Conversation
from bench.recall import fresh_memory, store_conversation

DATA = Path(__file__).parent / "data" / "languages"
HITS = 3


class Score(NamedTuple):
    """Questions, and those whose turn is the first hit, and among the first `HITS`."""

    questions: int
    first: int
    near: int


async def measure(path: Path, *, why: bool = False) -> Score:
    """Measures the conversations of one language. why: print the questions whose turn is not the first hit."""
    ranks = [rank for conversation in native.read(path) for rank in await _ranks(conversation, why=why)]
    return Score(len(ranks), sum(rank == 0 for rank in ranks), sum(rank < HITS for rank in ranks))


async def _ranks(conversation: Conversation, *, why: bool) -> list[int]:
    """The position among the hits of each question's turn; `HITS` if it is none of them."""
    found: list[int] = []
    async with fresh_memory("plain") as (memory, _):
        name = await store_conversation(memory, conversation)
        for question in conversation.questions:
            hits = await memory.search(question.query, conversation_id=name, limit=HITS)
            indexes = [int(hit.turn_id[1:].split("-")[0]) for hit in getattr(hits, "hits", hits)]
            wanted = int(question.evidence[0].turn)
            found.append(indexes.index(wanted) if wanted in indexes else HITS)
            if why and found[-1]:
                print(f"{conversation.id}: {question.query} -> {wanted}, found {indexes}")
    return found


def table(scores: dict[str, Score]) -> str:
    """Renders a Markdown table of the scores by language, in percent."""
    lines = ["| language | questions | first hit | first three |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {language} | {score.questions} | {100 * score.first / score.questions:.0f} "
        f"| {100 * score.near / score.questions:.0f} |"
        for language, score in scores.items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench languages", description=__doc__.split("\n\n")[1])
    parser.add_argument("--why", action="store_true", help="print the questions whose turn is not the first hit")
    why = parser.parse_args(arguments).why
    print(table({path.stem: asyncio.run(measure(path, why=why)) for path in sorted(DATA.glob("*.jsonl"))}))
