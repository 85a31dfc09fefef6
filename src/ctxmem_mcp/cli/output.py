"""Prints results: trees and tables for a terminal, views unchanged, and JSON for scripts.

On a terminal, characters that it would obey are made visible; only piped output is unchanged.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text
from rich.tree import Tree

from ctxmem_mcp.errors import with_name
from ctxmem_mcp.models import SHORT_DIGITS, Highlight
from ctxmem_mcp.results import Hit, OutlineNode, SearchResult, View
from ctxmem_mcp.text.visible import visible, visible_json

_KIND_STYLES = {
    "request": "cyan", "error": "red", "ending": "green", "decision": "yellow", "outcome": "green", "file": "blue",
    "fact": "default",
}  # fmt: skip
DIM = "bright_black"
UNTITLED = "Untitled"


class SafeConsole(Console):
    """A console whose own control codes are the only ones that a terminal gets."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or not self.is_terminal:
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


def console() -> Console:
    """A console with colours on a terminal; piped output is plain and never wrapped."""
    out = SafeConsole(highlight=False, soft_wrap=False)
    if not out.is_terminal:
        out = SafeConsole(highlight=False, soft_wrap=True, width=10_000)
    return out


def write(text: str, stream: TextIO | None = None) -> None:
    """Writes text and a line end to stdout or the stream."""
    stream = stream or sys.stdout
    stream.write(f"{visible(text) if stream.isatty() else text}\n")


def printable(text: str) -> str:
    """Stored text as stdout may get it. `rich` would drop some control characters instead of showing them."""
    return visible(text) if sys.stdout.isatty() else text


def counted(number: int, noun: str) -> str:
    """1 turn, 2 turns."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def hidden_by_expiry(conversations: int) -> str:
    """Says how many conversations a listing hides because they have expired, and that a wrong clock deletes nothing."""
    are = "is past its expiry" if conversations == 1 else "are past their expiry"
    now = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
    return (
        f"{counted(conversations, 'conversation')} {are} by this machine's clock ({now}) and not listed. This command "
        "deleted nothing; if the clock is wrong, correct it and they are back."
    )


def short(tokens: int) -> str:
    """Tokens in a few characters: 812, 4.1k, 1.2M."""
    if tokens < 1_000:
        return str(tokens)
    return f"{tokens / 1_000:.1f}k" if tokens < 1_000_000 else f"{tokens / 1_000_000:.1f}M"


def draw_tree(
    title: str,
    roots: Sequence[OutlineNode],
    *,
    titles_only: bool = False,
    kinds: Container[str] = _KIND_STYLES,
    clean: Callable[[str], str] | None = None,
) -> Tree:
    """A conversation's tree.

    Args:
        titles_only: leave out the highlights of leaves.
        kinds: the kinds of highlights to show.
        clean: applied to stored text; by default `printable`.
    """
    clean = clean or printable
    tree = Tree(Text(clean(title) or UNTITLED, style="bold"), guide_style=DIM)
    for root in roots:
        _add_node(tree, root, () if titles_only else kinds, clean)
    return tree


def _add_node(parent: Tree, node: OutlineNode, kinds: Container[str], clean: Callable[[str], str]) -> None:
    label = Text(clean(node.summary.title), style="bold" if node.children else "default")
    if node.summary.title.startswith("Error"):
        label.stylize("red")
    label.append(
        f"  {_short_id(node)} · {counted(node.last - node.first + 1, 'turn')} · {short(node.tokens)}", style=DIM
    )
    branch = parent.add(label)
    for child in node.children:
        _add_node(branch, child, kinds, clean)
    if not node.children:
        _add_highlights(branch, [line for line in node.summary.highlights if line.kind in kinds], clean)


def _short_id(node: OutlineNode) -> str:
    if node.id is None:
        return f"t{node.first}-t{node.last} (open)"
    place, _, digits = node.id.rpartition("-")
    return f"{place}-{digits[:SHORT_DIGITS]}"


def _add_highlights(branch: Tree, highlights: Sequence[Highlight], clean: Callable[[str], str]) -> None:
    """A line each; the ending of an error is below it."""
    under = branch
    for highlight in highlights:
        line = Text(f"{highlight.kind}: " if highlight.kind != "ending" else "", style=DIM)
        line.append(clean(highlight.text), style=_KIND_STYLES[highlight.kind])
        line.append(f"  t{highlight.index} {highlight.role}", style=DIM)
        if highlight.kind == "error":
            under = branch.add(line)
        else:
            (under if highlight.kind == "ending" else branch).add(line)


def local_time(iso: str) -> str:
    """The minute, in the local time zone: 2026-11-29 09:30."""
    return datetime.fromisoformat(iso).astimezone().strftime("%Y-%m-%d %H:%M")


def print_hits(out: Console, hits: Sequence[Hit], *, with_conversation: bool) -> None:
    """Prints two lines for each hit, and a third with its reasons. with_conversation: include its conversation's id."""
    for hit in hits:
        conversation = hit.conversation_id if with_conversation else None
        turn = " ".join(part for part in (conversation, hit.turn_id, hit.role, hit.name, hit.said_at) if part)
        copies = f"  in {hit.conversations} conversations" if hit.conversations > 1 else ""
        heading = f"{turn}  {' > '.join(hit.path)}  {short(hit.tokens)} tokens{copies}"
        out.print(printable(heading), style="bold", markup=False)
        out.print(f"  {printable(hit.snippet)}", markup=False)
        if hit.score is not None:
            out.print(f"  score {hit.score:.2f}: {', '.join(hit.why)}", style="dim", markup=False)


def hit_record(hit: Hit) -> dict[str, Any]:
    """A hit for scripts. Its score and reasons are in it only if they were requested."""
    record = asdict(hit)
    return record if hit.score is not None else {key: record[key] for key in record if key not in ("score", "why")}


def print_searched(result: SearchResult) -> None:
    """Prints to stderr how many conversations were searched, and which could not be."""
    for name, reason in result.unreadable.items():
        write(f"ctxmem-mcp: not searched, because it can't be read: {with_name(name, reason)}", sys.stderr)
    if result.searched == result.conversations:
        write(f"{counted(result.conversations, 'conversation')} searched.", sys.stderr)
        return
    searched = f"{result.searched:,} of {counted(result.conversations, 'conversation')} searched"
    if result.not_indexed:
        why = f"{result.not_indexed:,} are not indexed yet. A running server indexes them; so does each further search."
        write(f"{searched}; {why}", sys.stderr)
        return
    write(f"{searched} in the time that a search may take. Use rarer words, or --conversation ID.", sys.stderr)


def print_view(view: View, as_json: bool) -> None:
    """Prints a view, when piped unchanged; the reasons for its turns go to stderr."""
    if as_json:
        reasons = {"reasons": [asdict(reason) for reason in view.reasons]} if view.reasons else {}
        print_json({**json.loads(view.header), "text": view.text, **reasons})
    else:
        write(view.render())
        for reason in view.reasons:
            why = ", ".join(reason.why)
            write(f"{reason.turn_id}  {reason.tokens} tokens  score {reason.score:.2f}: {why}", sys.stderr)


def print_json(value: Any) -> None:
    """Prints a value as JSON, indented on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(visible_json(json.dumps(value, ensure_ascii=False, indent=2)) + "\n")
    else:
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
