"""Reads as much of a branch's tree as a view needs: its roots, its tail, and the way down to some leaves."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.edge_loader import load_spine
from ctxmem_mcp.memory.read_cache import ReadCache
from ctxmem_mcp.models import THINKING, Node, Piece, Role, Summary, Turn, best_summary, first_summary
from ctxmem_mcp.stores.base import State, Store
from ctxmem_mcp.text.embeddings import Embedder
from ctxmem_mcp.views.layout import Collapsed, Expanded, Item, TreeSnapshot

# Each round of unfolding reads one level more.
UNFOLD_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class BranchReader:
    """A branch that is looked at: its store, its state, its chain of turns. embedder: there, where pieces may have
    vectors. cache: what was read of its conversation before."""

    store: Store
    state: State
    lineage: Lineage
    embedder: Embedder | None = None
    cache: ReadCache = field(default_factory=ReadCache)

    @property
    def id(self) -> str:
        return self.state.conversation_id

    @property
    def on_head(self) -> bool:
        """Whether it is the head's branch that is looked at, or a part of it."""
        return self.lineage.last_seq in Lineage.of(self.state.runs, self.state.head)

    async def bare(self, first: int, last: int) -> list[Turn]:
        """The turns first..last without their content."""
        return await self.bare_turns(self.lineage.seqs(first, last))

    async def bare_turns(self, seqs: Sequence[int]) -> list[Turn]:
        """These turns without their content; each is read once."""
        cache = self.cache.turns
        if missing := [seq for seq in seqs if seq not in cache]:
            cache.update({turn.seq: turn for turn in await self.store.turns(self.id, missing, metadata_only=True)})
        return [cache[seq] for seq in seqs if seq in cache]

    async def pieces(self, ids: Sequence[int]) -> list[Piece]:
        """These pieces; each is read once."""
        cache = self.cache.pieces
        if missing := [i for i in ids if i not in cache]:
            cache.update(await self.store.pieces(self.id, missing))
        return [cache[i] for i in ids]

    async def nodes(self, digests: Sequence[bytes]) -> dict[bytes, Node]:
        """These nodes; each is read once."""
        cache = self.cache.nodes
        if missing := [digest for digest in digests if digest not in cache]:
            cache.update(await self.store.nodes(self.id, missing))
        return {digest: cache[digest] for digest in digests if digest in cache}

    async def turns(self, indexes: Iterable[int]) -> dict[int, Turn]:
        """These turns by index, with their content."""
        seqs = [seq for index in sorted(set(indexes)) if (seq := self.lineage.seq_at(index)) is not None]
        return {turn.index: turn for turn in await self.store.turns(self.id, seqs)}

    async def summaries(self, nodes: Iterable[Node]) -> Mapping[bytes, Summary]:
        """The summary to show of each of these nodes."""
        kept = await self.store.summaries(self.id, list({node.digest for node in nodes}))
        return _Chosen(kept, best_summary)

    async def first_summaries(self, nodes: Iterable[Node]) -> Mapping[bytes, Summary]:
        """The summary that each of these nodes was born with, which never changes."""
        kept = await self.store.summaries(self.id, list({node.digest for node in nodes}))
        return _Chosen(kept, first_summary)


def spoken(turns: Iterable[Turn], role: Role) -> list[Turn]:
    """Those in which the user or the agent speaks: no calls, no results, no thoughts."""
    return [turn for turn in turns if turn.role == role and turn.call_id is None and turn.name != THINKING]


class _Chosen(Mapping[bytes, Summary]):
    """One of the summaries of each node, chosen when it is asked for."""

    def __init__(self, kept: Mapping[bytes, list[Summary]], choose: Callable[[Sequence[Summary]], Summary]) -> None:
        self._kept, self._choose = kept, choose
        self._chosen: dict[bytes, Summary] = {}

    def __getitem__(self, digest: bytes) -> Summary:
        found = self._chosen.get(digest)
        if found is None:
            found = self._chosen[digest] = self._choose(self._kept[digest])
        return found

    def __contains__(self, digest: object) -> bool:
        return digest in self._kept

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)


async def load_snapshot(branch: BranchReader) -> TreeSnapshot:
    """The ground of a branch with nothing opened: its roots and its tail."""
    spine = await load_spine(branch.store, branch.state, branch.lineage, branch.nodes)
    roots = tuple(node for level in reversed(spine) for node in level)
    tail_first = roots[-1].last + 1 if roots else 0
    length = branch.lineage.length
    tail = await branch.bare(tail_first, length - 1)
    return TreeSnapshot(roots, {node.digest: node for node in roots}, {tail_first: tail}, tail_first, length)


async def with_paths_to(branch: BranchReader, snapshot: TreeSnapshot, indexes: Iterable[int]) -> TreeSnapshot:
    """The same ground with the way down to the leaves that hold these turns."""
    marks = sorted({index for index in indexes if index < snapshot.tail_first})
    nodes, leaves = dict(snapshot.nodes), dict(snapshot.leaves)
    level: Sequence[Node] = snapshot.roots
    ranges: list[Node] = []
    while level:
        marked = [node for node in level if _holds(node, marks)]
        ranges += [node for node in marked if node.level == 0]
        wanted = [digest for node in marked for digest in node.children]
        read = await branch.nodes(wanted)
        nodes |= read
        level = list(read.values())
    seqs = [seq for leaf in ranges for seq in branch.lineage.seqs(leaf.first, leaf.last)]
    turns = {turn.index: turn for turn in await branch.bare_turns(seqs)}
    for leaf in ranges:
        leaves[leaf.first] = [turns[index] for index in range(leaf.first, leaf.last + 1)]
    return replace(snapshot, nodes=nodes, leaves=leaves)


def _holds(node: Node, marks: Sequence[int]) -> bool:
    at = bisect_left(marks, node.first)
    return at < len(marks) and marks[at] <= node.last


async def with_expanded(
    branch: BranchReader, snapshot: TreeSnapshot, items: Sequence[Item], lines: int
) -> TreeSnapshot:
    """The same ground with inner nodes opened, the largest first, until the outline has about `lines` lines."""
    have = sum(len(item.nodes) if isinstance(item, Collapsed) else isinstance(item, Expanded) for item in items)
    folded = [node for item in items if isinstance(item, Collapsed) for node in item.nodes if node.level]
    nodes, opened = dict(snapshot.nodes), set(snapshot.expanded)
    for _ in range(UNFOLD_ROUNDS):
        chosen: list[Node] = []
        for node in sorted(folded, key=lambda n: -n.tokens):
            if have + len(node.children) > lines:
                break
            have += len(node.children)
            chosen.append(node)
        if not chosen:
            break
        read = await branch.nodes([digest for node in chosen for digest in node.children])
        nodes |= read
        opened |= {node.digest for node in chosen}
        taken = {node.digest for node in chosen}
        folded = [n for n in folded if n.digest not in taken] + [n for n in read.values() if n.level]
    return replace(snapshot, nodes=nodes, expanded=frozenset(opened))


async def checks_of(branch: BranchReader, snapshot: TreeSnapshot) -> dict[int, str]:
    """The digits of every turn at which a span of a view on this snapshot may end; none on the head's branch, where a
    span means the same without."""
    if branch.on_head:
        return {}
    ends = [seq for node in snapshot.nodes.values() if (seq := branch.lineage.seq_at(node.last)) is not None]
    turns = [*await branch.bare_turns(ends), *(turn for leaf in snapshot.leaves.values() for turn in leaf)]
    return {turn.index: turn.check for turn in turns}


def outline_nodes(items: Iterable[Item]) -> list[Node]:
    """The nodes whose summaries these items may show."""
    found: list[Node] = []
    for item in items:
        if isinstance(item, Collapsed):
            found.extend(item.nodes)
        elif isinstance(item, Expanded):
            found.append(item.node)
    return found
