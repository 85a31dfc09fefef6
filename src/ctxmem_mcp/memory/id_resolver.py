"""From the ids people write to turns and nodes: 't41', 't41-837', 'n40-55-213', 't42-t47'."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ctxmem_mcp.errors import AmbiguousId, HeadMoved, InvalidArgument, UnknownNode, UnknownTurn
from ctxmem_mcp.memory.branches import Lineage, run_end
from ctxmem_mcp.models import Node, id_digits
from ctxmem_mcp.stores.base import State, Store

_TURN = re.compile(r"t(\d{1,9})(?:-(\d{1,12}))?")
_NODE = re.compile(r"n(\d{1,9})-(\d{1,9})(?:-(\d{1,12}))?")
_SPAN = re.compile(r"(t\d{1,9}(?:-\d{1,12})?)-(t\d{1,9}(?:-\d{1,12})?)")
CONVERSATION_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}")


@dataclass(frozen=True, slots=True)
class Span:
    """Turns first..last (indexes, both included)."""

    first: int
    last: int


def check_conversation_id(conversation_id: str) -> str:
    if not CONVERSATION_ID.fullmatch(conversation_id):
        raise InvalidArgument(
            "conversation_id",
            "takes 1 to 128 letters, digits and . _ : @ -, beginning with a letter or digit",
            "Leave it out to have one made.",
        )
    return conversation_id


class IdResolver:
    """Finds what an id means in one conversation; the head's branch is looked at first."""

    def __init__(self, store: Store, state: State) -> None:
        self._store, self._state = store, state
        self._lineage = Lineage.of(state.runs, state.head)
        self._conversation = state.conversation_id

    async def turn_seq(self, turn_id: str) -> int:
        """The seq of the turn that `turn_id` names."""
        parsed = _TURN.fullmatch(turn_id.strip())
        if parsed is None:
            raise UnknownTurn(turn_id, self._conversation)
        index, digits = int(parsed[1]), parsed[2] or ""
        here = self._lineage.seq_at(index)
        if here is not None and (not digits or (await self._digits(here)).startswith(digits)):
            return here
        elsewhere = {s: await self._digits(s) for s in self._seqs_at(index) if s != here}
        fitting = [seq for seq, has in elsewhere.items() if digits and has.startswith(digits)]
        if len(fitting) > 1:
            raise AmbiguousId(turn_id, [f"t{index}-{elsewhere[seq]}" for seq in fitting])
        if not fitting:
            raise UnknownTurn(turn_id, self._conversation)
        return fitting[0]

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
        if not found:  # forgotten since the state was read, and begun anew
            raise HeadMoved(self._conversation)
        return id_digits(found[0])

    async def node(self, node_id: str) -> tuple[Node, Lineage]:
        """The closed node that `node_id` names, and a branch that it lies on."""
        parsed = _NODE.fullmatch(node_id.strip())
        if parsed is None:
            raise UnknownNode(node_id, self._conversation)
        first, last, digits = int(parsed[1]), int(parsed[2]), parsed[3] or ""
        over = await self._store.nodes_over(self._conversation, first, last)
        fitting = [(closer, node) for closer, node in over if id_digits(node.digest).startswith(digits)]
        here = [node for closer, node in fitting if closer in self._lineage]
        if here:
            return here[0], self._lineage
        if len({node.digest for _, node in fitting}) > 1:
            raise AmbiguousId(node_id, sorted({node.id for _, node in fitting}))
        if not fitting:
            raise UnknownNode(node_id, self._conversation)
        closer, node = fitting[0]
        return node, Lineage.of(self._state.runs, closer)

    async def resolve(self, given: str) -> tuple[Node | Span | int, Lineage]:
        """A node, a span of turns, or one turn's seq; with the branch it lies on: the head's, unless digits say
        otherwise."""
        given = given.strip()
        if span := _SPAN.fullmatch(given):
            return await self._span(span[1], span[2])
        if given.startswith("n"):
            return await self.node(given)
        seq = await self.turn_seq(given)
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
