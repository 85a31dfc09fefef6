"""Measures whether questions about compacted history can be answered from the recap and from what is added to it.

    python -m bench compaction [DATA...] [--budget 1300] [--questions 10]

Takes each recap in the data with the turns of its session before it. DATA is a file of conversations (.jsonl.gz) or
Claude Code transcripts (.jsonl); by default people-dev in $CTXMEM_EVAL_DIR. The questions are those of the data whose
evidence is among these turns, and, up to the given number, statements that a rule draws from the turns: lines of
failed results, sentences of the user, sentences of the agent with a reason or a decision, and edited files.

A statement counts as answered if a line, or up to three adjacent lines of the recap, has 60% of its words, names and
numbers counting double.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import RECAP, NewTurn
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.text.host_text import is_host_text
from ctxmem_mcp.transcripts import claude_code
from ctxmem_mcp.views.recap_supplement import RecapWords

ANSWERED_SHARE = 0.6
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_ERROR_LINE = re.compile(r".*(?:\b[Ee]rror\b|\bFAIL|undefined|denied|not found|No such|cannot ).*")
_REASON = re.compile(r"\b(?:because|since|so that|instead|rather than|decided|avoid|won't|don't)\b")
_EDITED = re.compile(r'"file_path"\s*:\s*"([^"]+)"')
# How long a test took is no part of what failed.
_DURATION = re.compile(r"\s+\(?\d+(?:\.\d+)?m?s\)?$")
_RECAP_START = "This session is being continued"


@dataclass(frozen=True)
class Compaction:
    """A recap. turns: those of its session up to it. questions: kind and acceptable statements of each."""

    name: str
    turns: list[NewTurn]
    questions: list[tuple[str, list[str]]]


def compactions(paths: Sequence[Path], wanted: int) -> Iterator[Compaction]:
    for path in paths:
        for found in _of_data(path) if path.suffix == ".gz" else _of_transcript(path):
            seen = Counter(kind for kind, _ in found.questions)
            made = _made_questions(found, max(0, wanted - sum(seen.values())))
            yield Compaction(found.name, found.turns, [*found.questions, *made])


def _of_data(path: Path) -> Iterator[Compaction]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        conversations = list(map(json.loads, lines))
    for conversation in conversations:
        turns, asked = conversation["turns"], set[str]()
        at = {turn["id"]: index for index, turn in enumerate(turns)}
        for last in [index for index, turn in enumerate(turns) if turn["name"] == RECAP]:
            first = next(i for i, turn in enumerate(turns) if turn["session"] == turns[last]["session"])
            questions = []
            for question in conversation["questions"]:
                options = [o for e in question["evidence"] for o in (e, *e.get("or", ()))]
                texts = [_text(o, turns, at) for o in options if first <= at[o["turn"]] < last]
                if texts and question["id"] not in asked and first <= at[question["evidence"][0]["turn"]] < last:
                    asked.add(question["id"])
                    questions.append(("asked: " + question["category"], texts))
            new = [
                NewTurn(t["role"], t["content"], t["name"], t["said_at"], t["call_id"]) for t in turns[first : last + 1]
            ]
            yield Compaction(f"{conversation['id']} t{last}", new, questions)


def _text(evidence: dict[str, Any], turns: list[dict[str, Any]], at: dict[str, int]) -> str:
    return str(evidence["text"] or turns[at[evidence["turn"]]]["content"])


def _of_transcript(path: Path) -> Iterator[Compaction]:
    turns = list(claude_code.parse(path.read_text("utf-8"), path.name).turns)
    for last, turn in enumerate(turns):
        if turn.name == RECAP and turn.content.startswith(_RECAP_START) and last:
            yield Compaction(f"{path.stem[:8]} t{last}", turns[: last + 1], [])


def _made_questions(found: Compaction, count: int) -> list[tuple[str, list[str]]]:
    """Draws statements of each kind in turn, always the same ones."""
    kinds: dict[str, list[str]] = {"user": [], "error": [], "reason": [], "file": []}
    for turn in found.turns[:-1]:
        for kind, text in _statements(turn):
            if text not in kinds[kind]:
                kinds[kind].append(text)
    rng = random.Random(found.name)
    for texts in kinds.values():
        rng.shuffle(texts)
    drawn: list[tuple[str, list[str]]] = []
    while len(drawn) < count and any(kinds.values()):
        drawn += [("made: " + kind, [texts.pop()]) for kind, texts in kinds.items() if texts]
    return drawn[:count]


def _statements(turn: NewTurn) -> Iterator[tuple[str, str]]:
    if turn.role == "user" and turn.name is None and not is_host_text(turn.content):
        yield from (("user", text) for text in _sentences(turn.content[:1_500]))
    elif turn.role == "assistant" and turn.name is None and turn.call_id is None:
        yield from (("reason", text) for text in _sentences(turn.content) if _REASON.search(text))
    elif turn.role == "assistant" and turn.name in ("Edit", "Write", "MultiEdit"):
        yield from (("file", Path(path).name) for path in _EDITED.findall(turn.content)[:1])
    elif turn.role == "tool" and turn.name == "Bash":
        lines = [_DURATION.sub("", line.strip()) for line in turn.content.splitlines() if _ERROR_LINE.fullmatch(line)]
        failed = turn.content.startswith("Exit code") or "FAIL" in turn.content
        yield from (("error", line) for line in lines[:2] if failed and 20 < len(line) < 300)


def _sentences(text: str) -> list[str]:
    return [one.strip() for one in _SENTENCE.split(text) if len(one.split()) >= 6 and len(one) < 300]


async def measure(paths: Sequence[Path], budget: int, wanted: int, verbose: bool) -> None:
    totals: dict[str, Counter[str]] = {}
    for one in compactions(paths, wanted):
        memory = Memory(InMemoryStore(), ExtractiveSummarizer())
        await memory.sync(one.turns, conversation_id="c")
        text = await memory.left_out_of_recap("c", token_budget=budget) or ""
        recap, added = RecapWords(one.turns[-1].content), [RecapWords(line) for line in text.splitlines()]
        for kind, statements in one.questions:
            by_recap = any(recap.share_of(s) >= ANSWERED_SHARE for s in statements)
            by_both = by_recap or any(line.share_of(s) >= ANSWERED_SHARE for s in statements for line in added)
            for key in (kind, kind.partition(":")[0], "all", f"  {one.name}"):
                total = totals.setdefault(key, Counter())
                total.update(n=1, recap=by_recap, both=by_both)
            if verbose and not by_both:
                print(f"missing  {one.name}  {kind}  {statements[0][:120]!r}")
    for key, total in sorted(totals.items()):
        shares = [f"{100 * total[part] / total['n']:6.1f} %" for part in ("recap", "both")]
        print(f"{key:28s} n={total['n']:4d}  recap {shares[0]}  recap and supplement {shares[1]}")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench compaction", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--budget", type=int, default=1_300)
    parser.add_argument("--questions", type=int, default=10)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    paths = options.data or [Path(os.environ["CTXMEM_EVAL_DIR"]) / "data" / "people-dev.jsonl.gz"]
    asyncio.run(measure(paths, options.budget, options.questions, options.verbose))
