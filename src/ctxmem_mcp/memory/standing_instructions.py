"""Finds the standing instructions of a branch: rules that the user set once for all that follows.

They have no word in common with questions about later work, so no ranking finds them; the index lists their chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.models import INJECTED, RECAP, Turn
from ctxmem_mcp.text.chunk_flags import STANDING_TERM
from ctxmem_mcp.text.host_text import split_host_text
from ctxmem_mcp.text.instructions import find_in_turn, kind_of, same_kind
from ctxmem_mcp.views.excerpt_groups import ExcerptRef
from ctxmem_mcp.views.layout import CharSpan, Quote

# Of more chunks with instructions only the newest are read.
CHUNKS_READ_MAX = 60
# More are listed in no index lookup; so many are a manual rather than instructions.
CHUNKS_LISTED_MAX = 4_000
# Estimated tokens of the lines around a quoted instruction.
OVERHEAD_TOKENS = 12


class Instruction(NamedTuple):
    """A standing instruction. span: its place in the turn, with an estimate of its tokens."""

    turn: Turn
    span: CharSpan

    @property
    def quote(self) -> Quote:
        """The instruction, quoted from its turn."""
        return Quote(self.turn, (self.span,), len(self.turn.content))


async def standing_instructions(
    branch: BranchReader, token_budget: int, *, from_files: bool = True
) -> list[Instruction]:
    """Returns the instructions that hold at the branch's last turn: of those about the same thing only the newest.

    Args:
        branch: The branch.
        token_budget: Tokens that they may take, with the lines around them.
        from_files: Include those of the project's files (AGENTS.md), not only the user's own words.

    Returns:
        The newest first, as many as fit.
    """
    found: list[Instruction] = []
    for one in await _load_instructions(branch):
        cost = one.span.tokens + OVERHEAD_TOKENS
        if cost <= token_budget and (from_files or _is_users_own(one)):
            found.append(one)
            token_budget -= cost
    return found


async def standing_excerpts(branch: BranchReader, token_budget: int) -> list[ExcerptRef]:
    """Returns where `standing_instructions` are; of a branch that is as it was before, without reading them again."""
    cache, key = branch.cache.standing, (branch.state.version, branch.lineage.last_seq)
    if key not in cache:
        found = [ExcerptRef(one.turn.index, one.span) for one in await _load_instructions(branch)]
        cache.clear()
        cache[key] = found
    fitting: list[ExcerptRef] = []
    for excerpt in cache[key]:
        cost = excerpt.span.tokens + OVERHEAD_TOKENS
        if cost <= token_budget:
            fitting.append(excerpt)
            token_budget -= cost
    return fitting


async def _load_instructions(branch: BranchReader) -> list[Instruction]:
    """Reads all instructions that hold, the newest first."""
    hits = (await branch.store.term_hits(branch.id, [STANDING_TERM], CHUNKS_LISTED_MAX)).get(STANDING_TERM)
    if hits is None or hits.capped:
        return []
    pieces = await branch.pieces(hits.chunks[-CHUNKS_READ_MAX:])
    own = {piece.index for piece in pieces if branch.lineage.seq_at(piece.index) == piece.seq}
    turns = await branch.turns(own)
    return _newest_of_each_kind([turns[index] for index in sorted(turns, reverse=True)])


def _is_users_own(instruction: Instruction) -> bool:
    turn, start = instruction.turn, instruction.span.start
    if turn.role != "user" or turn.name in (INJECTED, RECAP):
        return False
    return any(one.kind == "user" and one.start <= start < one.end for one in split_host_text(turn.content))


def _newest_of_each_kind(turns: Sequence[Turn]) -> list[Instruction]:
    """turns: the newest first."""
    found: list[Instruction] = []
    kinds: list[frozenset[str]] = []
    for turn in turns:
        of_turn: list[frozenset[str]] = []
        for start, stop in find_in_turn(turn.content, turn.role, turn.language):
            kind = kind_of(turn.content[start:stop], turn.language)
            if kind and not any(same_kind(kind, newer) for newer in kinds):
                tokens = -(-turn.tokens * (stop - start) // max(1, len(turn.content)))
                found.append(Instruction(turn, CharSpan(start, stop, tokens)))
                of_turn.append(kind)
        kinds += of_turn
    return found
