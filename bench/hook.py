"""python -m bench hook [--times 40]

Measures the time that an agent waits for a hook: the hook as a process, beside a bare interpreter and an interpreter
that imports JSON, alternating in the same run. Machines are noisy: read the ratio and the difference.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

EVENT = {"session_id": "bench", "transcript_path": "/nowhere/bench.jsonl", "cwd": "/nowhere"}
EVENTS = {
    "Stop": {"hook_event_name": "Stop", "last_assistant_message": "Done. " * 200},
    "PostToolUse, 1 MB": {"hook_event_name": "PostToolUse", "tool_name": "Read", "tool_response": "x" * 1_000_000},
    "SessionStart": {"hook_event_name": "SessionStart", "source": "startup"},
}


def run_ms(command: Sequence[str], stdin: bytes, environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, input=stdin, env=environment, stdout=subprocess.DEVNULL, check=True)
    return (time.perf_counter() - began) * 1000


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench hook", description=__doc__)
    parser.add_argument("--times", type=int, default=40)
    times = parser.parse_args(arguments).times
    hook = [sys.executable, "-m", "ctxmem_mcp", "hook", "claude-code"]
    print(f"{'':24}{'median':>9}{'p90':>9}{'over bare':>11}{'ratio':>7}   ms, {times} times each, alternating")
    with tempfile.TemporaryDirectory() as folder:
        cases: dict[str, tuple[Sequence[str], bytes]] = {
            "bare interpreter": ([sys.executable, "-c", "pass"], b""),
            "import json, typing": ([sys.executable, "-c", "import json, typing"], b""),
        }
        cases |= {name: (hook, json.dumps({**EVENT, **fields}).encode()) for name, fields in EVENTS.items()}
        figures: dict[str, list[float]] = {name: [] for name in cases}
        for _ in range(times):
            for name, (command, stdin) in cases.items():
                # Each event has its own data folder, because SessionStart also processes spooled events.
                environment = {**os.environ, "CTXMEM_DATA_DIR": os.path.join(folder, name)}
                figures[name].append(run_ms(command, stdin, environment))
    bare = statistics.median(figures["bare interpreter"])
    for name, values in figures.items():
        median, p90 = statistics.median(values), sorted(values)[int(len(values) * 0.9)]
        print(f"{name:24}{median:9.1f}{p90:9.1f}{median - bare:11.1f}{median / bare:7.2f}")
