"""python -m bench outline [DATA...] [--tokens 2000] [--questions N] [--limit N] [--seed N]

Measures the information in the summaries alone: the share of the facts of a question's evidence that the outline
without any quoted turn contains, beside the newest turns that fit into the same number of tokens. DATA as for `recall`.

The outline is produced by the code that builds views, with the whole budget for the outline and nothing to quote. It
does not depend on the question, so all questions of a conversation are measured on the same text.

The facts of a question are index terms (analyzer.analyze). A text contains a fact if it contains the term:

- of the answer, if the data has one: its words that the evidence contains too;
- of the evidence (its span, else the whole turn): identifiers (parseConfig, snake_case, setup.go), numbers of two or
  more digits, and names (capitalised words within a sentence);
- except terms in more than three of the conversation's turns (--rare), which any text may contain by chance.

The figure is the mean, over questions with facts, of the share of the facts that the text contains. Beside it is the
share of answers that the text contains verbatim, of those that the evidence contains verbatim and the question does
not. Ids and role names at the beginning of generated lines, and in the headers of the newest turns, are ignored here,
but count as tokens.
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
from bench.data import find_data
from bench.data.models import Conversation, Question
from bench.misses import read_branch
from bench.recall import Settings, fresh_memory, sample_conversations, store_conversation
from ctxmem_mcp.memory.branch_reader import BranchReader, load_snapshot, outline_nodes, with_expanded
from ctxmem_mcp.memory.excerpts import HIGHLIGHT_LINE_TOKENS
from ctxmem_mcp.models import Summary
from ctxmem_mcp.text import analyzer, tokenizer
from ctxmem_mcp.views.budget import fit
from ctxmem_mcp.views.layout import tile
from ctxmem_mcp.views.page_layout import FitInput
from ctxmem_mcp.views.render import PREFACE

TOKENS = 2_000
OUTLINE, NEWEST = "outline", "newest"
# A fact that more turns than this contain does not distinguish the evidence.
RARE_TURNS = 3
# The beginnings of generated lines: "[n0-9-213 2.1k] ", "t47 assistant ending: ", "open for: ".
_MARKERS = re.compile(r"^ *(?:\[[^\]\n]*\]|t\d+ \w+ \w+:|open for:)", re.MULTILINE)
_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]+(?: [A-Z][a-z]+)*")


@dataclass(frozen=True, slots=True)
class Coverage:
    """What one text contains of one question.

    Attributes:
        source: OUTLINE or NEWEST.
        category: Category of the question.
        facts: Share of the question's facts that the text contains; None if the question has no facts.
        answer: Whether the text contains the answer verbatim; None if the evidence does not contain it either.
    """

    source: str
    category: str
    facts: float | None
    answer: bool | None


async def outline_text(branch: BranchReader, budget: int) -> str:
    """Returns the text of a view that quotes nothing and gives the outline the whole budget."""
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
    """Returns the facts of a question as index terms. rare: the terms that count (see `rare_terms`)."""
    texts = evidence_texts(question, conversation)
    held = {term for text in texts for term in analyzer.analyze(text)}
    identifying = {term for text in texts for term in _identifying_terms(text)}
    return rare & (identifying | (held & set(analyzer.analyze(question.answer or ""))))


def evidence_texts(question: Question, conversation: Conversation) -> list[str]:
    """Returns the span or the whole turn of each piece of evidence."""
    return [e.text or conversation.turns[e.turn].content for e in question.evidence]


def _identifying_terms(text: str) -> set[str]:
    """Identifiers, numbers and names."""
    found = {
        term for term in analyzer.analyze(text) if term.startswith(analyzer.EXACT) or (len(term) > 1 and term.isdigit())
    }
    return found.union(*(analyzer.analyze(name) for name in _NAME.findall(text)))


def answer_words(question: Question, conversation: Conversation) -> str | None:
    """Returns the answer in lower case; None if no evidence contains it or the question does."""
    answer = (question.answer or "").strip(" .'\"\n").lower()
    is_evident = any(answer in text.lower() for text in evidence_texts(question, conversation))
    return answer if answer and is_evident and answer not in question.query.lower() else None


def rare_terms(conversation: Conversation, limit: int) -> frozenset[str]:
    """Returns the terms that occur in at most `limit` turns."""
    counts = Counter(term for turn in conversation.turns.values() for term in set(analyzer.analyze(turn.content)))
    return frozenset(term for term, turns in counts.items() if turns <= limit)


async def build_texts(conversation: Conversation, budget: int, store: str) -> dict[str, str]:
    """Returns the outline and the newest turns, without the beginnings of generated lines."""
    async with fresh_memory(store) as (memory, branch_store):
        outline = await outline_text(
            await read_branch(branch_store, await store_conversation(memory, conversation)), budget
        )
    with closing(Baselines(conversation.turns)) as baselines:
        newest = baselines.text(baselines.fill(baselines.rank("newest", ""), budget))
    return {OUTLINE: strip_markers(outline), NEWEST: strip_markers(newest)}


def strip_markers(text: str) -> str:
    """Removes ids and roles at the beginning of generated lines."""
    return _MARKERS.sub("", text)


def measure_coverage(conversation: Conversation, texts: Mapping[str, str], limit: int) -> Iterator[Coverage]:
    """Yields what each text contains of each question."""
    rare = rare_terms(conversation, limit)
    terms_of = {source: set(analyzer.analyze(text)) for source, text in texts.items()}
    for question in conversation.questions:
        expected, answer = facts(question, conversation, rare), answer_words(question, conversation)
        for source, text in texts.items():
            share = len(expected & terms_of[source]) / len(expected) if expected else None
            yield Coverage(source, question.category, share, None if answer is None else answer in text.lower())


def table(rows: Sequence[Coverage]) -> str:
    """Renders a Markdown table by category, in percent."""
    ways = "outline | newest turns | ratio"
    lines = [f"| questions | with facts | {ways} | with an answer | {ways} |", "| --- |" + " ---: |" * 8]
    for name in ("all", *sorted({row.category for row in rows})):
        mine = [row for row in rows if name in ("all", row.category)]
        lines.append(f"| {name} | {_cells(mine, lambda row: row.facts)} | {_cells(mine, lambda row: row.answer)} |")
    return "\n".join(lines)


def _cells(rows: Sequence[Coverage], share_of: Callable[[Coverage], float | None]) -> str:
    """The number of questions, the mean share in each text, and the ratio of the two."""
    outline, newest = (
        [share for row in rows if row.source == source and (share := share_of(row)) is not None]
        for source in (OUTLINE, NEWEST)
    )
    if not outline:
        return "0 | | | "
    mean, other = 100 * statistics.fmean(outline), 100 * statistics.fmean(newest)
    return f"{len(outline)} | {mean:.1f} | {other:.1f} | {f'{mean / other:.1f}' if other else '-'}"


async def measure_file(path: Path, settings: Settings, budget: int, limit: int) -> list[Coverage]:
    rows: list[Coverage] = []
    for conversation in sample_conversations(path, settings):
        rows += measure_coverage(conversation, await build_texts(conversation, budget, settings.store), limit)
        print(f"# {path.name}: {conversation.id} done", file=sys.stderr)
    return rows


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench outline", description=__doc__)
    parser.add_argument("data", nargs="*", type=Path)
    parser.add_argument("--tokens", type=int, default=TOKENS)
    parser.add_argument("--questions", type=int, help="maximum per conversation, sampled with the seed")
    parser.add_argument("--limit", type=int, help="maximum number of conversations per file")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rare", type=int, default=RARE_TURNS, help="maximum number of turns that contain a fact")
    options = parser.parse_args(arguments)
    settings = Settings((options.tokens,), options.questions, options.limit, options.seed, "plain")
    for path in find_data(options.data):
        rows = asyncio.run(measure_file(path, settings, options.tokens, options.rare))
        if not rows:
            sys.exit(f"{path}: contains no questions")
        print(f"\n{path.name}: facts and answers contained in {options.tokens:,} tokens, in % (target: a ratio of 3)\n")
        print(table(rows))
