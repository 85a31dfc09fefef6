"""Runs one neighbour on the work that `bench.scale.neighbours` wrote, in the neighbour's own environment.

It uses the standard library only. A neighbour has `fill(turns)`, `append(turn)`, `query(text)`, which returns the
size of the answer, and `close()`; `processes` are the ids of those beside this one that do its work.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, Protocol


class Neighbour(Protocol):
    processes: list[int]

    def fill(self, turns: list[dict[str, Any]]) -> None: ...

    def append(self, turn: dict[str, Any]) -> None: ...

    def query(self, text: str) -> int: ...

    def close(self) -> None: ...


def figures(times: list[float]) -> dict[str, float]:
    ordered = sorted(times)
    return {"p50": statistics.median(ordered), "p95": ordered[min(len(ordered) - 1, int(len(ordered) * 0.95))]}


def resident(process: int) -> int:
    """Returns the resident bytes of a process."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


def cpu_seconds(process: int) -> float:
    """Returns the processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(create: type[Neighbour]) -> None:
    """Fills, appends and queries, and prints the figures. Arguments: the file of the work, and a folder to store in."""
    work, folder = json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2])
    os.environ["HOME"] = str(folder)
    neighbour = create(folder)  # type: ignore[call-arg]
    everyone = [os.getpid(), *neighbour.processes]
    found: dict[str, Any] = {}
    began = time.perf_counter()
    neighbour.fill(work["turns"])
    found["fill_seconds"] = time.perf_counter() - began
    for name, call, items in (
        ("append", neighbour.append, work["appended"]),
        ("query", neighbour.query, work["queries"]),
    ):
        times, sizes, used = [], [], sum(map(cpu_seconds, everyone))
        for item in items:
            began = time.perf_counter()
            sizes.append(call(item) or 0)
            times.append((time.perf_counter() - began) * 1000)
        used = sum(map(cpu_seconds, everyone)) - used
        found[name] = {**figures(times), "cpu_mean": used / len(items) * 1000, "chars_mean": statistics.fmean(sizes)}
    found["rss"] = sum(map(resident, everyone))
    neighbour.close()
    found["disk"] = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(json.dumps(found))
