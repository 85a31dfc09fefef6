"""Stored text as labels and pages. All of it passes `visible` and none is markup, so a terminal obeys none of it."""

from __future__ import annotations

from rich.text import Text

from ctxmem_mcp.cli.conversation_table import Listed, title_of
from ctxmem_mcp.cli.output import DIM, UNTITLED, counted, local_time, short
from ctxmem_mcp.models import Turn
from ctxmem_mcp.results import Hit, OutlineNode, View
from ctxmem_mcp.text.visible import visible

_LABEL_CHARS = 120
# An editor takes seconds to wrap the megabytes that a turn may have.
TEXT_CHARS_MAX = 200_000


def one_line(text: str) -> str:
    """Returns the beginning of a text in one line."""
    line = " ".join(text[: 4 * _LABEL_CHARS].split())
    return visible(line if len(line) <= _LABEL_CHARS else line[: _LABEL_CHARS - 1] + "…")


def conversation_label(listed: Listed) -> Text:
    info = listed.info
    facts = [info.agent, local_time(info.last_activity), counted(info.turns, "turn"), f"{short(info.tokens)} tokens",
             info.conversation_id]  # fmt: skip
    label = Text(one_line(title_of(listed)), style="bold")
    return label.append("\n" + visible(" · ".join(filter(None, facts))), style=DIM)


def hit_label(hit: Hit) -> Text:
    label = Text(one_line(hit.snippet))
    facts = [hit.role, hit.name, hit.said_at and local_time(hit.said_at), hit.conversation_id, hit.turn_id]
    return label.append("\n" + visible(" · ".join(filter(None, facts))), style=DIM)


def node_label(node: OutlineNode) -> Text:
    label = Text(one_line(node.summary.title) or UNTITLED)
    return label.append(f"  t{node.first}-t{node.last} · {short(node.tokens)}", style=DIM)


def turn_label(turn: Turn) -> Text:
    who = f"{turn.role} {visible(turn.name)}" if turn.name else turn.role
    return Text(f"t{turn.index} {who}: ", style=DIM).append(one_line(turn.content), style="default")


def node_text(node: OutlineNode) -> str:
    """Returns a section's summary."""
    lines = [f"{line.kind}: {line.text}  t{line.index}" for line in node.summary.highlights]
    size = f"t{node.first}-t{node.last}, {node.tokens:,} tokens"
    return visible("\n".join([node.summary.title, size, "", *lines]))


def turn_text(turn: Turn, conversation_id: str) -> str:
    """Returns a turn's content below a line with its facts."""
    facts = [turn.id, turn.role, turn.name, turn.said_at, f"{turn.tokens:,} tokens"]
    return f"{visible(' · '.join(filter(None, facts)))}\n\n{_shortened(turn.content, conversation_id, turn.id)}"


def view_text(view: View) -> str:
    """Returns what an agent gets, below a line with its size."""
    size = f"{view.shown_tokens:,} of {view.token_budget:,} tokens, as an agent gets it; in all {view.tokens:,}"
    return f"{size}\n\n{visible(view.header)}\n{visible(view.text)}"


def _shortened(text: str, conversation_id: str, turn_id: str) -> str:
    if len(text) <= TEXT_CHARS_MAX:
        return visible(text)
    command = f"ctxmem-mcp expand {conversation_id} {turn_id}"
    rest = len(text) - TEXT_CHARS_MAX
    return f"{visible(text[:TEXT_CHARS_MAX])}\n\n… {rest:,} more characters: {visible(command)}"
