"""Finds the recap of a compaction, and what it leaves out of the history that it summarises."""

from __future__ import annotations

from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, spoken_turns
from ctxmem_mcp.memory.section_summaries import load_sections
from ctxmem_mcp.memory.standing_instructions import standing_instructions
from ctxmem_mcp.models import RECAP, Highlight, Turn
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.summarizers.error_extraction import find_failed_tests
from ctxmem_mcp.summarizers.sentences import split_sentences
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.chunk_flags import Flag, flags
from ctxmem_mcp.views.recap_supplement import build_supplement

# The recap of a compaction that has just been is among this many last turns: the agent may have worked on since.
LAST_TURNS = 40
# Reasons and decisions are read from this many turns, but not from a turn that is a document.
REASON_TURNS, TURN_TOKENS_MAX = 600, 2_000
SENTENCE_CHARS = range(25, 300)
# Failed tests are read from the outputs among this many turns. A recap tells how the tests ended, not which had failed.
FAILED_TURNS, OUTPUT_TOKENS = 600, range(20, 20_000)
_STANDING_SHARE = 0.1


async def find_recap(branch: BranchReader) -> Turn | None:
    """Reads the newest recap among the last turns."""
    length = branch.lineage.length
    bare = await branch.metadata(length - LAST_TURNS, length - 1)
    index = next((turn.index for turn in reversed(bare) if turn.name == RECAP), None)
    return None if index is None else (await branch.turns([index]))[index]


async def left_out(before: BranchReader, summarizer: Summarizer, recap: str, token_budget: int) -> str:
    """Returns what a recap leaves out, in at most so many tokens; empty if it leaves out nothing.

    Args:
        before: The branch up to the turn before the recap.
        summarizer: Summarises its open end.
        recap: The recap's text.
        token_budget: Maximum tokens of the text.
    """
    count = tokenizer.CachedCounter(before.state.encoding)
    sections = await load_sections(before, await load_snapshot(before), summarizer)
    standing = await standing_instructions(before, round(token_budget * _STANDING_SHARE), from_files=False)
    quotes, reasons, failed = [one.quote for one in standing], await _reasons(before), await _failed_tests(before)
    return build_supplement(sections, quotes, reasons, failed, recap, token_budget, count)


async def _failed_tests(branch: BranchReader) -> list[Highlight]:
    """The names of the tests that failed, each with the last turn that reports it."""
    length = branch.lineage.length
    bare = await branch.metadata(length - FAILED_TURNS, length - 1)
    turns = await branch.turns(turn.index for turn in bare if turn.role == "tool" and turn.tokens in OUTPUT_TOKENS)
    last = {name: index for index in sorted(turns) for name in find_failed_tests(turns[index].content)}
    return [Highlight("error", index, "tool", name) for name, index in last.items()]


async def _reasons(branch: BranchReader) -> list[Highlight]:
    """The agent's sentences that state a reason or a decision. Summaries have room for the best of them only."""
    bare = await branch.metadata(branch.lineage.length - REASON_TURNS, branch.lineage.length - 1)
    turns = await branch.turns(turn.index for turn in spoken_turns(bare, "assistant") if turn.tokens <= TURN_TOKENS_MAX)
    return [
        Highlight("fact", index, "assistant", text)
        for index in sorted(turns)
        for text in split_sentences(turns[index].content)
        if len(text) in SENTENCE_CHARS and flags(text, "assistant") & (Flag.REASON | Flag.DECISION)
    ]
