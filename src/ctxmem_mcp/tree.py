"""The B-tree over a conversation: hashes, when nodes close, how the right edge grows, how nodes are verified.

    level 1          n0-21 ────────┐          closed: id, bounds and children are final
                  ┌────┴────┐      │
    level 0     n0-9     n10-21  n22-30  ┊    the spine: closed nodes without a parent
                ││││││   ││││││  ││││││  ┊
    turns       0....9  10...21 22...30  31 32 ┊ the open leaf
                                         └────── frontier = spine + open leaf

Pure: no I/O, no clock, no text except for hashing. Whether a node closes is decided when a turn is appended, from that
turn and the earlier ones only, so a history gives the same tree regardless of the batches in which it was appended.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from ctxmem_mcp.models import DIGEST_BYTES, Node, pickled_by_fields

# A leaf is what a reader wants to expand at once: an episode. A new request does not close a smaller leaf, because a
# line of the outline must represent much more than its own ~25 tokens.
LEAF_TOKENS_MIN = 600
# A long pause or a new topic is a better boundary than a new request alone, so a smaller leaf may close there.
LEAF_TOKENS_MIN_AT_BREAK = 250
# The maximum: four expanded leaves and the outline fit into a view of 8k tokens.
LEAF_TOKENS_MAX = 3_000
# Limits for many tiny turns: beyond the first the leaf closes at the next permitted turn, at the second at any turn.
LEAF_TURNS_SOUGHT = 48
LEAF_TURNS_MAX = 128
# A call that has no result after this many turns no longer keeps the leaf open.
CALL_PATIENCE_TURNS = 24
# An hour without a turn ends a sitting: people return to a different subject.
PAUSE_SECONDS = 3_600.0
# Children of an inner node: at least 3, so that the height is logarithmic; at most 8, so that expanding one is cheap.
# In between, nodes close at boundaries of the conversation.
FANOUT_MIN, FANOUT_MAX = 3, 8
FANOUT_AT_REQUEST = 5
# A turn that shares a smaller part of its terms with the leaf is about a different topic.
TOPIC_OVERLAP_MIN = 0.08
TOPIC_TERMS_MIN = 5

# Strengths of a boundary between leaves: the leaf is full; a new request or topic; a long pause.
CEILING, REQUEST, BREAK = 0, 1, 2


def turn_digest(
    previous: bytes, role: str, name: str | None, call_id: str | None, content: str, salt: bytes = b""
) -> bytes:
    """Hashes a turn and, through `previous`, all turns before it. Volatile facts such as the time are not included.

    Args:
        previous: Digest of the turn before; empty for the first turn.
        role: Role of the turn.
        name: Name of the speaker or tool, if any.
        call_id: Id of the tool call, if any.
        content: Content of the turn.
        salt: Key of the hash. With a salt per principal, none can probe for what another has stored.
    """
    h = hashlib.blake2b(b"turn\0", digest_size=DIGEST_BYTES, key=salt)
    for field in (previous, *((f or "").encode() for f in (role, name, call_id)), content.encode()):
        h.update(len(field).to_bytes(8, "big"))
        h.update(field)
    return h.digest()


def node_digest(level: int, children: Iterable[bytes], salt: bytes = b"") -> bytes:
    """Hashes a node: its level and the digests of its children (of its turns for a leaf), nothing else."""
    h = hashlib.blake2b(b"node\0", digest_size=DIGEST_BYTES, key=salt)
    h.update(level.to_bytes(2, "big"))
    for child in children:
        h.update(child)
    return h.digest()


@pickled_by_fields
@dataclass(frozen=True, slots=True)
class TurnFacts:
    """The properties of a turn that decide when nodes close.

    Attributes:
        digest: The turn's digest.
        index: Position of the turn on its branch.
        role: Role of the turn.
        tokens: Its tokens.
        call_id: Id of the tool call, if any.
        at: Its time, in seconds since 1970; None if unknown.
        topic: Terms that indicate its topic. If empty, the turn never counts as a change of topic.
    """

    digest: bytes
    index: int
    role: str
    tokens: int
    call_id: str | None = None
    at: float | None = None
    topic: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The open right edge of the tree.

    Attributes:
        leaf: The turns of the open leaf.
        spine: Per level, the closed nodes without a parent.
        boundary: Strength of the boundary at which the open leaf began.
        sitting: Index of the first turn since the last long pause.
    """

    leaf: tuple[TurnFacts, ...] = ()
    spine: tuple[tuple[Node, ...], ...] = ()
    boundary: int = BREAK
    sitting: int = 0

    @property
    def leaf_first(self) -> int | None:
        """Index of the first turn of the open leaf; None if it is empty."""
        return self.leaf[0].index if self.leaf else None

    @property
    def roots(self) -> list[Node]:
        """The closed nodes without a parent, in conversation order."""
        return [node for level in reversed(self.spine) for node in level]


@dataclass(frozen=True, slots=True)
class GrowResult:
    """The frontier after a turn, and the nodes that the turn closed, children before parents."""

    frontier: Frontier
    closed: tuple[Node, ...] = ()


def grow(frontier: Frontier, turn: TurnFacts, salt: bytes = b"") -> GrowResult:
    """Appends a turn. At most one node closes per level. salt: see `turn_digest`."""
    boundary = boundary_before(frontier.leaf, turn)
    sitting = turn.index if _paused(frontier.leaf, turn) else frontier.sitting
    if boundary is None:
        return GrowResult(replace(frontier, leaf=(*frontier.leaf, turn), sitting=sitting))
    spine, closed = _close(frontier, salt)
    return GrowResult(Frontier((turn,), spine, boundary, sitting), closed)


def _paused(leaf: Sequence[TurnFacts], turn: TurnFacts) -> bool:
    before = leaf[-1].at if leaf else None
    return turn.at is not None and before is not None and turn.at - before >= PAUSE_SECONDS


def boundary_before(leaf: Sequence[TurnFacts], turn: TurnFacts) -> int | None:
    """Returns the strength of the boundary between the open leaf and the next turn; None if it joins the leaf."""
    if not leaf:
        return None
    if len(leaf) >= LEAF_TURNS_MAX:
        return CEILING
    if turn.role == "tool" or _call_pending(leaf):
        return None
    tokens = sum(earlier.tokens for earlier in leaf)
    if tokens >= LEAF_TOKENS_MIN_AT_BREAK and _paused(leaf, turn):
        return BREAK
    if turn.role == "user" and leaf[-1].role != "user":
        if tokens >= LEAF_TOKENS_MIN:
            return REQUEST
        if tokens >= LEAF_TOKENS_MIN_AT_BREAK and _new_topic(leaf, turn):
            return REQUEST
    full = tokens + turn.tokens > LEAF_TOKENS_MAX or len(leaf) >= LEAF_TURNS_SOUGHT
    return CEILING if full else None


def _call_pending(leaf: Sequence[TurnFacts]) -> bool:
    """Whether a call in the last turns of the leaf has no result yet."""
    answered: set[str] = set()
    for earlier in reversed(leaf[-CALL_PATIENCE_TURNS:]):
        if earlier.call_id is None:
            continue
        if earlier.role == "tool":
            answered.add(earlier.call_id)
        elif earlier.call_id not in answered:
            return True
    return False


def _new_topic(leaf: Sequence[TurnFacts], turn: TurnFacts) -> bool:
    if len(turn.topic) < TOPIC_TERMS_MIN:
        return False
    known = frozenset[str]().union(*(earlier.topic for earlier in leaf))
    return bool(known) and len(turn.topic & known) < TOPIC_OVERLAP_MIN * len(turn.topic)


def _close(frontier: Frontier, salt: bytes) -> tuple[tuple[tuple[Node, ...], ...], tuple[Node, ...]]:
    leaf = frontier.leaf
    node = Node(
        digest=node_digest(0, (earlier.digest for earlier in leaf), salt),
        level=0,
        first=leaf[0].index,
        last=leaf[-1].index,
        tokens=sum(earlier.tokens for earlier in leaf),
        strength=frontier.boundary,
    )
    spine, closed = list(frontier.spine), [node]
    level = 0
    while level < len(spine) and _parent_closes(spine[level], node):
        siblings, spine[level] = spine[level], (node,)
        node = _parent(siblings, salt)
        closed.append(node)
        level += 1
    if level == len(spine):
        spine.append(())
    spine[level] = (*spine[level], node)
    return tuple(spine), tuple(closed)


def _parent_closes(siblings: Sequence[Node], following: Node) -> bool:
    """Whether the siblings get a parent before `following` begins the next group."""
    if len(siblings) >= FANOUT_MAX:
        return True
    if following.strength == BREAK:
        return len(siblings) >= FANOUT_MIN
    return following.strength == REQUEST and len(siblings) >= FANOUT_AT_REQUEST


def _parent(children: Sequence[Node], salt: bytes) -> Node:
    level = children[0].level + 1
    return Node(
        digest=node_digest(level, (child.digest for child in children), salt),
        level=level,
        first=children[0].first,
        last=children[-1].last,
        tokens=sum(child.tokens for child in children),
        strength=children[0].strength,
        children=tuple(child.digest for child in children),
    )


def rebuild_spine(closings: Iterable[Node]) -> tuple[tuple[Node, ...], ...]:
    """Rebuilds the spine of a branch from its closed nodes, in the order in which they closed."""
    spine: list[list[Node]] = []
    for node in closings:
        if node.level:
            taken = set(node.children)
            spine[node.level - 1] = [n for n in spine[node.level - 1] if n.digest not in taken]
        while len(spine) <= node.level:
            spine.append([])
        spine[node.level].append(node)
    return tuple(tuple(level) for level in spine)


def find_faults(node: Node, children: Sequence[Node], turns: Sequence[bytes], salt: bytes = b"") -> list[str]:
    """Verifies a closed node.

    Args:
        node: The node.
        children: Its children; empty for a leaf.
        turns: Digests of its turns, for a leaf.
        salt: See `turn_digest`.

    Returns:
        A message per fault; empty if the node is correct.
    """
    found: list[str] = []
    parts = turns if node.level == 0 else [child.digest for child in children]
    if node_digest(node.level, parts, salt) != node.digest:
        found.append(f"{node.id}: the hash does not match its children")
    if node.level == 0:
        if len(turns) != node.turns:
            found.append(f"{node.id}: has {len(turns)} turns, expected {node.turns}")
        return found
    if not FANOUT_MIN <= len(children) <= FANOUT_MAX:
        found.append(f"{node.id}: has {len(children)} children, expected {FANOUT_MIN} to {FANOUT_MAX}")
    tiled = [(node.first, node.last)] if not children else [(c.first, c.last) for c in children]
    if tiled[0][0] != node.first or tiled[-1][1] != node.last:
        found.append(f"{node.id}: its children cover turns {tiled[0][0]}..{tiled[-1][1]}")
    if any(a[1] + 1 != b[0] for a, b in pairwise(tiled)):
        found.append(f"{node.id}: its children leave a gap")
    return found
