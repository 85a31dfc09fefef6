"""python -m bench scale [--sizes 1M,10M] [--conversations 100,1000,10000] [--stores sqlite,postgres] [--folder DIR]

What grows with a conversation, and with the number of conversations. One conversation of each size in tokens, and each
number of short conversations in a store of their own, in SQLite files and in a PostgreSQL database, with word vectors.
The text is real, varied so that it does not repeat (bench/scale/text.py). A store is filled by importing turns, and
measured with appends, views, searches, a project's view, reverts and forgetting (bench/scale/measure.py).

With --folder, stores that are filled already are used again, and results.json there keeps the figures of earlier runs.
The exponent of a row is that of size in its growth, by least squares in logarithms: 0 is flat, 1 is linear.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.scale import fill, report
from bench.scale.stores import POSTGRES, SQLITE, Place

UNITS = {"k": 1_000, "M": 1_000_000}
# The conversation that is measured beside many short ones.
MEASURED, MEASURED_TOKENS = "measured", 200_000


@dataclass(frozen=True)
class Content:
    """What a store is filled with: a long conversation, or short ones and one of MEASURED_TOKENS."""

    kind: str
    size: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.size}"

    @property
    def measured(self) -> str:
        return fill.LONG if self.kind == report.TOKENS else MEASURED


def number(text: str) -> int:
    """Converts "500k", "10M" or "1000"."""
    unit = UNITS.get(text[-1:], 1)
    return round(float(text.removesuffix("k").removesuffix("M")) * unit)


def numbers(text: str) -> list[int]:
    return sorted(number(part) for part in text.split(",") if part)


def filled(place: Place, content: Content) -> None:
    """Fills a store, unless it is filled already."""
    if content.kind == report.TOKENS:
        asyncio.run(fill_in(place, content.measured, content.size))
        return
    asyncio.run(fill_in(place, content.measured, MEASURED_TOKENS))
    stored = min(content.size, fill.STORED_MAX) if place.kind == SQLITE else content.size
    asyncio.run(fill_in(place, None, stored))
    fill.copy_short(place.folder, stored, content.size if place.kind == SQLITE else stored, place.name)


async def fill_in(place: Place, conversation_id: str | None, size: int) -> None:
    """Fills one conversation with so many tokens, or the store with so many short conversations."""
    async with place.opened(filling=True) as (memory, store):
        if conversation_id:
            await fill.fill_long(memory, store, conversation_id, size, place.name)
        else:
            await fill.fill_short(memory, size, place.name)


def measured(folder: Path, kind: str, content: Content, operations: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "bench.scale.measure", str(folder), kind, content.name, content.measured]
    done = subprocess.run([*command, "--operations", str(operations)], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def read_results(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def run(folder: Path, kinds: Sequence[str], contents: Sequence[Content], operations: int) -> None:
    """Fills and measures the stores. operations: 0 to fill them only."""
    file = folder / "results.json"
    for kind in kinds:
        for content in contents:
            place = Place(folder, kind, content.name)
            filled(place, content)
            if operations:
                print(f"{place.name}: measuring", flush=True)
                figures = {"store": kind, "kind": content.kind, "size": content.size}
                figures |= measured(folder, kind, content, operations)
                file.write_text(json.dumps(read_results(file) | {place.name: figures}, indent=1))
    print(report.tables(read_results(file)))


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=numbers, default=[1_000_000, 10_000_000], help="tokens, such as 1M,10M,100M")
    parser.add_argument("--conversations", type=numbers, default=[100, 1_000, 10_000])
    parser.add_argument("--stores", default=f"{SQLITE},{POSTGRES}")
    parser.add_argument("--operations", type=int, default=50, help="of views, searches and so on, each; 0: only fill")
    parser.add_argument("--folder", type=Path, help="keep the stores and the results here")
    options = parser.parse_args(arguments)
    contents = [Content(report.TOKENS, size) for size in options.sizes]
    contents += [Content(report.CONVERSATIONS, size) for size in options.conversations]
    with contextlib.ExitStack() as stack:
        folder = options.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(folder, options.stores.split(","), contents, options.operations)
