"""Finds the standing instructions of a branch: rules that the user set once for all that follows.

They have no word in common with questions about later work, so no ranking finds them; the index lists their chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ctxmem_mcp.memory.branch_reader import BranchReader
from ctxmem_mcp.memory.read_cache import InstructionPlace
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
    found = await _load_places(branch)
    if not from_files:
        contents = await branch.turns(turn.index for turn, _ in found)
        found = [(turn, span) for turn, span in found if _is_users_own(contents[turn.index], span.start)]
    fitting: list[tuple[Turn, CharSpan]] = []
    for turn, span in found:
        if (cost := span.tokens + OVERHEAD_TOKENS) <= token_budget:
            fitting.append((turn, span))
            token_budget -= cost
    contents = await branch.turns(turn.index for turn, _ in fitting)
    return [Instruction(contents[turn.index], span) for turn, span in fitting]


async def standing_excerpts(branch: BranchReader, token_budget: int) -> list[ExcerptRef]:
    """Returns where `standing_instructions` are; of a branch that is as it was before, without reading them again."""
    cache, key = branch.cache.standing, (branch.state.version, branch.lineage.last_seq)
    if key not in cache:
        found = [ExcerptRef(turn.index, span) for turn, span in await _load_places(branch)]
        cache.clear()
        cache[key] = found
    fitting: list[ExcerptRef] = []
    for excerpt in cache[key]:
        cost = excerpt.span.tokens + OVERHEAD_TOKENS
        if cost <= token_budget:
            fitting.append(excerpt)
            token_budget -= cost
    return fitting


async def _load_places(branch: BranchReader) -> list[tuple[Turn, CharSpan]]:
    """Finds all instructions that hold, the newest first. The turns have no content."""
    hits = (await branch.store.term_hits(branch.id, [STANDING_TERM], CHUNKS_LISTED_MAX)).get(STANDING_TERM)
    if hits is None or hits.capped:
        return []
    pieces = await branch.pieces(hits.chunks[-CHUNKS_READ_MAX:])
    own = {piece.seq for piece in pieces if branch.lineage.seq_at(piece.index) == piece.seq}
    turns = await branch.metadata_of(sorted(own, reverse=True))
    return _newest_of_each_kind(turns, await _places_in(branch, turns))


async def _places_in(branch: BranchReader, turns: Sequence[Turn]) -> list[Sequence[InstructionPlace]]:
    """Returns the places of the instructions in each of these turns; finds those that are not cached."""
    cache = branch.cache.instructions
    keys = [(turn.digest, turn.flags, turn.language) for turn in turns]
    missing = {turn.index: key for turn, key in zip(turns, keys, strict=True) if key not in cache}
    for index, turn in (await branch.turns(missing)).items():
        cache[missing[index]] = [
            InstructionPlace(start, stop, len(turn.content), kind_of(turn.content[start:stop], turn.language))
            for start, stop in find_in_turn(turn.content, turn.role, turn.language)
        ]
    return [cache.get(key, ()) for key in keys]


def _is_users_own(turn: Turn, start: int) -> bool:
    if turn.role != "user" or turn.name in (INJECTED, RECAP):
        return False
    return any(one.kind == "user" and one.start <= start < one.end for one in split_host_text(turn.content))


def _newest_of_each_kind(
    turns: Sequence[Turn], places: Sequence[Sequence[InstructionPlace]]
) -> list[tuple[Turn, CharSpan]]:
    """turns: the newest first. places: in each of them."""
    found: list[tuple[Turn, CharSpan]] = []
    kinds: list[frozenset[str]] = []
    for turn, in_turn in zip(turns, places, strict=True):
        of_turn: list[frozenset[str]] = []
        for start, stop, chars, kind in in_turn:
            if kind and not any(same_kind(kind, newer) for newer in kinds):
                tokens = -(-turn.tokens * (stop - start) // max(1, chars))
                found.append((turn, CharSpan(start, stop, tokens)))
                of_turn.append(kind)
        kinds += of_turn
    return found
