"""Reads bench/data/people.json: questions as people ask them, written by hand, about transcripts in CTXMEM_EVAL_DIR."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from bench.data.models import Conversation, Evidence, Question, eval_folder
from ctxmem_mcp.capture.importer import read as transcript_in


def looks_like(head: str) -> bool:
    """Returns whether a file with this beginning is in this format."""
    return head.startswith("{") and '"transcripts"' in head


def read(path: Path) -> Iterator[Conversation]:
    """Yields a conversation per transcript."""
    for name, questions in json.loads(path.read_text("utf-8"))["transcripts"].items():
        turns = transcript_in(eval_folder() / "transcripts" / name).turns
        asked = tuple(
            Question(f"{Path(name).stem}-{i}", q["query"], q["category"], (Evidence(f"t{q['turn']}", q["text"]),))
            for i, q in enumerate(questions)
        )
        yield Conversation(Path(name).stem, {f"t{i}": turn for i, turn in enumerate(turns)}, asked)
