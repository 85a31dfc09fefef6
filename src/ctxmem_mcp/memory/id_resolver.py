"""Resolves ids as people write them to turns and nodes: 't41', 't41-837', 'n40-55-213', 't42-t47'."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ctxmem_mcp.errors import AmbiguousId, HeadMoved, InvalidArgument, UnknownNode, UnknownTurn
from ctxmem_mcp.memory.branches import Lineage, run_end
from ctxmem_mcp.models import Node, id_digits
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import State

_TURN = lazy_regex(r"t(\d{1,9})(?:-(\d{1,12}))?")
_NODE = lazy_regex(r"n(\d{1,9})-(\d{1,9})(?:-(\d{1,12}))?")
_SPAN = lazy_regex(r"(t\d{1,9}(?:-\d{1,12})?)-(t\d{1,9}(?:-\d{1,12})?)")
CONVERSATION_ID = lazy_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


@dataclass(frozen=True, slots=True)
class Span:
    """Turns first..last (indexes, inclusive)."""

    first: int
    last: int


def check_conversation_id(conversation_id: str) -> str:
    if not CONVERSATION_ID.fullmatch(conversation_id):
        raise InvalidArgument(
            "conversation_id",
            "must be 1 to 128 letters, digits and . _ : @ -, starting with a letter or digit",
            "Leave it out to get a new one.",
        )
    return conversation_id


class IdResolver:
    """Resolves ids in one conversation, on the head's branch first."""

    def __init__(self, store: Store, state: State) -> None:
        self._store, self._state = store, state
        self._lineage = Lineage.of(state.runs, state.head)
        self._conversation = state.conversation_id

    async def turn_seq(self, turn_id: str) -> int:
        """Returns the seq of a turn.

        Raises:
            UnknownTurn: No turn has this id.
            AmbiguousId: The id fits several turns.
        """
        parsed = _TURN.fullmatch(turn_id.strip())
        if parsed is None:
            raise UnknownTurn(turn_id, self._conversation)
        index, digits = int(parsed[1]), parsed[2] or ""
        here = self._lineage.seq_at(index)
        if here is not None and (not digits or (await self._digits(here)).startswith(digits)):
            return here
        elsewhere = {s: await self._digits(s) for s in self._seqs_at(index) if s != here}
        matches = [seq for seq, its_digits in elsewhere.items() if digits and its_digits.startswith(digits)]
        if len(matches) > 1:
            raise AmbiguousId(turn_id, [f"t{index}-{elsewhere[seq]}" for seq in matches])
        if not matches:
            raise UnknownTurn(turn_id, self._conversation)
        return matches[0]

    def _seqs_at(self, index: int) -> list[int]:
        state = self._state
        found = []
        for run in state.runs:
            seq = run.first_seq + index - run.first_index
            if run.first_seq <= seq <= run_end(state.runs, state.next_seq, run.first_seq):
                found.append(seq)
        return found

    async def _digits(self, seq: int) -> str:
        found = await self._store.digests(self._conversation, seq, seq)
        if not found:  # forgotten and restarted since the state was read
            raise HeadMoved(self._conversation)
        return id_digits(found[0])

    async def node(self, node_id: str) -> tuple[Node, Lineage]:
        """Returns a closed node, and a branch that contains it.

        Raises:
            UnknownNode: No closed node has this id.
            AmbiguousId: The id fits several nodes.
        """
        parsed = _NODE.fullmatch(node_id.strip())
        if parsed is None:
            raise UnknownNode(node_id, self._conversation)
        first, last, digits = int(parsed[1]), int(parsed[2]), parsed[3] or ""
        over = await self._store.nodes_over(self._conversation, first, last)
        matches = [(closer, node) for closer, node in over if id_digits(node.digest).startswith(digits)]
        here = [node for closer, node in matches if closer in self._lineage]
        if here:
            return here[0], self._lineage
        if len({node.digest for _, node in matches}) > 1:
            raise AmbiguousId(node_id, sorted({node.id for _, node in matches}))
        if not matches:
            raise UnknownNode(node_id, self._conversation)
        closer, node = matches[0]
        return node, Lineage.of(self._state.runs, closer)

    async def resolve(self, any_id: str) -> tuple[Node | Span | int, Lineage]:
        """Resolves any id: of a node, a span of turns, or a turn (whose seq is returned).

        Returns:
            What the id names, and a branch that contains it: the head's, unless the digits name another.

        Raises:
            UnknownNode, UnknownTurn: Nothing has this id.
            AmbiguousId: The id fits several.
        """
        any_id = any_id.strip()
        if span := _SPAN.fullmatch(any_id):
            return await self._span(span[1], span[2])
        if any_id.startswith("n"):
            return await self.node(any_id)
        seq = await self.turn_seq(any_id)
        return seq, self._branch_of(seq)

    async def _span(self, first: str, last: str) -> tuple[Span, Lineage]:
        if _index(first) > _index(last):
            raise UnknownNode(f"{first}-{last}", self._conversation)
        end = await self.turn_seq(last)
        lineage = self._branch_of(end)
        begin = await IdResolver(self._store, replace(self._state, head=end)).turn_seq(first)
        if begin not in lineage:
            raise UnknownNode(f"{first}-{last}", self._conversation)
        return Span(_index(first), _index(last)), lineage

    def _branch_of(self, seq: int) -> Lineage:
        return self._lineage if seq in self._lineage else Lineage.of(self._state.runs, seq)


def _index(turn_id: str) -> int:
    return int(turn_id.removeprefix("t").partition("-")[0])
