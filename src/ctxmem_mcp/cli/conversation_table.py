"""Selects and prints the conversations of `ctxmem-mcp list`: on a screen, with sub-agents under their session."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from ctxmem_mcp.cli.output import DIM, UNTITLED, counted, local_time, printable, short
from ctxmem_mcp.models import OF_AGENT
from ctxmem_mcp.results import ConversationInfo

# The conversations that are listed unless the user says otherwise.
LISTED = 15
# The width of the narrowest useful title in a table of conversations, and of its columns other than id and title.
_TITLE_MIN, _OTHER_COLUMNS = 24, 60


@dataclass(frozen=True, slots=True)
class Listed:
    """A conversation, and how many sub-agents of its session have conversations of their own."""

    info: ConversationInfo
    subagents: int = 0


def select(infos: Sequence[ConversationInfo], *, space: str | None, agent: str | None) -> list[ConversationInfo]:
    """Returns the conversations of a space and of an agent; None: of any."""
    return [info for info in infos if space in (None, info.space) and agent in (None, info.agent)]


def fold_subagents(infos: Sequence[ConversationInfo]) -> list[Listed]:
    """Returns the conversations without those of sub-agents, which are counted at their session's, if that is there."""
    ids = {info.conversation_id for info in infos}
    session_of = {one: one.partition(OF_AGENT)[0] for one in ids}
    subagents = Counter(session for one, session in session_of.items() if one != session and session in ids)
    return [
        Listed(info, subagents[info.conversation_id])
        for info in infos
        if session_of[info.conversation_id] == info.conversation_id or session_of[info.conversation_id] not in ids
    ]


def print_conversations(out: Console, listed: Sequence[Listed]) -> None:
    """Prints a table, or two lines for each conversation if the table would leave too little width for titles."""
    width = out.width - max(len(one.info.conversation_id) for one in listed) - _OTHER_COLUMNS
    if width >= _TITLE_MIN:
        out.print(_table(listed, width))
        return
    for one in listed:
        info = one.info
        out.print(Text(title_of(one), style="bold"), no_wrap=True, overflow="ellipsis")
        size = f"  {counted(info.turns, 'turn')} · {short(info.tokens)} · {local_time(info.last_activity)}"
        out.print(Text(f"  {info.conversation_id}"), soft_wrap=True)  # whole, so that it can be copied
        out.print(Text(f"{size} · kept until {local_time(info.expires_at)[:10]}", style=DIM))


def _table(listed: Sequence[Listed], title_width: int) -> Table:
    table = Table(box=None, pad_edge=False, header_style=DIM)
    table.add_column("conversation", no_wrap=True)
    table.add_column("title", overflow="ellipsis", no_wrap=True, max_width=title_width)
    for name in ("turns", "tokens", "branches"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("last activity", "kept until"):
        table.add_column(name, no_wrap=True)
    for one in listed:
        info = one.info
        table.add_row(
            escape(info.conversation_id), escape(title_of(one)), f"{info.turns:,}", short(info.tokens),
            str(info.branches), local_time(info.last_activity), local_time(info.expires_at)[:10],
        )  # fmt: skip
    return table


def title_of(one: Listed) -> str:
    """Returns the title, after the number of sub-agents."""
    folded = f"(+{counted(one.subagents, 'sub-agent')}) " if one.subagents else ""
    return folded + (printable(one.info.title) or UNTITLED)
