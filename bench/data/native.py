"""Reads this project's own format: a gzipped file with one conversation per line (README: 'Measured')."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from bench.data.models import Conversation, Evidence, Question
from ctxmem_mcp.models import NewTurn


def looks_like(head: str) -> bool:
    """Returns whether a file with this beginning is in this format."""
    return head.startswith("{") and '"turns"' in head


def open_text(path: Path) -> TextIO:
    """Opens a text file, gzipped or not."""
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read(path: Path) -> Iterator[Conversation]:
    """Yields the conversations of a file."""
    with open_text(path) as lines:
        yield from (conversation(json.loads(line)) for line in lines if line.strip())


def conversation(given: dict[str, Any]) -> Conversation:
    turns = {
        t["id"]: NewTurn(t["role"], t["content"], t["name"], t["said_at"], t.get("call_id")) for t in given["turns"]
    }
    return Conversation(given["id"], turns, tuple(question(q) for q in given["questions"] if q["evidence"]))


def question(given: dict[str, Any]) -> Question:
    evidence = tuple(
        Evidence(e["turn"], e["text"], tuple(Evidence(other["turn"], other["text"]) for other in e.get("or", ())))
        for e in given["evidence"]
    )
    return Question(given["id"], given["query"], given["category"], evidence, given.get("answer"))
