"""Prints results: trees and tables for a terminal, views unchanged, and JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from ctxmem_mcp.models import SHORT_DIGITS, ConversationInfo, Highlight, OutlineNode, View

_STYLES = {
    "request": "cyan", "error": "red", "ending": "green", "decision": "yellow", "outcome": "green", "file": "blue",
    "fact": "default",
}  # fmt: skip
_DIM = "bright_black"
_UNTITLED = "Untitled"
# What a table of conversations takes beside their ids: a title that says something, and the columns of numbers.
_TITLE_MIN, _NUMBERS = 24, 60


def console() -> Console:
    """Colours only where a person looks; never wrapped where a program reads."""
    out = Console(highlight=False, soft_wrap=False)
    if not out.is_terminal:
        out = Console(highlight=False, soft_wrap=True, width=10_000)
    return out


def counted(number: int, what: str) -> str:
    """1 turn, 2 turns."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def short(tokens: int) -> str:
    """Tokens in a few characters: 812, 4.1k, 1.2M."""
    if tokens < 1_000:
        return str(tokens)
    return f"{tokens / 1_000:.1f}k" if tokens < 1_000_000 else f"{tokens / 1_000_000:.1f}M"


def tree_of(title: str, roots: Sequence[OutlineNode], *, titles_only: bool) -> Tree:
    drawn = Tree(Text(title or _UNTITLED, style="bold"), guide_style=_DIM)
    for root in roots:
        _grow(drawn, root, titles_only)
    return drawn


def _grow(parent: Tree, node: OutlineNode, titles_only: bool) -> None:
    label = Text(node.summary.title, style="bold" if node.children else "default")
    if node.summary.title.startswith("Error"):
        label.stylize("red")
    label.append(
        f"  {_short_id(node)} · {counted(node.last - node.first + 1, 'turn')} · {short(node.tokens)}", style=_DIM
    )
    branch = parent.add(label)
    for child in node.children:
        _grow(branch, child, titles_only)
    if not node.children and not titles_only:
        _add_highlights(branch, node.summary.highlights)


def _short_id(node: OutlineNode) -> str:
    if node.id is None:
        return f"t{node.first}-t{node.last} (open)"
    place, _, digits = node.id.rpartition("-")
    return f"{place}-{digits[:SHORT_DIGITS]}"


def _add_highlights(branch: Tree, highlights: Sequence[Highlight]) -> None:
    """One line each; how an error ended stands under it."""
    under = branch
    for highlight in highlights:
        line = Text(f"{highlight.kind}: " if highlight.kind != "ending" else "", style=_DIM)
        line.append(highlight.text, style=_STYLES[highlight.kind])
        line.append(f"  t{highlight.index} {highlight.role}", style=_DIM)
        if highlight.kind == "error":
            under = branch.add(line)
        else:
            (under if highlight.kind == "ending" else branch).add(line)


def listed(out: Console, conversations: Sequence[ConversationInfo]) -> None:
    """A table; two lines for each where that would leave no room for what they are about."""
    room = out.width - max(len(info.conversation_id) for info in conversations) - _NUMBERS
    if room >= _TITLE_MIN:
        out.print(table_of(conversations, room))
        return
    for info in conversations:
        out.print(Text(info.title or _UNTITLED, style="bold"), no_wrap=True, overflow="ellipsis")
        said = f"  {counted(info.turns, 'turn')} · {short(info.tokens)} · {_day(info.last_activity, time=True)}"
        out.print(Text(f"  {info.conversation_id}"), soft_wrap=True)  # whole, so that it can be copied
        out.print(Text(f"{said} · kept until {_day(info.expires_at)}", style=_DIM))


def table_of(conversations: Sequence[ConversationInfo], title_width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style=_DIM)
    table.add_column("conversation", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True, max_width=title_width)
    for name in ("turns", "tokens", "branches"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("last activity", "kept until"):
        table.add_column(name, no_wrap=True)
    for info in conversations:
        table.add_row(
            escape(info.conversation_id), escape(info.title or _UNTITLED), f"{info.turns:,}", short(info.tokens),
            str(info.branches), _day(info.last_activity, time=True), _day(info.expires_at),
        )  # fmt: skip
    return table


def _day(iso: str, *, time: bool = False) -> str:
    """An instant in the reader's own time zone."""
    local = datetime.fromisoformat(iso).astimezone()
    return local.strftime("%Y-%m-%d %H:%M" if time else "%Y-%m-%d")


def print_view(view: View, as_json: bool) -> None:
    """Prints a view unchanged, so that it can be piped; the reasons for its turns go to stderr."""
    if as_json:
        reasons = {"reasons": [asdict(reason) for reason in view.reasons]} if view.reasons else {}
        print_json({**json.loads(view.header), "text": view.text, **reasons})
    else:
        sys.stdout.write(view.render() + "\n")
        for reason in view.reasons:
            why = ", ".join(reason.why)
            typer.echo(f"{reason.turn_id}  {reason.tokens} tokens  score {reason.score:.2f}: {why}", err=True)


def print_json(value: Any) -> None:
    """Prints a value as JSON, indented on a terminal."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None) + "\n")
