"""Reads as much of a branch's tree as a view needs: its roots, its open tail, and the paths to some leaves."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.dense_queue import DenseQueue
from ctxmem_mcp.memory.edge_loader import load_spine
from ctxmem_mcp.memory.read_cache import ReadCache
from ctxmem_mcp.memory.vector_queue import VectorQueue
from ctxmem_mcp.models import THINKING, Node, Piece, Role, Summary, Turn, best_summary, first_summary
from ctxmem_mcp.retrieval.compounds import Vocabulary
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.encoding import LazySummaries
from ctxmem_mcp.stores.records import State
from ctxmem_mcp.text.embeddings import VECTOR_DUE, Embedder
from ctxmem_mcp.views.layout import Collapsed, Expanded, Item, Omitted, TreeSnapshot

# Each round of expanding reads one more level.
EXPAND_ROUNDS = 5
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class BranchReader:
    """Reads one branch of a conversation.

    Attributes:
        embedder: None if no vectors are used.
        queue: computes the vectors that are due.
        cache: what was read of the conversation before.
        dense: computes the vectors of a neural model; None if none is used.
    """

    store: Store
    state: State
    lineage: Lineage
    embedder: Embedder | None = None
    cache: ReadCache = field(default_factory=ReadCache)
    queue: VectorQueue | None = None
    dense: DenseQueue | None = None

    @property
    def id(self) -> str:
        return self.state.conversation_id

    @property
    def on_head(self) -> bool:
        """Whether this is the head's branch, or the first part of it."""
        return self.lineage.last_seq in Lineage.of(self.state.runs, self.state.head)

    async def metadata(self, first: int, last: int) -> list[Turn]:
        """Returns the turns at indexes first..last (inclusive) with empty content."""
        return await self.metadata_of(self.lineage.seqs(first, last))

    async def metadata_of(self, seqs: Sequence[int]) -> list[Turn]:
        """Returns these turns with empty content; reads those that are not cached."""

        async def read(missing: Sequence[int]) -> dict[int, Turn]:
            return {turn.seq: turn for turn in await self.store.turns(self.id, missing, metadata_only=True)}

        found = await _read_through(self.cache.turns, seqs, read)
        return [found[seq] for seq in seqs if seq in found]

    async def pieces(self, ids: Sequence[int]) -> list[Piece]:
        """Returns these chunks; reads those that are not cached."""
        found = await _read_through(self.cache.pieces, ids, partial(self.store.pieces, self.id))
        return [found[i] for i in ids]

    async def pieces_of(self, seqs: Sequence[int]) -> dict[int, list[Piece]]:
        """Returns the chunks of each of these turns; reads those that are not cached."""
        return await _read_through(self.cache.pieces_of, seqs, partial(self.store.pieces_of, self.id))

    async def vocabulary(self) -> Vocabulary:
        """Returns the terms of the conversation."""
        cache, key = self.cache.vocabulary, self.state.next_piece
        if key not in cache:
            read = Vocabulary(await self.store.vocabulary(self.id))
            cache.clear()
            cache[key] = read
        return cache[key]

    async def vectors(self, ids: Sequence[int]) -> dict[int, bytes]:
        """Returns the vectors of these chunks, of which all have been computed. Chunks without one are left out."""
        cache = self.cache.vectors
        found = {i: cache[i] for i in ids if i in cache}
        if not (missing := [i for i in ids if i not in found]):
            return found
        if self.queue is None:
            read = await self.store.vectors(self.id, missing)
        else:
            read = await self.queue.read(self.id, self.state.created, missing)
        cache.update((i, vector) for i, vector in read.items() if vector != VECTOR_DUE)
        found |= read
        return {i: found[i] for i in ids if i in found}

    async def nodes(self, digests: Sequence[bytes]) -> dict[bytes, Node]:
        """Returns these nodes by digest; reads those that are not cached."""
        return await _read_through(self.cache.nodes, digests, partial(self.store.nodes, self.id))

    async def turns(self, indexes: Iterable[int]) -> dict[int, Turn]:
        """Returns these turns by index, with their content."""
        seqs = [seq for index in sorted(set(indexes)) if (seq := self.lineage.seq_at(index)) is not None]
        return {turn.index: turn for turn in await self.store.turns(self.id, seqs)}

    async def summaries(self, nodes: Iterable[Node]) -> ChosenSummaries:
        """Returns the best summary of each of these nodes, by digest."""
        stored = await self.store.summaries(self.id, list({node.digest for node in nodes}))
        return ChosenSummaries(stored, best_summary)

    async def first_summaries(self, nodes: Iterable[Node]) -> Mapping[bytes, Summary]:
        """Returns the first summary of each of these nodes, by digest; it never changes."""
        stored = await self.store.summaries(self.id, list({node.digest for node in nodes}))
        return ChosenSummaries(stored, first_summary)


async def _read_through(
    cache: dict[_Key, _Value], keys: Sequence[_Key], read: Callable[[Sequence[_Key]], Awaitable[Mapping[_Key, _Value]]]
) -> dict[_Key, _Value]:
    """Returns the entries of these keys, in their order; reads those that are not cached.

    During the read, another reader of the conversation may clear the cache.
    """
    found = {key: cache[key] for key in keys if key in cache}
    if missing := [key for key in keys if key not in found]:
        entries = await read(missing)
        cache.update(entries)
        found |= entries
    return {key: found[key] for key in keys if key in found}


def spoken_turns(turns: Iterable[Turn], role: Role) -> list[Turn]:
    """Returns those of a role that are speech: not calls, results or reasoning."""
    return [turn for turn in turns if turn.role == role and turn.call_id is None and turn.name != THINKING]


class ChosenSummaries(Mapping[bytes, Summary]):
    """One summary of each node, chosen on first access."""

    def __init__(self, stored: Mapping[bytes, list[Summary]], choose: Callable[[Sequence[Summary]], Summary]) -> None:
        self._stored, self._choose = stored, choose
        self._chosen: dict[bytes, Summary] = {}

    def __getitem__(self, digest: bytes) -> Summary:
        found = self._chosen.get(digest)
        if found is None:
            found = self._chosen[digest] = self._choose(self._stored[digest])
        return found

    def title(self, node: Node) -> str:
        """Returns the title of a node's summary; empty if it has none."""
        if node.digest not in self._stored:
            return ""
        only = self._stored.only_title(node.digest) if isinstance(self._stored, LazySummaries) else None
        return self[node.digest].title if only is None else only

    def __contains__(self, digest: object) -> bool:
        return digest in self._stored

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


async def load_snapshot(branch: BranchReader) -> TreeSnapshot:
    """Reads a branch with nothing expanded: its roots and its open tail."""
    spine = await load_spine(branch.store, branch.state, branch.lineage, branch.nodes)
    roots = tuple(node for level in reversed(spine) for node in level)
    tail_first = roots[-1].last + 1 if roots else 0
    length = branch.lineage.length
    tail = await branch.metadata(tail_first, length - 1)
    return TreeSnapshot(roots, {node.digest: node for node in roots}, {tail_first: tail}, tail_first, length)


async def with_paths_to(branch: BranchReader, snapshot: TreeSnapshot, indexes: Iterable[int]) -> TreeSnapshot:
    """Adds the paths to the leaves that contain these turns."""
    targets = sorted({index for index in indexes if index < snapshot.tail_first})
    nodes, leaves = dict(snapshot.nodes), dict(snapshot.leaves)
    level: Sequence[Node] = snapshot.roots
    found_leaves: list[Node] = []
    while level:
        on_path = [node for node in level if _contains(node, targets)]
        found_leaves += [node for node in on_path if node.level == 0]
        digests = [digest for node in on_path for digest in node.children]
        read = await branch.nodes(digests)
        nodes |= read
        level = list(read.values())
    seqs = [seq for leaf in found_leaves for seq in branch.lineage.seqs(leaf.first, leaf.last)]
    turns = {turn.index: turn for turn in await branch.metadata_of(seqs)}
    for leaf in found_leaves:
        leaves[leaf.first] = [turns[index] for index in range(leaf.first, leaf.last + 1)]
    return replace(snapshot, nodes=nodes, leaves=leaves)


def _contains(node: Node, targets: Sequence[int]) -> bool:
    at = bisect_left(targets, node.first)
    return at < len(targets) and targets[at] <= node.last


async def with_expanded(
    branch: BranchReader, snapshot: TreeSnapshot, items: Sequence[Item], lines: int
) -> TreeSnapshot:
    """Expands inner nodes, the largest first, until the outline has about `lines` lines."""
    size = sum(len(item.nodes) if isinstance(item, Collapsed) else isinstance(item, Expanded) for item in items)
    collapsed = [node for item in items if isinstance(item, Collapsed) for node in item.nodes if node.level]
    nodes, expanded = dict(snapshot.nodes), set(snapshot.expanded)
    for _ in range(EXPAND_ROUNDS):
        chosen: list[Node] = []
        for node in sorted(collapsed, key=lambda n: -n.tokens):
            if size + len(node.children) > lines:
                break
            size += len(node.children)
            chosen.append(node)
        if not chosen:
            break
        read = await branch.nodes([digest for node in chosen for digest in node.children])
        nodes |= read
        chosen_digests = {node.digest for node in chosen}
        expanded |= chosen_digests
        collapsed = [n for n in collapsed if n.digest not in chosen_digests] + [n for n in read.values() if n.level]
    return replace(snapshot, nodes=nodes, expanded=frozenset(expanded))


async def span_checks(branch: BranchReader, snapshot: TreeSnapshot) -> dict[int, str]:
    """Returns the check digits of the turns that a span in a view of this snapshot may end at, by index.

    Empty on the head's branch, where spans need none.
    """
    if branch.on_head:
        return {}
    ends = [seq for node in snapshot.nodes.values() if (seq := branch.lineage.seq_at(node.last)) is not None]
    turns = [*await branch.metadata_of(ends), *(turn for leaf in snapshot.leaves.values() for turn in leaf)]
    return {turn.index: turn.check for turn in turns}


def outline_nodes(items: Iterable[Item]) -> list[Node]:
    """Returns the nodes whose summaries these items may show."""
    found: list[Node] = []
    for item in items:
        if isinstance(item, (Collapsed, Omitted)):
            found.extend(item.nodes)
        elif isinstance(item, Expanded):
            found.append(item.node)
    return found
