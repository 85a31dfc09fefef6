"""The app: a list of conversations with search, and a screen for each conversation."""

from __future__ import annotations

from textual.app import App
from textual.binding import Binding

from ctxmem_mcp.cli.browse.conversation_screen import ConversationScreen
from ctxmem_mcp.cli.browse.list_screen import ListScreen
from ctxmem_mcp.memory import Memory


class BrowseApp(App[None]):
    """Reads a memory. It never changes one."""

    TITLE = "ctxmem"
    ENABLE_COMMAND_PALETTE = False
    BINDINGS = [Binding("ctrl+q", "quit", "Quit")]  # noqa: RUF012
    CSS = """
    #note { height: auto; color: $text-muted; padding: 0 1; }
    #list { height: 1fr; }
    #parts { height: 1fr; }
    #tree { width: 2fr; min-width: 24; }
    #text { width: 3fr; }
    """

    def __init__(self, memory: Memory, conversation_id: str | None = None) -> None:
        """Starts with the list, or with a conversation above it."""
        super().__init__()
        self.memory = memory
        self._first = conversation_id

    async def on_mount(self) -> None:
        """Shows the first screen."""
        await self.push_screen(ListScreen(self.memory))
        if self._first is not None:
            await self.push_screen(ConversationScreen(self.memory, self._first))
