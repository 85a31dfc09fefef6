"""The state of errors at the end of sections that people labelled."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

from bench.train.titles import build_tree, nearest, summarize

from ctxmem_mcp.models import Summary
from ctxmem_mcp.summarizers.base import UNRESOLVED

LABELS = Path(__file__).parents[2] / "bench" / "data" / "open_errors.json"


def open_errors(summary: Summary) -> list[str]:
    """The errors that a summary calls open."""
    found, pending = list[str](), list[str]()
    for line in summary.highlights:
        if line.kind == "error":
            pending.append(line.text)
            continue
        found += pending if line.text == UNRESOLVED else []
        pending = []
    return found


def test_errors_called_open_are_open_and_most_open_errors_are_named(eval_dir: Path) -> None:
    data = eval_dir / "data"
    labels = {
        (entry["history"], entry["first"], entry["last"]): entry["open"] for entry in json.loads(LABELS.read_text())
    }
    sections = json.loads((data / "titles-dev.json").read_text(encoding="utf-8"))
    wrong, named = list[str](), set[tuple[str, str, str]]()
    with gzip.open(data / "people-dev.jsonl.gz", "rt", encoding="utf-8") as lines:
        for history in map(json.loads, lines):
            nodes = build_tree(history["turns"])
            summaries = summarize(nodes)
            for section in sections:
                if section["history"] != history["id"]:
                    continue
                key = (section["history"], section["first"], section["last"])
                for text in open_errors(summaries[nearest(nodes, section).node.digest]):
                    if any(part in text for part in labels.get(key, [])):
                        named.add(key)
                    else:
                        wrong.append(f"{key}: {text}")
    assert wrong == []
    assert 2 * len(named) >= len(labels)
