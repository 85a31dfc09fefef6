"""Conversations with known evidence, indexed as a store would index them: chunks, facts, an inverted index."""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ctxmem_mcp import tree
from ctxmem_mcp.memory.commit_builder import TOPIC_CHARS, host_spans, language_of
from ctxmem_mcp.memory.retrieve import LANGUAGES_WITH_VECTORS
from ctxmem_mcp.models import NewTurn, Turn, parse_iso
from ctxmem_mcp.retrieval import compounds
from ctxmem_mcp.retrieval import query as queries
from ctxmem_mcp.retrieval.compounds import Vocabulary
from ctxmem_mcp.retrieval.piece_table import PieceFacts
from ctxmem_mcp.retrieval.term_forms import merge_forms
from ctxmem_mcp.stores.records import TermHits
from ctxmem_mcp.text import analyzer, chunk_flags, chunker, tokenizer
from ctxmem_mcp.text.embeddings import Embedder
from ctxmem_mcp.text.host_text import is_mostly_host

# Terms in more chunks than this are returned without their occurrences, as a store does.
CAP = 5_000


@dataclass
class Prepared:
    """An indexed conversation with its questions."""

    id: str
    kind: str
    turns: list[dict[str, Any]]
    questions: list[dict[str, Any]]
    facts: list[PieceFacts] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    index: dict[str, tuple[list[int], list[int]]] = field(default_factory=dict)
    mean_words: float = 1.0
    speakers: list[str] = field(default_factory=list)
    languages: list[str] = field(default_factory=list)
    by_id: dict[str, int] = field(default_factory=dict)
    embedder: Embedder | None = None
    vectors: list[bytes] = field(default_factory=list)
    vocabulary: Vocabulary | None = None

    def parse(self, query: str) -> queries.ParsedQuery:
        """Parses a question as it would be parsed for this conversation."""
        parsed = queries.parse(query, self.speakers, self.languages)
        if parsed.language not in compounds.LANGUAGES:
            return parsed
        if self.vocabulary is None:
            self.vocabulary = Vocabulary(term for term in self.index if term.isalpha())
        return queries.with_compounds(parsed, self.vocabulary)

    def similarities(self, query: queries.ParsedQuery) -> dict[int, float]:
        """Ordinal -> cosine similarity of the chunk to the query; empty if no vectors are used for it."""
        if self.embedder is None or query.language not in LANGUAGES_WITH_VECTORS:
            return {}
        if not self.vectors:
            self.vectors = self.embedder.embed(self.texts)
        return dict(enumerate(self.embedder.cosines(self.embedder.embed([query.text])[0], self.vectors)))

    def hits(self, query: queries.ParsedQuery) -> dict[str, TermHits]:
        """Returns what a store would return for the terms of a query."""
        found = {}
        for term in query.forms:
            if term in self.index:
                ordinals, positions = self.index[term]
                df = len(set(ordinals))
                found[term] = TermHits(df, (), (), True) if df > CAP else TermHits(df, ordinals, positions)
        return merge_forms(query, found)


def folder() -> Path:
    """Returns the folder of data files. Raises SystemExit if CTXMEM_EVAL_DIR is not set."""
    try:
        return Path(os.environ["CTXMEM_EVAL_DIR"]) / "data"
    except KeyError:
        raise SystemExit("Set CTXMEM_EVAL_DIR to the folder that contains data/*.jsonl.gz.") from None


def read(name: str) -> Iterator[dict[str, Any]]:
    """Reads the conversations of a data file in this project's format."""
    with gzip.open(folder() / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        yield from map(json.loads, lines)


def prepare(conversation: dict[str, Any]) -> Prepared:
    """Indexes a conversation."""
    made = Prepared(
        conversation["id"], conversation["kind"], conversation["turns"], conversation["questions"],
        by_id={t["id"]: i for i, t in enumerate(conversation["turns"])},
    )  # fmt: skip
    made.speakers = sorted({name for t in made.turns if (name := t.get("name"))})
    languages = Counter[str]()
    index: dict[str, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
    frontier, words = tree.Frontier(), 0
    for i, turn in enumerate(made.turns):
        content, role = turn["content"], turn["role"]
        new = NewTurn(role, content, turn.get("name"), turn["said_at"], turn.get("call_id"))
        language = language_of(new)
        languages[language or "en"] += 1
        host = host_spans(Turn(i, i, b"", new.role, content, new.name, None, None, 0))
        facts = tree.TurnFacts(
            i.to_bytes(16, "big"), i, role, tokenizer.count(content), None, parse_iso(turn["said_at"]),
            frozenset(analyzer.analyze(content[:TOPIC_CHARS], language)) if role != "tool" else frozenset(),
        )  # fmt: skip
        frontier = tree.grow(frontier, facts).frontier
        for start, stop in chunker.split(content, role):
            text = content[start:stop]
            found = analyzer.analyze(text, language)
            held = chunk_flags.flags(text, role, language)
            if is_mostly_host(host, start, stop):
                held |= chunk_flags.Flag.HOST
            ordinal = len(made.facts)
            made.facts.append(PieceFacts(
                ordinal, i, start, tokenizer.count(text), len(found), int(held),
                frontier.leaf_first or 0, frontier.sitting, role, new.name, parse_iso(turn["said_at"]),
            ))  # fmt: skip
            made.texts.append(text)
            words += len(found)
            for position, term in enumerate([*found, *chunk_flags.speaker_terms(held, role)]):
                index[term][0].append(ordinal)
                index[term][1].append(position)
    made.languages = [name for name, _ in languages.most_common() if name != "en"]
    made.index, made.mean_words = dict(index), words / max(1, len(made.facts))
    return made


def load(name: str, embedder: Embedder | None = None) -> list[Prepared]:
    """Reads and indexes the conversations of a data file."""
    return [replace(prepare(conversation), embedder=embedder) for conversation in read(name)]
