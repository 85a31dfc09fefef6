"""python -m bench formats PATH... [--no-store]

Imports transcripts into a store in memory, twice, and prints for each format: files, conversations, messages (turns),
rows that carry words and were not understood, other branches, calls with and without a result, results without a call,
and what the second import added (0 if every turn was recognised).
"""

from __future__ import annotations

import argparse
import asyncio
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.capture import importer
from ctxmem_mcp.cli.import_files import read_transcripts
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.stores.in_memory import InMemoryStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from ctxmem_mcp.transcripts.base import Transcript

COLUMNS = ("files", "chats", "turns", "unread", "branches", "answered", "open", "orphans", "again")


@dataclass(slots=True)
class Row:
    """The figures of one format; see the module's docstring."""

    files: int = 0
    chats: int = 0
    turns: int = 0
    unread: int = 0
    branches: int = 0
    answered: int = 0
    open: int = 0
    orphans: int = 0
    again: int = 0

    def add(self, transcript: Transcript) -> None:
        calls = {turn.call_id for turn in transcript.turns if turn.role == "assistant" and turn.call_id}
        results = [turn.call_id for turn in transcript.turns if turn.role == "tool"]
        self.chats += bool(transcript.turns)
        self.turns += len(transcript.turns)
        self.branches += len(transcript.abandoned_branches)
        self.answered += len(calls & {*results})
        self.open += len(calls - {*results})
        self.orphans += sum(1 for call_id in results if call_id not in calls)


async def measure(paths: list[Path], store: bool) -> tuple[dict[str, Row], list[str], list[Path]]:
    files, named, _ = importer.find_files(paths)
    read, refused, unknown = read_transcripts(files, named)
    rows: dict[str, Row] = defaultdict(Row)
    for _, transcript in read:
        rows[transcript.agent].files += 1
        rows[transcript.agent].unread += transcript.unread
    memory = Memory(InMemoryStore(), ExtractiveSummarizer())
    for file, transcript in importer.with_threads(read):
        rows[transcript.agent].add(transcript)
        if store:
            await importer.import_transcript(memory, file, transcript)
            second = await importer.import_transcript(memory, file, transcript)
            rows[transcript.agent].again += second.new if second else 0
    await memory.close()
    return rows, refused, unknown


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench formats", description=__doc__)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--no-store", action="store_true", help="only parse")
    options = parser.parse_args(arguments)
    rows, refused, unknown = asyncio.run(measure(options.paths, not options.no_store))
    print(f"{'format':18}" + "".join(f"{name:>10}" for name in COLUMNS))
    for agent, row in sorted(rows.items()):
        print(f"{agent:18}" + "".join(f"{getattr(row, name):>10,}" for name in COLUMNS))
    for line in (*refused, *(f"not known: {path}" for path in unknown)):
        print(line)
