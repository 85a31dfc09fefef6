"""Hand-off: reads what a brief for the next run is made of."""

from __future__ import annotations

from ctxmem_mcp import tokens
from ctxmem_mcp.errors import BudgetTooSmall, InvalidArgument
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.memory.grounding import Branch, whole_ground
from ctxmem_mcp.memory.recalling import heading_of
from ctxmem_mcp.memory.sections import sections_of
from ctxmem_mcp.model import Turn, View
from ctxmem_mcp.recall.handing import LAST_WORDS_SHARE, brief
from ctxmem_mcp.recall.heading import headed
from ctxmem_mcp.recall.layout import Quoted, Stretch
from ctxmem_mcp.stores.contract import State, Store
from ctxmem_mcp.summarizers.contract import Summarizer

NOTE_CHARS_MAX = 4_000
# Among so many turns the last words of each side are looked for.
LAST_TURNS = 60
BRIEF_TOKENS_MIN = 200


async def hand_off(
    store: Store, summarizer: Summarizer, state: State, lineage: Lineage, token_budget: int, note: str | None
) -> View:
    """The brief for the next run, as of the branch's last turn."""
    if note is not None and len(note) > NOTE_CHARS_MAX:
        raise InvalidArgument("note", f"takes up to {NOTE_CHARS_MAX} characters; it has {len(note)}", "Shorten it.")
    branch = Branch(store, state, lineage)
    count = tokens.Counting(state.encoding)
    ground = await whole_ground(branch)
    heading = await heading_of(branch, ground, token_budget)
    room = token_budget - heading.cost(count) - (count(note) if note else 0)
    if room < BRIEF_TOKENS_MIN:
        raise BudgetTooSmall(token_budget, token_budget + BRIEF_TOKENS_MIN - room)
    sections = await sections_of(branch, ground, summarizer)
    last_words = await _last_words(branch, round(room * LAST_WORDS_SHARE))
    return headed(heading, brief(sections, last_words, note, token_budget - heading.cost(count), count), count)


async def _last_words(branch: Branch, budget: int) -> list[Quoted]:
    """What the user said last and what the agent said last, where they are not too long to be quoted."""
    length = branch.lineage.length
    bare = await branch.bare(length - LAST_TURNS, length - 1)
    wanted: list[Turn] = []
    for role in ("assistant", "user"):
        said = [turn for turn in bare if turn.role == role and turn.call_id is None and turn.name != "thinking"]
        if said and said[-1].tokens <= budget:
            wanted.append(said[-1])
            budget -= said[-1].tokens
    turns = await branch.turns([turn.index for turn in wanted])
    return [
        Quoted(turns[index], (Stretch(0, len(turns[index].content), turns[index].tokens),), len(turns[index].content))
        for index in sorted(turns)
    ]
