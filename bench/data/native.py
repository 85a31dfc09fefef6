"""This project's own form: a gzipped file, one conversation a line (README: 'Measured')."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from bench.data.models import Conversation, Evidence, Question
from ctxmem_mcp.models import NewTurn


def looks_like(head: str) -> bool:
    return head.startswith("{") and '"turns"' in head


def opened(path: Path) -> TextIO:
    """A text file, gzipped or not."""
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def read(path: Path) -> Iterator[Conversation]:
    with opened(path) as lines:
        yield from (conversation(json.loads(line)) for line in lines if line.strip())


def conversation(given: dict[str, Any]) -> Conversation:
    turns = {t["id"]: NewTurn(t["role"], t["content"], t["name"], t["said_at"]) for t in given["turns"]}
    return Conversation(given["id"], turns, tuple(question(q) for q in given["questions"] if q["evidence"]))


def question(given: dict[str, Any]) -> Question:
    evidence = tuple(Evidence(e["turn"], e["text"]) for e in given["evidence"])
    return Question(given["id"], given["query"], given["category"], evidence, given.get("answer"))
