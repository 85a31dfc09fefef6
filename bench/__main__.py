"""python -m bench NAME [...]. Each says what it measured, on what, beside what."""

from __future__ import annotations

import importlib
import sys

BENCHES = ("speed", "recall", "outline", "stability", "hook", "gateway", "handoff")


def main() -> None:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHES:
        sys.exit(f"usage: python -m bench {{{','.join(BENCHES)}}} [--help]")
    importlib.import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:])


if __name__ == "__main__":
    main()
