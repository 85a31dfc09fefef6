"""The results as tables, with the exponent of each row's growth."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

# What a store is filled with, and grows by.
TOKENS, CONVERSATIONS = "tokens", "conversations"
# Exponents need sizes that differ by at least this factor.
FACTOR_MIN = 5


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float | None:
    """Returns the slope of the values' logarithms over those of the sizes; None of too few of them."""
    if len(sizes) < 2 or max(sizes) < FACTOR_MIN * min(sizes) or min(values) <= 0:
        return None
    return statistics.linear_regression([math.log(size) for size in sizes], [math.log(value) for value in values]).slope


def tables(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a table for each store and kind of content."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for one in results.values():
        groups.setdefault((one["store"], one["kind"]), []).append(one)
    return "\n".join(_table(store, kind, columns) for (store, kind), columns in groups.items())


def _table(store: str, kind: str, columns: list[Mapping[str, Any]]) -> str:
    columns = sorted(columns, key=lambda column: column["size"])
    sizes = [column["size"] for column in columns]
    head = " | ".join(f"{size:,}" for size in sizes)
    load = ", ".join(f"{column['load']:.0f}" for column in columns)
    lines = [
        f"\n{store}, by {kind}; load {load}\n",
        f"| milliseconds: p50 (p95), processor time | {head} | exponent of p50, p95, processor time |",
        f"| --- |{' ---: |' * (len(sizes) + 1)}",
    ]
    for name in columns[-1]["times"]:
        found = [column["times"][name] for column in columns if name in column["times"]]
        if len(found) == len(sizes):
            cells = [f"{one['p50']:.1f} ({one['p95']:.1f}), {one['cpu_p50']:.1f}" for one in found]
            slopes = [exponent(sizes, [one[key] for one in found]) for key in ("p50", "p95", "cpu_p50")]
            lines.append(_row(name, cells, slopes))
    for name, key, unit in _AMOUNTS:
        values = [column[key] / unit for column in columns]
        lines.append(_row(name, [f"{value:,.1f}" for value in values], [exponent(sizes, values)]))
    return "\n".join(lines)


# What is stated once for a store: name, key and unit.
_AMOUNTS = (
    ("forget, ms", "forget_ms", 1),
    ("disk, MB", "disk", 1e6),
    ("resident, MB", "rss", 1e6),
    ("of it since the store was opened, MB", "rss_added", 1e6),
    ("turns, thousands", "turns", 1e3),
    ("chunks, thousands", "chunks", 1e3),
)


def _row(name: str, cells: Sequence[str], slopes: Sequence[float | None]) -> str:
    shown = ", ".join("" if slope is None else f"{slope:.2f}" for slope in slopes)
    return f"| {name} | {' | '.join(cells)} | {shown} |"
