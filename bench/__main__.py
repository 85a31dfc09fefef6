"""python -m bench NAME [...]. Each benchmark states what it measures, on which data, and its baselines."""

from __future__ import annotations

import importlib
import sys

BENCHMARKS = (
    "speed",
    "recall",
    "outline",
    "stability",
    "hook",
    "gateway",
    "handoff",
    "languages",
    "load",
    "formats",
    "project",
    "compaction",
    "repeats",
    "replaced",
    "wheels",
    "prompts",
    "stores",
    "scale",
)


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        sys.exit(f"usage: python -m bench {{{','.join(BENCHMARKS)}}} [--help]")
    importlib.import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
