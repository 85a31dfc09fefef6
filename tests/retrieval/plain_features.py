"""The features that are computed over whole arrays, each as plain loops over chunks: slow, and easy to read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import log

from ctxmem_mcp.models import THINKING
from ctxmem_mcp.retrieval.features import BM25_B, BM25_K, HEAD_TERMS, SECTION_K
from ctxmem_mcp.retrieval.piece_table import PieceFacts, is_agent_speech, is_user_speech
from ctxmem_mcp.retrieval.query import ParsedQuery
from ctxmem_mcp.stores.records import TermHits
from ctxmem_mcp.text.analyzer import EXACT
from ctxmem_mcp.text.chunk_flags import Flag

Score = Callable[[int], float]


class PlainFeatures:
    """Computes features of one chunk at a time."""

    def __init__(
        self, parsed: ParsedQuery, hits: Mapping[str, TermHits], facts: Sequence[PieceFacts], n: int, mean_words: float
    ) -> None:
        self.terms = [t for t, weight in zip(parsed.terms, parsed.weights, strict=True) if weight]
        self.facts, self.n, self.mean_words, self.parsed = facts, n, mean_words, parsed
        self.by_ordinal = {f.ordinal: f for f in facts}
        self.places = {
            term: list(zip(hits[term].pieces, hits[term].positions, strict=True)) if term in hits else []
            for term in self.terms
        }
        self.idf = {}
        for term in self.terms:
            df = hits[term].df if term in hits else 0
            self.idf[term] = log(1 + (n - df + 0.5) / (df + 0.5))
        self.whole = sum(self.idf.values()) or 1.0
        self.top = max((self.rough(o) for o in range(n)), default=0.0) or 1.0

    def count(self, term: str, ordinal: int) -> int:
        return sum(1 for at, _ in self.places[term] if at == ordinal)

    def terms_in(self, ordinal: int) -> set[str]:
        return {term for term in self.terms if self.count(term, ordinal)}

    def head_of(self, ordinal: int) -> set[str]:
        return {t for t in self.terms if any(at == ordinal and p < HEAD_TERMS for at, p in self.places[t])}

    def cover(self, terms: set[str]) -> float:
        return sum(self.idf[term] for term in terms) / self.whole

    def rough(self, ordinal: int) -> float:
        return sum(self.idf[t] * 2.2 * tf / (tf + 1.2) for t in self.terms if (tf := self.count(t, ordinal)))

    def bm25(self, fact: PieceFacts) -> float:
        slack = BM25_K * (1 - BM25_B + BM25_B * fact.words / self.mean_words)
        counts = {term: self.count(term, fact.ordinal) for term in self.terms}
        return sum(self.idf[term] * tf * (BM25_K + 1) / (tf + slack) for term, tf in counts.items())

    def is_near(self, fact: PieceFacts, offset: int) -> bool:
        """Whether a chunk at an offset is of the same sitting; one that is no candidate is taken to be."""
        other = self.by_ordinal.get(fact.ordinal + offset)
        return other is None or other.sitting == fact.sitting

    def group(self, members: Sequence[PieceFacts]) -> tuple[float, float]:
        """The score and the cover of some chunks as if they were one text."""
        sums = {term: sum(self.count(term, f.ordinal) for f in members) for term in self.terms}
        score = sum(self.idf[term] * tf / (tf + SECTION_K) for term, tf in sums.items())
        return score, self.cover({term for term, tf in sums.items() if tf})

    def said(self, fact: PieceFacts) -> bool:
        return is_user_speech(fact.role, fact.flags) or is_agent_speech(fact.role, fact.name, fact.flags)

    def speech_before(self, fact: PieceFacts) -> PieceFacts | None:
        """The last speech of an earlier turn in an unbroken row of chunks of the same sitting."""
        earlier = [f for f in self.facts if f.ordinal < fact.ordinal and self.said(f)]
        while earlier and earlier[-1].sitting == fact.sitting:
            if (found := earlier.pop()).turn != fact.turn:
                return found
        return None

    def speech_after(self, fact: PieceFacts) -> PieceFacts | None:
        later = [f for f in self.facts if f.ordinal > fact.ordinal and self.said(f)]
        return later[0] if later and later[0].sitting == fact.sitting else None

    def closes(self, fact: PieceFacts) -> bool:
        """Whether it is the agent's last speech before the user's, or at the end."""
        said = [f for f in self.facts if self.said(f) and f.name != THINKING]
        if fact not in said or fact.role != "assistant":
            return False
        later = [f for f in said[said.index(fact) + 1 :] if f.turn != fact.turn or f.role == "user"]
        return not later or later[0].role == "user"

    def columns(self, near: Mapping[int, float]) -> dict[str, list[float]]:
        facts, names = self.facts, set(self.terms)
        bm25 = {f.ordinal: self.bm25(f) for f in facts}
        best = max(bm25.values(), default=0.0) or 1.0
        best_said = max((bm25[f.ordinal] for f in facts if self.said(f)), default=0.0) or 1.0
        exact = {term for term in names if term.startswith(EXACT)}
        inside = {f.ordinal: self.terms_in(f.ordinal) for f in facts}

        def beside(f: PieceFacts, offset: int) -> float:
            return self.rough(f.ordinal + offset) / self.top if self.is_near(f, offset) else 0.0

        def around(f: PieceFacts, of: Callable[[int], set[str]], offsets: Sequence[int]) -> set[str]:
            return set().union(*(of(f.ordinal + d) for d in offsets if self.is_near(f, d)))

        def rough_of(f: PieceFacts | None) -> float:
            return self.rough(f.ordinal) / self.top if f else 0.0

        found = {
            "bm25": [bm25[f.ordinal] / self.whole for f in facts],
            "rel": [bm25[f.ordinal] / best for f in facts],
            "cover": [self.cover(inside[f.ordinal]) for f in facts],
            "exact": [
                sum(self.idf[t] for t in inside[f.ordinal] & exact) / (sum(self.idf[t] for t in exact) or 1.0)
                for f in facts
            ],
            "any": [float(bool(inside[f.ordinal])) for f in facts],
            "before1": [beside(f, -1) for f in facts],
            "before2": [beside(f, -2) for f in facts],
            "after1": [beside(f, 1) for f in facts],
            "after2": [beside(f, 2) for f in facts],
            "window": [self.cover(inside[f.ordinal] | around(f, self.terms_in, (-1, 1))) for f in facts],
            "context": [self.cover(inside[f.ordinal] | around(f, self.head_of, (-1, -2))) for f in facts],
            "spoken_rel": [bm25[f.ordinal] / best_said if self.said(f) else 0.0 for f in facts],
            "spoken_before": [rough_of(self.speech_before(f)) for f in facts],
            "spoken_after": [rough_of(self.speech_after(f)) for f in facts],
            "closing": [float(self.closes(f)) for f in facts],
        }
        for name in ("turn", "leaf", "sitting"):
            groups = {getattr(f, name): [g for g in facts if getattr(g, name) == getattr(f, name)] for f in facts}
            scored = {key: self.group(members) for key, members in groups.items()}
            most = max((score for score, _ in scored.values()), default=0.0) or 1.0
            found[name] = [scored[getattr(f, name)][0] / most for f in facts]
            found[f"{name}_cover"] = [scored[getattr(f, name)][1] for f in facts]
            if name == "turn":
                score_of = {turn: score / most for turn, (score, _) in scored.items()}
                found["turn_before"] = [score_of.get(f.turn - 1, 0.0) if f.turn > f.sitting else 0.0 for f in facts]
                found["turn_after"] = [score_of.get(f.turn + 1, 0.0) for f in facts]
        asks = int(Flag.PROSE | Flag.QUESTION)
        before = {f.ordinal: self.by_ordinal.get(f.ordinal - 1) for f in facts}
        found["after_question"] = [
            float(bool((b := before[f.ordinal]) and b.flags & asks == asks and f.turn > f.sitting)) for f in facts
        ]
        return found | (self._meaning(near) if near else {})

    def _meaning(self, near: Mapping[int, float]) -> dict[str, list[float]]:
        facts = self.facts
        most = max(max(near.get(f.ordinal, 0.0), 0.0) for f in facts) or 1.0
        own = {f.ordinal: max(near.get(f.ordinal, 0.0), 0.0) / most for f in facts}
        said = max((own[f.ordinal] for f in facts if self.said(f)), default=0.0) or 1.0

        def value(f: PieceFacts | None) -> float:
            return own[f.ordinal] if f else 0.0

        return {
            "meaning": [own[f.ordinal] for f in facts],
            "meaning_before1": [own.get(f.ordinal - 1, 0.0) if self.is_near(f, -1) else 0.0 for f in facts],
            "meaning_after1": [own.get(f.ordinal + 1, 0.0) if self.is_near(f, 1) else 0.0 for f in facts],
            "meaning_turn": [max(own[g.ordinal] for g in facts if g.turn == f.turn) for f in facts],
            "meaning_leaf": [max(own[g.ordinal] for g in facts if g.leaf == f.leaf) for f in facts],
            "spoken_meaning": [own[f.ordinal] / said if self.said(f) else 0.0 for f in facts],
            "spoken_meaning_before": [value(self.speech_before(f)) for f in facts],
            "spoken_meaning_after": [value(self.speech_after(f)) for f in facts],
        }
