"""python -m bench outline [DATA...] [--tokens 2000] [--questions N] [--limit N] [--seed N]

What the summaries alone tell: the share of the facts of a question's evidence that stand in the outline without any
quoted turn, beside the newest turns that fit the same number of tokens. DATA as for `recall`.

The outline is laid out, worded and cut to size by the code that makes views, with the whole budget for it and no turn
to quote: no question is asked of it, so all questions of a conversation look at the same text.

The facts of a question are index terms (analyzer.analyze), and a fact counts as told when the text has the same term:

- of the answer, where the data has one: its words that stand in the evidence too;
- of the evidence (its span, else the whole turn): identifiers (parseConfig, snake_case, setup.go), numbers of two
  digits or more, and names (capitalised inside a sentence);
- not what stands in more than three of the conversation's turns (--rare): it would be in any text by chance.

A question's share is facts told by facts; a question without a fact is left out; the figure is the mean over questions.
Beside it the share of answers told word for word, of those that stand so in their evidence and not in the question.
Ids and role names that our own lines begin with, and those of the lines above the newest turns, are not looked at,
though they count as tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.baselines import Baselines
from bench.data import at_hand
from bench.data.contract import Conversation, Question
from bench.missed import branch_of
from bench.recall import Settings, chosen, fresh_memory, stored
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, outline_nodes, with_expanded
from ctxmem_mcp.memory.view import HIGHLIGHT_LINE_TOKENS
from ctxmem_mcp.models import Summary
from ctxmem_mcp.text import analyzer, tokenizer
from ctxmem_mcp.views.budget import FitInput, fit
from ctxmem_mcp.views.layout import tile
from ctxmem_mcp.views.render import PREFACE

TOKENS = 2_000
OUTLINE, NEWEST = "outline", "newest"
# A fact that more turns than this hold does not tell the evidence from the rest.
RARE_TURNS = 3
# What our own lines begin with: "[n0-9-213 2.1k] ", "t47 assistant ending: ", "open for: ".
_OURS = re.compile(r"^ *(?:\[[^\]\n]*\]|t\d+ \w+ \w+:|open for:)", re.MULTILINE)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")


@dataclass(frozen=True, slots=True)
class Told:
    """What a text tells of one question. facts: the share of its facts (None: it has none). answer: whether the answer
    stands there word for word (None: it does not in the evidence either)."""

    way: str
    category: str
    facts: float | None
    answer: bool | None


async def outline_alone(branch: BranchReader, budget: int) -> str:
    """The view's text when there is nothing to quote and the outline has the whole budget."""
    ground = await load_snapshot(branch)
    ground = await with_expanded(branch, ground, tile(ground, {}), budget // HIGHLIGHT_LINE_TOKENS)
    summaries = await branch.summaries(outline_nodes(tile(ground, {})))
    nothing = Summary("", "")
    material = FitInput(
        ground, (), {}, lambda node: summaries.get(node.digest, nothing), tokenizer.CachedCounter(), outline_share=1.0
    )
    fitted = fit(material, budget)
    return "" if isinstance(fitted, int) else fitted.text.removeprefix(PREFACE)


def facts(question: Question, conversation: Conversation, rare: frozenset[str]) -> frozenset[str]:
    """What an answer to the question would have to say, as index terms."""
    texts = evidence_texts(question, conversation)
    held = {term for text in texts for term in analyzer.analyze(text)}
    telling = {term for text in texts for term in _telling(text)}
    return rare & (telling | (held & set(analyzer.analyze(question.answer or ""))))


def evidence_texts(question: Question, conversation: Conversation) -> list[str]:
    return [e.text or conversation.turns[e.turn].content for e in question.evidence]


def _telling(text: str) -> set[str]:
    """Identifiers, numbers and names."""
    found = {
        term for term in analyzer.analyze(text) if term.startswith(analyzer.EXACT) or (len(term) > 1 and term.isdigit())
    }
    return found.union(*(analyzer.analyze(name) for name in _NAME.findall(text)))


def answer_words(question: Question, conversation: Conversation) -> str | None:
    """The answer as its evidence says it, in small letters; None where it is not said so, or is asked."""
    answer = (question.answer or "").strip(" .'\"\n").lower()
    said = any(answer in text.lower() for text in evidence_texts(question, conversation))
    return answer if answer and said and answer not in question.query.lower() else None


def rare_terms(conversation: Conversation, most: int) -> frozenset[str]:
    """The terms that stand in at most so many of the turns."""
    counts = Counter(term for turn in conversation.turns.values() for term in set(analyzer.analyze(turn.content)))
    return frozenset(term for term, turns in counts.items() if turns <= most)


async def texts_of(conversation: Conversation, budget: int, store: str) -> dict[str, str]:
    """Both texts, without what our own lines begin with."""
    async with fresh_memory(store) as (memory, kept):
        outline = await outline_alone(await branch_of(kept, await stored(memory, conversation)), budget)
    with closing(Baselines(conversation.turns)) as plain:
        newest = plain.text(plain.filled(plain.order("newest", ""), budget))
    return {OUTLINE: bare(outline), NEWEST: bare(newest)}


def bare(text: str) -> str:
    return _OURS.sub("", text)


def told(conversation: Conversation, texts: Mapping[str, str], most: int) -> Iterator[Told]:
    rare = rare_terms(conversation, most)
    terms_of = {way: set(analyzer.analyze(text)) for way, text in texts.items()}
    for question in conversation.questions:
        wanted, answer = facts(question, conversation, rare), answer_words(question, conversation)
        for way, text in texts.items():
            share = len(wanted & terms_of[way]) / len(wanted) if wanted else None
            yield Told(way, question.category, share, None if answer is None else answer in text.lower())


def table(rows: Sequence[Told]) -> str:
    """By category; shares in %."""
    ways = "outline | newest turns | ratio"
    lines = [f"| questions | with facts | {ways} | with an answer said | {ways} |", "| --- |" + " ---: |" * 8]
    for name in ("all", *sorted({row.category for row in rows})):
        mine = [row for row in rows if name in ("all", row.category)]
        lines.append(f"| {name} | {_cells(mine, lambda row: row.facts)} | {_cells(mine, lambda row: row.answer)} |")
    return "\n".join(lines)


def _cells(rows: Sequence[Told], share_of: Callable[[Told], float | None]) -> str:
    """How many questions count, the mean share in each text, and what one is to the other."""
    outline, newest = (
        [share for row in rows if row.way == way and (share := share_of(row)) is not None] for way in (OUTLINE, NEWEST)
    )
    if not outline:
        return "0 | | | "
    mean, other = 100 * statistics.fmean(outline), 100 * statistics.fmean(newest)
    return f"{len(outline)} | {mean:.1f} | {other:.1f} | {f'{mean / other:.1f}' if other else '-'}"


async def measured(path: Path, settings: Settings, budget: int, most: int) -> list[Told]:
    rows: list[Told] = []
    for conversation in chosen(path, settings):
        rows += told(conversation, await texts_of(conversation, budget, settings.store), most)
        print(f"# {path.name}: {conversation.id} done", file=sys.stderr)
    return rows


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench outline", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--questions", type=int, help="at most so many of each conversation, drawn by the seed")
    parser.add_argument("--limit", type=int, help="at most so many conversations of each file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rare", type=int, default=RARE_TURNS, help="facts that at most so many turns hold")
    given = parser.parse_args(arguments)
    settings = Settings((given.tokens,), given.questions, given.limit, given.seed, "plain")
    for path in at_hand(given.data):
        rows = asyncio.run(measured(path, settings, given.tokens, given.rare))
        if not rows:
            sys.exit(f"{path}: holds no question")
        print(f"\n{path.name}: facts and answers told in {given.tokens:,} tokens, in % (wanted: a ratio of 3)\n")
        print(table(rows))
