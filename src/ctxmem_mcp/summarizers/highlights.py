"""The lines of a leaf's summary: everything worth a line is offered with its value, the best are kept. Pure.

An error and its ending are one offer, so that they are kept or dropped together and stand together.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ctxmem_mcp.models import Highlight, HighlightKind
from ctxmem_mcp.summarizers import requests, sentence_scoring
from ctxmem_mcp.summarizers.base import CHOSEN
from ctxmem_mcp.summarizers.error_outcomes import Episode
from ctxmem_mcp.summarizers.identifiers import code_names
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Said, one_line, shorten
from ctxmem_mcp.summarizers.tool_calls import Call
from ctxmem_mcp.text import tokenizer

LINE_CHARS = 170
_WORD = re.compile(r"[\w'-]{3,}")
_LIST_HEAD = re.compile(
    r"^\s*(?:\d{1,2}[.)]|[-*•])\s+(?:\*\*)?([^:*\n]{3,60}?)(?:\*\*)?\s*(?::|\s[–—-]\s|$|\*\*)", re.M
)


@dataclass(frozen=True, slots=True)
class Offer:
    """Lines that are kept or dropped as one. place: where they stand among the others."""

    value: float
    place: tuple[int, int]
    lines: tuple[Highlight, ...]

    @property
    def cost(self) -> int:
        return sum(_tokens(line.text) + 1 for line in self.lines)


# A line is weighed again in each node above its own.
_tokens = functools.lru_cache(maxsize=1024)(tokenizer.count)


def allowance(section: Section, episodes: Sequence[Episode]) -> int:
    """Tokens of highlights that a leaf is worth: talk is denser than the output of tools, errors need their endings."""
    percent = 8 if section.is_dialogue else 4 if section.is_work else 5
    return max(36, min(140, 28 + 15 * min(2, len(episodes)) + section.tokens * percent // 100))


def offers_of(section: Section, episodes: Sequence[Episode], question: Said | None) -> list[Offer]:
    """Everything in a section that is worth a line. question: what the assistant said just before it, if known."""
    offers = [*_requests(section, question), *_errors(episodes)]
    if section.is_work:
        offers += [
            *_said_at_work(section, {episode.ending for episode in episodes}),
            *_files(section.calls),
            *_landed(section),
        ]
        offers += _planned(section.calls)
        return offers or list(_intents(section))
    return [*offers, *_talk(section)]


def keep_best(offers: Iterable[Offer], allowed: int) -> tuple[Highlight, ...]:
    """The most telling offers that fit, in order of their turns; what says the same again is left out."""
    left, heard = allowed, set[str]()
    kept: list[Offer] = []
    weighed = [(offer, offer.cost) for offer in offers]
    for offer, cost in sorted(weighed, key=lambda o: (-o[0].value / math.sqrt(8 + o[1]), o[0].place)):
        if cost > left + (8 if not kept else 0):
            continue
        words = {word.lower() for line in offer.lines for word in _WORD.findall(line.text)}
        if words and len(words & heard) > 0.7 * len(words):
            continue
        kept.append(offer)
        heard |= words
        left -= cost
    return tuple(line for offer in sorted(kept, key=lambda o: o.place) for line in offer.lines)


def line(kind: HighlightKind, said_index: int, role: str, text: str, limit: int = LINE_CHARS) -> Highlight:
    return Highlight(kind, said_index, role, shorten(one_line(text), limit))  # type: ignore[arg-type]


def _offer(value: float, kind: HighlightKind, index: int, role: str, text: str, rank: int = 0) -> Offer:
    return Offer(value, (index, rank), (line(kind, index, role, text),))


def _requests(section: Section, question: Said | None) -> Iterator[Offer]:
    seen: set[str] = set()
    spoken = {said.index: said for said in section.said}
    for ask in section.asks:
        said = spoken[ask.index]
        asked_before = requests.last_speech(section.said, ask.index) or question
        if ask.weak and (choice := requests.chosen(" ".join(said.sentences), asked_before)):
            yield _offer(6.0, "decision", ask.index, "user", f"{shorten(said.sentences[0], 40)}{CHOSEN}{choice}")
        elif not ask.weak and ask.core not in seen:
            seen.add(ask.core)
            yield _offer(9.0 if section.is_work else 3.8, "request", ask.index, said.role, ask.core)
        if section.is_work:
            yield from _rules(said, ask.line)


def _rules(said: Said, but: str) -> Iterator[Offer]:
    """The constraints and decisions in a user's turn, its request left out."""
    for text in said.sentences[:20]:
        if text != but and len(text) > 15 and sentence_scoring.rules_in(text) and not requests.is_weak(text):
            yield _offer(5.5, "decision", said.index, "user", requests.strip_politeness(text), 1)


def _errors(episodes: Sequence[Episode]) -> Iterator[Offer]:
    for number, episode in enumerate(episodes):
        shown = episode.faults[:2]
        lines = [line("error", f.index, episode.role, f.text, 150) for f in shown]
        if episode.ending:
            lines.append(line("ending", episode.ended_at, episode.ended_by, episode.ending, 110))
        value = (12.0 - 0.6 * min(number, 5)) * episode.weight
        yield Offer(value, (shown[0].index, 0), tuple(lines))
        for fault in episode.faults[2:6]:
            yield _offer(5.0 * episode.weight, "error", fault.index, episode.role, fault.text, -1)


def _said_at_work(section: Section, told: set[str]) -> Iterator[Offer]:
    seen = set(told)
    closings = _closings(section)
    for said in section.said:
        if said.role != "assistant" or said.origin != "words":
            continue
        closing = said.index in closings
        for rank, text in enumerate(said.sentences[:30]):
            value, kind = worth_at_work(text, closing)
            if value > 1.5 and text not in seen and text.split(": ", 1)[0] not in told:
                seen.add(text)
                yield _offer(value - 0.05 * rank, kind, said.index, "assistant", sentence_scoring.told(text), 2 + rank)


def worth_at_work(text: str, closing: bool) -> tuple[float, HighlightKind]:
    """What an assistant's sentence in a working session is worth as a line, and as what kind of line."""
    if (
        len(text) < 20
        or text.endswith(("?", ":"))
        or sentence_scoring.is_intent(text)
        or sentence_scoring.empty_in(text)
    ):
        return 0.0, "fact"
    named = min(3, len(code_names(text[:300]))) * 0.5 + (0.3 if "`" in text else 0.0)
    named += 0.4 if text.endswith((".", "!")) else -0.6
    if sentence_scoring.choice_in(text):
        return 3.5 + named, "decision"
    if closing and sentence_scoring.is_done(text):
        return 4.5 + named, "outcome"
    if sentence_scoring.finding_in(text):
        return 2.8 + named, "fact"
    return (1.8 + named if closing else 0.8 + named), ("outcome" if closing else "fact")


def _closings(section: Section) -> set[int]:
    """Turns in which the assistant ends an answer: its last words before the user speaks, and the section's last."""
    found: set[int] = set()
    last: Said | None = None
    for said in section.said:
        if said.role == "user" and last is not None:
            found.add(last.index)
        if said.role == "assistant" and not said.thought:
            last = said
    if last is not None and last.index >= section.end - 1:
        found.add(last.index)
    return found


def _files(calls: Sequence[Call]) -> Iterator[Offer]:
    changed: dict[str, list[str]] = {}
    last = first = 0
    for call in calls:
        if call.deed == "edit" and call.file:
            names = changed.setdefault(call.file, [])
            names += [name for name in call.defined if name not in names]
            first, last = first or call.index, call.index
    if changed:
        parts = [f"{file} ({', '.join(names[:5])})" if names else file for file, names in list(changed.items())[:6]]
        yield _offer(5.5, "file", last, "assistant", "Edited " + ", ".join(parts), 5)
    read = list(
        dict.fromkeys(call.file for call in calls if call.deed == "read" and call.file not in changed and call.file)
    )
    if len(read) > 1 and not changed:
        at = next(call.index for call in calls if call.file == read[0])
        yield _offer(2.0, "file", at, "assistant", "Read " + ", ".join(read[:6]), 5)


def _planned(calls: Sequence[Call]) -> Iterator[Offer]:
    """Tasks that were written down or handed to a sub-agent, by their subjects."""
    for about in dict.fromkeys(call.about for call in calls if call.deed in ("plan", "delegate") and " " in call.about):
        call = next(call for call in calls if call.about == about)
        yield _offer(2.4, "fact", call.index, "assistant", about.strip().split("\n", 1)[0], 4)


def _intents(section: Section) -> Iterator[Offer]:
    """What the assistant set out to do: said only where the section has nothing better."""
    for said in section.said:
        for rank, text in enumerate(said.sentences[:10] if said.role == "assistant" else ()):
            if len(text) >= 20 and not text.endswith("?"):
                yield _offer(
                    1.0 + 0.5 * len(code_names(text[:300])[:3]), "fact", said.index, "assistant", text.rstrip(":"), rank
                )


def _landed(section: Section) -> Iterator[Offer]:
    for report in section.reports:
        for text in report.landed[:3]:
            yield _offer(6.0, "outcome", report.index, "tool", text, 3)
        if report.outcome and report.call and report.call.command:
            yield _offer(
                2.4, "outcome", report.index, "tool", f"`{shorten(report.call.command, 60)}`: {report.outcome}", 3
            )


def _talk(section: Section) -> Iterator[Offer]:
    for said, rank, text, value in section.facts:
        if value >= (1.0 if section.is_dialogue else 2.0):
            yield _offer(
                value, "fact", said.index, said.role, _prefixed(said, section, sentence_scoring.told(text)), 2 + rank
            )
    if not section.is_dialogue:
        for said in section.said:
            if said.role == "assistant" and (heads := _heads(said.words)):
                yield _offer(2.2 + 0.1 * min(len(heads), 6), "fact", said.index, "assistant", "; ".join(heads), 1)


def _heads(words: str) -> list[str]:
    """What an answer lists, each item by its first words."""
    found = [one_line(head).strip('."“” ') for head in _LIST_HEAD.findall(words)]
    heads = [head for head in dict.fromkeys(found) if len(head.split()) <= 7]
    return heads[:10] if len(heads) >= 3 else []


def _prefixed(said: Said, section: Section, text: str) -> str:
    return f"{said.speaker}: {text}" if section.is_dialogue and said.speaker else text
