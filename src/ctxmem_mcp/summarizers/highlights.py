"""The highlights of a leaf's summary: everything worth a line becomes a candidate with a value; the best are selected.

An error and its ending are one candidate, so they are selected or dropped together and stay adjacent. Pure.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ctxmem_mcp.models import Highlight, HighlightKind
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import requests, sentence_scores
from ctxmem_mcp.summarizers.base import CHOICE_ARROW
from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.identifiers import find_code_names
from ctxmem_mcp.summarizers.lead_ins import is_narration, strip_lead_in
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Message, one_line, shorten, tidy_end, width
from ctxmem_mcp.summarizers.statement_ranker import RatedStatement
from ctxmem_mcp.summarizers.statements import Statement
from ctxmem_mcp.summarizers.title_faults import lost_its_end
from ctxmem_mcp.summarizers.tool_calls import ToolCall
from ctxmem_mcp.text import tokenizer

LINE_CHARS = 170
CHARS_PER_TOKEN = 4
# Statements that become lines; the others (requests, commits, errors, files) are candidates of their own.
_STATED = frozenset(("closing", "before_edit", "before_call", "text", "thought", "recap", "plan"))
# The user's rejections and corrections are always candidates: they are asked for later whatever the section is about.
_OBJECTIONS = frozenset(("refusal", "correction"))
_OBJECTION_VALUE = 8.0
# More lines than these have no room in any summary.
_STATEMENTS_MAX = 14
_LINE_VALUE_MIN, _LINE_VALUE_SCALE = 0.08, 14.0
_WORD = lazy_regex(r"[\w'-]{3,}")
_LIST_HEAD = lazy_regex(
    r"^[^\S\n]*(?:\d{1,2}[.)]|[-*•])\s+(?:\*\*)?([^:*\n]{3,60}?)(?:\*\*)?\s*(?::|\s[–—-]\s|$|\*\*)", re.M
)


@dataclass(frozen=True, slots=True)
class Candidate:
    """Highlights that are selected or dropped as one.

    Attributes:
        value: How much it is worth, before its cost is considered.
        position: Turn index and rank within the turn, by which selected candidates are ordered.
    """

    value: float
    position: tuple[int, int]
    lines: tuple[Highlight, ...]

    @property
    def estimated_cost(self) -> int:
        """About the tokens it takes, for ranking: counting those of all candidates takes as long as rating them."""
        return sum(len(line.text) // CHARS_PER_TOKEN + 1 for line in self.lines)

    @property
    def cost(self) -> int:
        """Tokens it takes in a summary."""
        return sum(_count_tokens(line.text) + 1 for line in self.lines)


# Cached because a highlight is a candidate again in each ancestor of its leaf.
_count_tokens = functools.lru_cache(maxsize=1024)(tokenizer.count)


def highlight_budget(section: Section, outcomes: Sequence[ErrorOutcome]) -> int:
    """Returns the tokens that a leaf's highlights may take.

    Conversation between people is denser than the rest and gets more in proportion. A section with tool calls gets
    enough for five or six statements, and each of the first two errors adds room for its ending.
    """
    if not section.is_work:
        percent = 8 if section.is_dialogue else 5
        return max(36, min(140, 28 + section.tokens * percent // 100))
    least = min(130, section.tokens // 5)
    return max(36, min(210, least + 15 * min(2, len(outcomes)) + section.tokens * 3 // 100))


def find_candidates(
    section: Section, outcomes: Sequence[ErrorOutcome], preceding: Message | None, statements: Sequence[RatedStatement]
) -> list[Candidate]:
    """Returns everything in a section that is worth a highlight.

    Args:
        section: The parsed leaf.
        outcomes: Its errors and how each ended.
        preceding: The assistant's last message before the section, which a short answer in it may refer to.
        statements: Its rated statements, if it contains tool calls.
    """
    candidates = [*_request_candidates(section, preceding), *_error_candidates(outcomes)]
    if not section.is_work:
        return [*candidates, *_talk_candidates(section)]
    candidates += _statement_candidates(statements, {outcome.ending for outcome in outcomes})
    candidates += _file_candidates(section.calls)
    candidates += _commit_candidates(section)
    candidates += _plan_candidates(section.calls)
    return candidates or list(_intent_candidates(section))


def select_best(candidates: Iterable[Candidate], token_budget: int) -> tuple[Highlight, ...]:
    """Returns the most valuable candidates that fit the budget, in turn order, without near-duplicates.

    Candidates are taken by value per square root of cost. The first may exceed the budget by 8 tokens. One that shares
    more than 70% of its words with those already selected is skipped.
    """
    remaining, covered = token_budget, set[str]()
    selected: list[Candidate] = []
    ranked = sorted(candidates, key=lambda c: (-c.value / math.sqrt(8 + c.estimated_cost), c.position))
    for candidate in ranked:
        cost = candidate.cost
        if cost > remaining + (8 if not selected else 0):
            continue
        words = {word.lower() for line in candidate.lines for word in _WORD.findall(line.text)}
        if words and len(words & covered) > 0.7 * len(words):
            continue
        selected.append(candidate)
        covered |= words
        remaining -= cost
    return tuple(line for candidate in sorted(selected, key=lambda c: c.position) for line in candidate.lines)


def make_highlight(kind: HighlightKind, index: int, role: str, text: str, limit: int = LINE_CHARS) -> Highlight:
    """Builds a highlight of one line of at most `limit` characters."""
    return Highlight(kind, index, role, tidy_end(shorten(one_line(text), limit)))  # type: ignore[arg-type]


def _candidate(value: float, kind: HighlightKind, index: int, role: str, text: str, rank: int = 0) -> Candidate:
    return Candidate(value, (index, rank), (make_highlight(kind, index, role, text),))


def _request_candidates(section: Section, preceding: Message | None) -> Iterator[Candidate]:
    seen: set[str] = set()
    by_index = {message.index: message for message in section.messages}
    for request in section.requests:
        message = by_index[request.index]
        question = requests.last_assistant_message(section.messages, request.index) or preceding
        is_answer = request.is_weak and message.origin == "text"
        if is_answer and (choice := requests.find_choice(" ".join(message.sentences), question)):
            text = f"{shorten(message.sentences[0], 40)}{CHOICE_ARROW}{choice}"
            yield _candidate(6.0, "decision", request.index, "user", text)
        elif not request.is_weak and request.core not in seen:
            seen.add(request.core)
            yield _candidate(9.0 if section.is_work else 3.8, "request", request.index, message.role, request.core)
        if section.is_work:
            yield from _rule_candidates(message, request.sentence)


def _rule_candidates(message: Message, request_sentence: str) -> Iterator[Candidate]:
    """The constraints and decisions in a user's message, without its request."""
    for text in message.sentences[:20]:
        if (
            text != request_sentence
            and width(text) > 15
            and sentence_scores.states_rule(text)
            and not requests.is_weak(text)
        ):
            yield _candidate(5.5, "decision", message.index, "user", requests.strip_politeness(text), 1)


def _error_candidates(outcomes: Sequence[ErrorOutcome]) -> Iterator[Candidate]:
    for number, outcome in enumerate(outcomes):
        shown = outcome.errors[:2]
        lines = [make_highlight("error", error.index, outcome.role, error.text, 150) for error in shown]
        if outcome.ending:
            lines.append(make_highlight("ending", outcome.ended_at, outcome.ended_by, outcome.ending, 110))
        value = (12.0 - 0.6 * min(number, 5)) * outcome.weight
        yield Candidate(value, (shown[0].index, 0), tuple(lines))
        for error in outcome.errors[2:6]:
            yield _candidate(5.0 * outcome.weight, "error", error.index, outcome.role, error.text, -1)


def _statement_candidates(statements: Sequence[RatedStatement], endings: set[str]) -> Iterator[Candidate]:
    """What the assistant said and what the user said in refusing a call, except what is already an error's ending."""
    for rated in statements:
        statement = rated.statement
        if statement.source in _OBJECTIONS:
            yield _candidate(_OBJECTION_VALUE, "decision", statement.index, statement.role, statement.text, 1)
    for rated in sorted(statements, key=lambda rated: -rated.line_value)[:_STATEMENTS_MAX]:
        statement = rated.statement
        if statement.place < 0 or statement.source not in _STATED or rated.line_value < _LINE_VALUE_MIN:
            continue
        if statement.opens_list and lost_its_end(statement.text):
            continue
        if statement.text not in endings and statement.text.split(": ", 1)[0] not in endings:
            value = _LINE_VALUE_SCALE * rated.line_value
            yield _candidate(
                value, _kind_of(statement), statement.index, statement.role, statement.text, 2 + statement.rank
            )


def _kind_of(statement: Statement) -> HighlightKind:
    if statement.source == "plan":
        return "request"
    if statement.source == "thought":
        return "fact"  # what is only thought is not decided
    if sentence_scores.states_choice(statement.text):
        return "decision"
    is_done = statement.source == "closing" and sentence_scores.states_completion(statement.text)
    return "outcome" if is_done and not statement.announces else "fact"


def rate_work_sentence(text: str, closing: bool) -> tuple[float, HighlightKind]:
    """Rates an assistant's sentence in a section with tool calls.

    Args:
        text: The sentence.
        closing: Whether its message ends the assistant's answer.

    Returns:
        Its value as a highlight (0 for questions, intentions and filler), and the kind of highlight it would be.
    """
    if (
        width(text) < 20
        or text.endswith((*sentence_scores.QUESTION_MARKS, ":", "："))
        or sentence_scores.states_intent(text)
        or sentence_scores.is_filler(text)
    ):
        return 0.0, "fact"
    bonus = min(3, len(find_code_names(text[:300]))) * 0.5 + (0.3 if "`" in text else 0.0)
    bonus += 0.4 if text.endswith((".", "!", "。", "！")) else -0.6
    if sentence_scores.states_choice(text):
        return 3.5 + bonus, "decision"
    if closing and sentence_scores.states_completion(text):
        return 4.5 + bonus, "outcome"
    if sentence_scores.states_finding(text):
        return 2.8 + bonus, "fact"
    return (1.8 + bonus if closing else 0.8 + bonus), ("outcome" if closing else "fact")


def _file_candidates(calls: Sequence[ToolCall]) -> Iterator[Candidate]:
    """The files that were edited, with the names defined in them; the files that were read if none was edited."""
    edited: dict[str, list[str]] = {}
    last = 0
    for call in calls:
        if call.kind == "edit" and call.file_name:
            names = edited.setdefault(call.file_name, [])
            names += [name for name in call.defined_names if name not in names]
            last = call.index
    if edited:
        parts = [f"{file} ({', '.join(names[:5])})" if names else file for file, names in list(edited.items())[:6]]
        yield _candidate(5.5, "file", last, "assistant", "Edited " + ", ".join(parts), 5)
        return
    read = list(dict.fromkeys(call.file_name for call in calls if call.kind == "read" and call.file_name))
    if len(read) > 1:
        first = next(call.index for call in calls if call.file_name == read[0])
        yield _candidate(2.0, "file", first, "assistant", "Read " + ", ".join(read[:6]), 5)


def _plan_candidates(calls: Sequence[ToolCall]) -> Iterator[Candidate]:
    """Tasks that were planned or delegated to a sub-agent, by their subjects."""
    subjects = [call.subject for call in calls if call.kind in ("plan", "delegate") and " " in call.subject]
    for subject in dict.fromkeys(subjects):
        first = next(call.index for call in calls if call.subject == subject)
        yield _candidate(2.4, "fact", first, "assistant", subject.strip().split("\n", 1)[0], 4)


def _intent_candidates(section: Section) -> Iterator[Candidate]:
    """What the assistant intended to do; used only if the section offers nothing better."""
    for message in section.messages:
        for rank, text in enumerate(message.sentences[:10] if message.role == "assistant" else ()):
            stripped = strip_lead_in(text)
            if len(stripped.text) >= 20 and not text.endswith("?") and not is_narration(stripped):
                value = 1.0 + 0.5 * len(find_code_names(text[:300])[:3])
                yield _candidate(value, "fact", message.index, "assistant", stripped.text, rank)


def _commit_candidates(section: Section) -> Iterator[Candidate]:
    """Commits, pull requests and successful runs that tool results report."""
    for result in section.results:
        for text in result.commits[:3]:
            yield _candidate(6.0, "outcome", result.index, "tool", text, 3)
        if result.success_line and result.call and result.call.command:
            text = f"`{shorten(result.call.command, 60)}`: {result.success_line}"
            yield _candidate(2.4, "outcome", result.index, "tool", text, 3)


def _talk_candidates(section: Section) -> Iterator[Candidate]:
    """Informative sentences of a section without tool calls, and what its answers list."""
    for message, position, text, score in section.scored_sentences:
        if score >= (1.0 if section.is_dialogue else 2.0):
            statement = _with_speaker(message, section, sentence_scores.strip_opener(text))
            yield _candidate(score, "fact", message.index, message.role, statement, 2 + position)
    if section.is_dialogue:
        return
    for message in section.messages:
        if message.role == "assistant" and (heads := _list_heads(message.text)):
            value = 2.2 + 0.1 * min(len(heads), 6)
            yield _candidate(value, "fact", message.index, "assistant", "; ".join(heads), 1)


def _list_heads(text: str) -> list[str]:
    """The first words of each item of a list; empty for fewer than three items."""
    found = [one_line(head).strip('."“” ') for head in _LIST_HEAD.findall(text)]
    heads = [head for head in dict.fromkeys(found) if len(head.split()) <= 7]
    return heads[:10] if len(heads) >= 3 else []


def _with_speaker(message: Message, section: Section, text: str) -> str:
    return f"{message.speaker}: {text}" if section.is_dialogue and message.speaker else text
