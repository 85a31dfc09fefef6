"""python -m bench.scale.neighbours --tokens 1M NAME=PYTHON...

Other memories that run without a model, on the turns that `bench scale` uses: filled with the same text, then
appended to one by one, then asked the same questions. NAME is a module of this folder, PYTHON the interpreter of the
environment that it is installed in; docs/benchmarks.md says how to install each. `ctxmem` is this project, measured
the same way.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from bench.scale import text
from bench.scale.command import number
from ctxmem_mcp.text import tokenizer

APPENDED, QUERIES = 40, 40


def work(tokens: int) -> dict[str, Any]:
    """Returns the turns to fill with, those to append, and the questions."""
    source, filled = text.turns(text.read_conversations()), list[Any]()
    while tokens > 0:
        filled.append(turn := next(source))
        tokens -= tokenizer.count(turn.content)
    appended = list(islice(source, APPENDED))
    return {
        "turns": [_plain(turn) for turn in filled], "appended": [_plain(turn) for turn in appended],
        "queries": text.read_questions()[:QUERIES],
    }  # fmt: skip


def _plain(turn: Any) -> dict[str, Any]:
    return {name: value for name, value in asdict(turn).items() if name in ("role", "content", "said_at", "name")}


def measured(name: str, python: str, file: Path) -> dict[str, Any]:
    script = Path(__file__).with_name(f"{name}.py")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        done = subprocess.run([python, str(script), str(file), folder], check=True, stdout=subprocess.PIPE)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale.neighbours",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tokens", type=number, default=1_000_000)
    parser.add_argument("neighbours", nargs="*", metavar="NAME=PYTHON")
    options = parser.parse_args()
    print("| | fill, s | append p50 (p95), ms | its processor time, ms | query p50 (p95), ms | its processor time, ms "
          "| characters | resident, MB | disk, MB | load |")  # fmt: skip
    print(f"| --- |{' ---: |' * 9}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "work.json"
        file.write_text(json.dumps(work(options.tokens)), "utf-8")
        for one in [f"ctxmem={sys.executable}", *options.neighbours]:
            name, _, python = one.partition("=")
            try:
                found = measured(name, python, file)
            except subprocess.CalledProcessError as error:
                print(f"| {name} | failed: {error} |", flush=True)
                continue
            cells = [f"{found['fill_seconds']:.0f}"]
            for kind in ("append", "query"):
                times = found[kind]
                cells += [f"{times['p50']:.1f} ({times['p95']:.1f})", f"{times['cpu_mean']:.1f}"]
            cells += [f"{found['query']['chars_mean']:,.0f}", f"{found['rss'] / 1e6:.0f}", f"{found['disk'] / 1e6:.0f}"]
            print(f"| {name} | {' | '.join(cells)} | {os.getloadavg()[0]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
