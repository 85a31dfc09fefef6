"""The summaries that a view's outline shows. A compact view reads them once its quotes are chosen.

A view of a long conversation has hundreds of nodes between its quotes; few of their titles fit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ctxmem_mcp.memory.branch_reader import BranchReader, ChosenSummaries, outline_nodes
from ctxmem_mcp.models import EMPTY_SUMMARY, EXTRACTIVE, Node, Summary, best_summary
from ctxmem_mcp.views.layout import Item, Omitted
from ctxmem_mcp.views.render import TITLES_MAX
from ctxmem_mcp.views.summary_requests import REQUESTS_MAX, large_collapsed

# The largest nodes, which most likely have only their extractive summary.
LARGE_READ_AT_ONCE = 16


class OutlineSummaries:
    """The summaries of some nodes of a branch."""

    def __init__(self, branch: BranchReader, nodes: Sequence[Node]) -> None:
        """Reads nothing yet. nodes: those whose summaries may be read."""
        self._branch, self._nodes = branch, {node.digest for node in nodes}
        self._read = ChosenSummaries({}, best_summary)

    async def read(self, nodes: Iterable[Node]) -> None:
        """Reads the summaries of these nodes, in place of those read before."""
        self._read = await self._branch.summaries(node for node in nodes if node.digest in self._nodes)

    async def read_shown(self, items: Iterable[Item]) -> None:
        """Reads the summaries that these items can show."""
        shown = (item._replace(nodes=item.nodes[:TITLES_MAX]) if isinstance(item, Omitted) else item for item in items)
        await self.read(outline_nodes(shown))

    def of(self, node: Node) -> Summary:
        return self._read.get(node.digest, EMPTY_SUMMARY)

    def title(self, node: Node) -> str:
        return self._read.title(node)

    async def to_request(self, items: Iterable[Item]) -> list[Node]:
        """Returns large collapsed nodes that have only their extractive summary, at most `REQUESTS_MAX`."""
        large, found = large_collapsed(items), list[Node]()
        for first in range(0, len(large), LARGE_READ_AT_ONCE):
            some = large[first : first + LARGE_READ_AT_ONCE]
            await self.read(some)
            found += [node for node in some if self.of(node).author == EXTRACTIVE]
            if len(found) >= REQUESTS_MAX:
                break
        return found[:REQUESTS_MAX]
