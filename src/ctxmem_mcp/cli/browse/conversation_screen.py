"""One conversation: its tree, and beside it the text of a turn, a view for a question, or a hand-off."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal
from textual.screen import Screen
from textual.widgets import Footer, Input, Static, TextArea, Tree
from textual.widgets.tree import TreeNode

from ctxmem_mcp.cli.browse.labels import node_label, node_text, one_line, turn_label, turn_text, view_text
from ctxmem_mcp.cli.output import counted, short
from ctxmem_mcp.errors import CtxmemError
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import Turn
from ctxmem_mcp.results import OutlineNode, View

VIEW_TOKENS, BRIEF_TOKENS = 8_000, 4_000
Item = OutlineNode | Turn


class ConversationScreen(Screen[None]):
    """A conversation on its current branch. Only the sections that are opened are read."""

    AUTO_FOCUS = "#tree"
    BINDINGS = [  # noqa: RUF012
        Binding("escape", "back", "Back"),
        Binding("slash", "ask", "Ask"),
        Binding("h", "hand_off", "Hand-off"),
        Binding("t", "to_tree", "Tree"),
    ]

    def __init__(self, memory: Memory, conversation_id: str, turn_id: str | None = None) -> None:
        """turn_id: the turn to show first."""
        super().__init__()
        self._memory, self._conversation_id, self._turn_id = memory, conversation_id, turn_id

    def compose(self) -> ComposeResult:
        """Yields the widgets."""
        yield Input(placeholder="Ask: what an agent would get for this question", id="question")
        yield Static(id="note", markup=False)
        with Horizontal(id="parts"):
            tree: Tree[Item] = Tree("", id="tree")
            tree.show_root = False
            yield tree
            yield TextArea(id="text", read_only=True, soft_wrap=True)
        yield Footer()

    async def on_mount(self) -> None:
        """Reads the outline."""
        try:
            info = await self._memory.info(self._conversation_id)
            roots = await self._memory.outline(self._conversation_id)
            facts = f"{counted(info.turns, 'turn')} · {short(info.tokens)} tokens · {one_line(self._conversation_id)}"
            self.query_one("#note", Static).update(f"{one_line(info.title)}\n{facts}")
            for node in roots:
                self._tree.root.add(node_label(node), node)
            self._tree.root.expand()
            if self._turn_id:
                await self._reveal(self._turn_id)
            elif roots:
                self.call_after_refresh(self._tree.move_cursor_to_line, 0)
        except CtxmemError as error:
            self._show(one_line(error.message))

    @property
    def _tree(self) -> Tree[Item]:
        return self.query_one("#tree", Tree)

    # ------------------------------------------------------------ tree

    @on(Tree.NodeExpanded)
    async def fill(self, event: Tree.NodeExpanded[Item]) -> None:
        """Adds what a section contains, when it is opened first."""
        try:
            await self._fill(event.node)
        except CtxmemError as error:
            self._show(one_line(error.message))

    @on(Tree.NodeHighlighted)
    def show_item(self, event: Tree.NodeHighlighted[Item]) -> None:
        """Shows the section or turn under the cursor."""
        item = event.node.data
        if isinstance(item, Turn):
            self._show(turn_text(item, self._conversation_id))
        elif item is not None:
            self._show(node_text(item))

    async def _fill(self, branch: TreeNode[Item]) -> None:
        node = branch.data
        if not isinstance(node, OutlineNode) or branch.children:
            return
        for child in node.children:
            branch.add(node_label(child), child)
        if not node.children:
            for turn in await self._memory.turns(self._conversation_id, first=node.first, last=node.last):
                branch.add_leaf(turn_label(turn), turn)

    async def _reveal(self, turn_id: str) -> None:
        """Opens every section down to a turn. One on another branch is shown without its place in the tree."""
        turn = await self._memory.turn(self._conversation_id, turn_id)
        branch = self._tree.root
        while found := next((one for one in branch.children if _contains(one.data, turn)), None):
            branch = found
            if isinstance(found.data, Turn):
                break
            await self._fill(branch)
            branch.expand()
        if isinstance(branch.data, Turn):
            self.call_after_refresh(self._tree.move_cursor, branch)
        self._show(turn_text(turn, self._conversation_id))

    # ------------------------------------------------------------ views

    @on(Input.Submitted)
    def ask(self, event: Input.Submitted) -> None:
        """Shows the view for a question."""
        query = event.value.strip() or None
        self.show_view(lambda: self._memory.view(self._conversation_id, query=query, token_budget=VIEW_TOKENS))

    def action_hand_off(self) -> None:
        """Shows the brief for the next agent."""
        self.show_view(lambda: self._memory.hand_off(self._conversation_id, token_budget=BRIEF_TOKENS))

    @work(exclusive=True)
    async def show_view(self, read: Callable[[], Awaitable[View]]) -> None:
        """Shows a view when it is read. The next one cancels it."""
        try:
            self._show(view_text(await read()))
        except CtxmemError as error:
            self._show(one_line(error.message))
        self.query_one(TextArea).focus()

    def _show(self, text: str) -> None:
        self.query_one(TextArea).text = text

    # ------------------------------------------------------------ keys

    def action_ask(self) -> None:
        """Moves to the question."""
        self.query_one(Input).focus()

    def action_to_tree(self) -> None:
        """Moves to the tree."""
        self._tree.focus()

    def action_back(self) -> None:
        """Goes back to the list."""
        self.app.pop_screen()


def _contains(item: Item | None, turn: Turn) -> bool:
    if isinstance(item, Turn):
        return item.id == turn.id
    return item is not None and item.first <= turn.index <= item.last
