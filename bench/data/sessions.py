"""A folder of sessions as agents wrote them (~/.claude/projects; whatever `ctxmem-mcp import` takes), asked by rule.

Nobody wrote questions for them, so they are made: some words of one sentence of a turn, in one of many ways of asking,
with that turn as the evidence. The same rules make part of what the ranker was trained on, so a figure got with them
is a check on one's own sessions, not a proof.

Sessions of one folder that follow each other make one history of up to five, so that a budget has to choose.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from bench.data import native
from bench.data.models import Conversation
from bench.train.corpus import prepare
from bench.train.questions import about_code
from ctxmem_mcp.capture.importer import find_files
from ctxmem_mcp.capture.importer import read as transcript_in
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn

SESSIONS_TOGETHER = 5
QUESTIONS_EACH = 60
# A history of less fits any budget whole.
TURNS_MIN = 100


def read(folder: Path, seed: int = 1) -> Iterator[Conversation]:
    files, _ = find_files([folder])
    for beside, group in groupby(sorted(files, key=lambda file: (str(file.parent), file.name)), lambda f: f.parent):
        told = sorted((said for file in group if (said := _said(file))), key=_began)
        for i in range(0, len(told), SESSIONS_TOGETHER):
            turns = [turn for said in told[i : i + SESSIONS_TOGETHER] for turn in said]
            if len(turns) >= TURNS_MIN:
                yield asked(f"{beside.name or 'sessions'}-{i // SESSIONS_TOGETHER}", turns, seed)


def _said(file: Path) -> tuple[NewTurn, ...]:
    try:
        return transcript_in(file).turns
    except InvalidArgument:
        return ()


def _began(said: Sequence[NewTurn]) -> str:
    return next((turn.said_at for turn in said if turn.said_at), "")


def asked(name: str, turns: Sequence[NewTurn], seed: int = 1) -> Conversation:
    """The history with questions made of it."""
    by_id = {f"t{i}": turn for i, turn in enumerate(turns)}
    prepared = prepare({"id": name, "kind": "coding", "questions": [], "turns": [
        {"id": turn_id, "role": t.role, "name": t.name, "content": t.content, "said_at": t.said_at}
        for turn_id, t in by_id.items()
    ]})  # fmt: skip
    made: Iterator[dict[str, Any]] = about_code(prepared, QUESTIONS_EACH, random.Random(seed))
    questions = tuple(native.question({**question, "id": f"{name}-{i}"}) for i, question in enumerate(made))
    return Conversation(name, by_id, questions)
