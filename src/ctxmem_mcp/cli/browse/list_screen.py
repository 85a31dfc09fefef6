"""The list of conversations, which filters them and searches all turns while one types."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Footer, Input, OptionList, Static
from textual.widgets.option_list import Option

from ctxmem_mcp.cli.browse.conversation_screen import ConversationScreen
from ctxmem_mcp.cli.browse.labels import conversation_label, hit_label, one_line
from ctxmem_mcp.cli.conversation_table import Listed, fold_subagents
from ctxmem_mcp.cli.output import counted
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.results import Hit

# A search starts when no key was pressed for so long.
_PAUSE_SECONDS = 0.3
_HITS = 30
# More rows than anybody scrolls through; the filter reaches the others.
_ROWS_MAX = 500


class ListScreen(Screen[None]):
    """All conversations, last active first; with words typed, those that fit, and below them the turns found."""

    BINDINGS = [Binding("down", "to_list", "List", show=False), Binding("escape", "clear", "Clear", show=False)]  # noqa: RUF012

    def __init__(self, memory: Memory) -> None:
        super().__init__()
        self._memory = memory
        self._listed: list[Listed] = []
        # What each row opens: a conversation, and a turn if it is a hit.
        self._targets: list[tuple[str, str | None]] = []

    def compose(self) -> ComposeResult:
        """Yields the widgets."""
        yield Input(placeholder="Search all conversations", id="search")
        yield Static(id="note", markup=False)
        yield OptionList(id="list", markup=False)
        yield Footer()

    async def on_mount(self) -> None:
        """Reads the conversations."""
        page = await self._memory.conversations(limit=sys.maxsize)
        self._listed = fold_subagents(page.conversations)
        note = f"{counted(len(page.unreadable), 'file')} can't be read: ctxmem-mcp list" if page.unreadable else ""
        self._show(self._listed, (), note)

    @on(Input.Changed)
    def filter(self, event: Input.Changed) -> None:
        """Filters at once, and searches after a pause."""
        words = event.value.strip()
        self._show(self._fitting(words), (), "Searching…" if words else "")
        self.search(words)

    @work(exclusive=True)
    async def search(self, words: str) -> None:
        """Shows the turns that are found. The next key cancels it."""
        if not words:
            return
        await asyncio.sleep(_PAUSE_SECONDS)
        try:
            found = await self._memory.search(words, limit=_HITS)
        except CtxmemError as error:
            self._show(self._fitting(words), (), one_line(error.message))
            return
        searched = counted(found.searched, "conversation")
        self._show(self._fitting(words), found.hits, f"{counted(len(found.hits), 'turn')} found in {searched}")

    @on(OptionList.OptionSelected)
    def open(self, event: OptionList.OptionSelected) -> None:
        """Opens the conversation of a row."""
        conversation_id, turn_id = self._targets[event.option_index]
        self.app.push_screen(ConversationScreen(self._memory, conversation_id, turn_id))

    @on(Input.Submitted)
    def action_to_list(self) -> None:
        """Moves from the search field to the list."""
        rows = self.query_one(OptionList)
        rows.focus()
        if rows.highlighted is None and self._targets:
            rows.highlighted = 0

    def action_clear(self) -> None:
        """Empties the search field."""
        self.query_one(Input).value = ""
        self.query_one(Input).focus()

    def _fitting(self, words: str) -> list[Listed]:
        sought = words.lower().split()
        return [one for one in self._listed if all(word in _haystack(one) for word in sought)]

    def _show(self, listed: Sequence[Listed], hits: Sequence[Hit], note: str) -> None:
        shown = listed[:_ROWS_MAX]
        self._targets = [(one.info.conversation_id, None) for one in shown]
        self._targets += [(hit.conversation_id, hit.turn_id) for hit in hits]
        rows = self.query_one(OptionList)
        rows.clear_options()
        rows.add_options([Option(conversation_label(one)) for one in shown] + [Option(hit_label(hit)) for hit in hits])
        self.query_one("#note", Static).update(note or counted(len(listed), "conversation"))


def _haystack(one: Listed) -> str:
    return f"{one.info.title} {one.info.conversation_id} {one.info.agent or ''}".lower()
