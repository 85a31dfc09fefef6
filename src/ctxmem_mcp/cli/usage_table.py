"""Prints what the gateway sent: a table on a terminal, plain lines when piped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.output import DIM
from ctxmem_mcp.text.visible import visible

_BAR_CELLS = 20
_COLUMNS = ("requests", "sent", "from cache", "saved", "received", "cost")


def print_lines(report: Mapping[str, Any]) -> None:
    """Prints a line for each day and conversation, and the total."""
    for row in _rows(report):
        output.write(_line(row))


def print_table(out: Console, report: Mapping[str, Any]) -> None:
    """Prints a table with a bar for the tokens sent: the cached part, and the rest."""
    table = Table(box=None, pad_edge=False, header_style=DIM)
    table.add_column("day", no_wrap=True)
    for name in _COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    table.add_column("conversation", overflow="ellipsis", no_wrap=True)
    most = max((row["tokens_in"] for row in report["data"]), default=0)
    for row in _rows(report):
        is_total = row["date"] == "total"
        bar = Text() if is_total else _bar(row, most)
        table.add_row(str(row["date"]), *_cells(row), bar, Text(visible(_name(row))), style="bold" if is_total else "")
    out.print(table)


def _rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [*report["data"], {"date": "total", "conversation_id": None, **report["total"]}]


def _bar(row: Mapping[str, Any], most: int) -> Text:
    cells = round(_BAR_CELLS * row["tokens_in"] / most) if most else 0
    cached = round(cells * min(1.0, row["tokens_cached"] / row["tokens_in"])) if row["tokens_in"] else 0
    return Text("█" * cached, style="green").append("█" * (cells - cached), style=DIM)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['requests']:,}", output.short(row["tokens_in"]), _share(row), output.short(row["tokens_saved"]),
            output.short(row["tokens_out"]), f"${row['cost']:.2f}"]  # fmt: skip


def _share(row: Mapping[str, Any]) -> str:
    return f"{row['tokens_cached'] / row['tokens_in']:.0%}" if row["tokens_in"] else "0%"


def _name(row: Mapping[str, Any]) -> str:
    return str(row["conversation_id"] or ("" if row["date"] == "total" else "(forgotten)"))


def _line(row: Mapping[str, Any]) -> str:
    _, sent, share, saved, received, cost = _cells(row)
    counts = [output.counted(row["requests"], "request"), f"{sent} sent", f"{share} from cache", f"{saved} saved",
              f"{received} received", cost]  # fmt: skip
    return "  ".join(filter(None, [str(row["date"]), " · ".join(counts), _name(row)]))
