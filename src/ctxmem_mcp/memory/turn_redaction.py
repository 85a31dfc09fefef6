"""Redacts turns: rebuilds a conversation's file with a note in the place of their contents.

The turns keep their ids, and so do all turns after them. What is computed from contents is computed anew: the index,
the dictionaries, the tree from these turns on, and every summary. Of the summaries that somebody wrote, those stay
that neither cover a redacted turn nor quote one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from ctxmem_mcp.errors import DamagedConversation
from ctxmem_mcp.memory import repair
from ctxmem_mcp.memory.branches import Lineage
from ctxmem_mcp.models import REDACTED, Summary, Turn, redacted_text
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.stores.base import Store
from ctxmem_mcp.stores.records import Salvage, SalvagedSummary, State
from ctxmem_mcp.stores.tombstones import RedactedTurn, counts
from ctxmem_mcp.summarizers.base import Summarizer
from ctxmem_mcp.text.embeddings import Embedder

_SEQS_AT_ONCE = 5_000
# How many turns before a redacted one are looked at for the message before it.
_BEFORE_TURNS = 64
# A text that has this many words in a row in common with a turn quotes it.
_QUOTED_WORDS = 3
_WORD = lazy_regex(r"\w+")


@dataclass(frozen=True, slots=True)
class TurnRedaction:
    """The turns of a conversation to redact.

    Attributes:
        turns: The turns, with their contents and the messages before them.
        covering: The digests of the closed nodes that contain them.
    """

    turns: Sequence[RedactedTurn]
    covering: Collection[bytes]

    @property
    def seqs(self) -> list[int]:
        return [one.turn.seq for one in self.turns]


async def find_seqs(store: Store, state: State, digests: Collection[bytes]) -> list[int]:
    """Returns the seqs of the turns with these digests that are not redacted yet."""
    found: list[int] = []
    for start in range(1, state.next_seq, _SEQS_AT_ONCE):
        stop = min(start + _SEQS_AT_ONCE, state.next_seq) - 1
        stored = await store.digests(state.conversation_id, start, stop)
        found += [seq for seq, digest in enumerate(stored, start) if digest in digests]
    turns = await store.turns(state.conversation_id, found, metadata_only=True)
    return [turn.seq for turn in turns if not turn.is_redacted]


async def plan_redaction(store: Store, state: State, seqs: Sequence[int]) -> TurnRedaction:
    """Reads what has to be known of turns before they are redacted."""
    turns = await store.turns(state.conversation_id, seqs)
    found = [RedactedTurn(turn, await _message_before(store, state, turn)) for turn in turns]
    closings = await store.closings(state.conversation_id, 1, state.next_seq - 1)
    covering = set()
    for closer, node in closings:
        lineage = Lineage.of(state.runs, closer)
        if any(node.first <= turn.index <= node.last and turn.seq in lineage for turn in turns):
            covering.add(node.digest)
    return TurnRedaction(found, covering)


async def _message_before(store: Store, state: State, turn: Turn) -> Turn | None:
    """Returns the last turn before this one that clients send again; None if there is none."""
    seqs = Lineage.of(state.runs, turn.seq).seqs(max(0, turn.index - _BEFORE_TURNS), turn.index - 1)
    turns = await store.turns(state.conversation_id, seqs, metadata_only=True)
    seq = next((one.seq for one in reversed(turns) if counts(one)), 0)
    return (await store.turns(state.conversation_id, [seq]))[0] if seq else None


async def rebuild_redacted(
    store: Store,
    salvage: Salvage,
    redaction: TurnRedaction,
    day: str,
    empty: State,
    summarizer: Summarizer,
    embedder: Embedder | None,
) -> str:
    """Stores a conversation with redacted turns in an empty store; returns its title if that quoted them, else "".

    Raises:
        DamagedConversation: Some of its turns can't be read.
    """
    if salvage.lost or salvage.state is None or not salvage.turns:
        raise DamagedConversation(empty.conversation_id, "Some of its turns can't be read.")
    text, turns = redacted_text(day), dict(salvage.turns)
    for seq in redaction.seqs:
        turns[seq] = replace(turns[seq], content=text, flags=REDACTED, language=None)
    quotations = _Quotations([one.turn.content for one in redaction.turns], (turn.content for turn in turns.values()))
    title: str = salvage.state["title"]
    quoting = title if quotations.are_in(title) else ""
    state = {**salvage.state, "title": "" if quoting else title}
    summaries = [one for one in salvage.summaries if _stays(one, redaction, quotations)]
    rest = replace(salvage, state=state, turns=turns, summaries=summaries)
    await repair.rebuild(store, rest, empty, summarizer, embedder)
    return quoting


def _stays(one: SalvagedSummary, redaction: TurnRedaction, quotations: _Quotations) -> bool:
    return one.digest not in redaction.covering and not any(map(quotations.are_in, _texts(one.summary)))


def _texts(summary: Summary) -> Iterable[str]:
    yield from (summary.title, summary.open_for, *summary.identifiers)
    yield from (line.text for line in summary.highlights)


class _Quotations:
    """Recognises texts that quote what was redacted: a word that no other turn has, or a few words in a row."""

    def __init__(self, redacted: Iterable[str], others: Iterable[str]) -> None:
        self._words, self._runs = set[str](), set[tuple[str, ...]]()
        for text in redacted:
            words = _words(text)
            self._words.update(words)
            self._runs.update(_runs(words))
        for text in others:
            self._words.difference_update(_words(text))

    def are_in(self, text: str) -> bool:
        words = _words(text)
        return not self._words.isdisjoint(words) or any(run in self._runs for run in _runs(words))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def _runs(words: Sequence[str]) -> Iterable[tuple[str, ...]]:
    return zip(*(words[i:] for i in range(_QUOTED_WORDS)), strict=False)
