"""The statements of a section with tool calls: everything in it that could be its title or a line of its summary. Pure.

the user        requests, other sentences, the words with which a call was refused, the heading of a pasted plan
the assistant   sentences that close a reply, stand just before a call (also before the section's border), or neither;
                thoughts; subjects of tasks and calls; edited files
tools           subjects of commits, errors
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ctxmem_mcp.models import Role
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import requests, sentence_scores
from ctxmem_mcp.summarizers.base import ASKED, TO_DO
from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.lead_ins import (
    Stripped,
    announced_thing,
    is_narration,
    starts_with_change,
    strip_lead_in,
    wanted_by_user,
)
from ctxmem_mcp.summarizers.request_templates import template_title
from ctxmem_mcp.summarizers.requests import Request
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Message, one_line

Source = Literal[
    "request", "user", "refusal", "plan", "closing", "before_edit", "before_call", "text", "thought", "commit", "task",
    "call", "recap", "error", "edit", "title", "decision", "ending", "file", "fact", "outcome", "correction",
]  # fmt: skip

# Sentences read of one message: of a long one those at both ends.
_FIRST_SENTENCES, _LAST_SENTENCES = 14, 6
_CHARS_MIN, _CHARS_MAX = 12, 400
# Only the statements that promise most are described: describing them takes most of the time of a summary.
_STATEMENTS_MAX = 26
_PROMISE: Mapping[Source, float] = {
    "request": 4.0, "commit": 4.0, "plan": 4.0, "refusal": 4.0, "correction": 4.0, "edit": 3.0, "closing": 1.6,
    "before_edit": 1.5, "user": 1.2, "error": 1.2, "text": 0.9, "task": 0.8, "call": 0.6, "before_call": 0.8,
    "thought": 0.6, "recap": 0.3,
}  # fmt: skip
_CODE_SIGNS = ("`", "_", "()")
# Where there are fewer, what the assistant looked at is stated as well, if it names something.
_STATEMENTS_MIN = 7
# The label of a conventional commit.
_COMMIT_TYPE = lazy_regex(r"\A(?:feat|fix|chore|docs|refactor|test|tests|perf|ci|build|style)(?:\([^)\n]*\))?!?:\s*")


_PARTICIPLE = lazy_regex(r"[A-Z][a-z]+ed\b")
# What a call does with the thing that the sentence before it names ("Now the scroll helpers:").
_VERBS = {"edit": "Edit", "read": "Read", "find": "Find", "run": "Check"}
# An assistant's message that reports on work before its section.
_SESSION_REPORT = lazy_regex(
    r"\b(?:in|during) (?:this|the) (?:\w+ )?session\b|"
    r"\bcompleted (?:both|all|two|three|four|five|\d+) (?:\w+ )?(?:tasks|phases)\b",
    re.I,
)
_REPORTED = lazy_regex(r"(?:✅ )?(?:[A-Z][a-z]+ed|Made|Built|Wrote|Set up)\b")
# A command that closes an item of a tracker: "bd close app-4.3", "gh issue close 12".
_CLOSE = lazy_regex(r"\A(?:bd|br|gh (?:issue|pr)|glab (?:issue|mr)) (?P<verb>close|merge) (?P<item>#?[\w.-]{2,40})")
_REPORT_SENTENCES_MIN = 6
# A section of at most so many calls that only read, without a message, is named after the files.
_READS_MAX = 3


@dataclass(slots=True)
class Statement:
    """Something stated in a section.

    Attributes:
        index, role: Of its turn.
        text: One line, without a lead-in ("Now let me", "I see that").
        place: Where in the section it is, from 0 to 1; below 0 if it stands before the section's border.
        rank: Its number among the sentences of its message; `rank_from_end` counts from the last one.
        announces: Whether it announces what the assistant is about to do.
        opens_list: Whether it ended with a colon and says little without what followed.
        weight: How clear a request is.
        is_narration: Whether it only tells that the assistant looks at something.
        is_pending: Whether nothing in the section follows a request.
        is_settled: Whether something was done about an error after it.
        is_aside: Whether it is a question beside its message's request, or stands before a section that only reads.
        names_only: Whether it only names what a call is about, with the call's verb.
    """

    source: Source
    index: int
    role: Role
    text: str
    place: float
    rank: int = 0
    rank_from_end: int = 0
    announces: bool = False
    opens_list: bool = False
    weight: float = 0.0
    is_narration: bool = False
    is_pending: bool = False
    is_settled: bool = False
    is_aside: bool = False
    names_only: bool = False

    @property
    def may_be_title(self) -> bool:
        """Whether the statement is of its section: a recap tells what happened before, a settled error is past."""
        return self.source != "recap" and not self.is_settled and not self.is_aside

    @property
    def title_text(self) -> str:
        """The text that a title is made of."""
        return ASKED + self.text if self.is_pending else wanted_by_user(self.text) or self.text


def commit_subject(line: str) -> str:
    """'Close files' of 'Committed 1a2b3c4: fix(io): close files'."""
    return requests.capitalize(_COMMIT_TYPE.sub("", line.split(": ", 1)[-1]))


def find_statements(
    section: Section, outcomes: Sequence[ErrorOutcome], preceding: Sequence[Message] = ()
) -> list[Statement]:
    """Returns the most promising statements of a section, each text once, in order of their source.

    Args:
        section: The parsed leaf.
        outcomes: Its errors and how each ended.
        preceding: Messages just before the section. If it begins with a call, the last one says why.
    """
    found: dict[str, Statement] = {}
    narration: dict[str, Statement] = {}
    for statement in _all_statements(section, outcomes, preceding):
        if _CHARS_MIN <= len(statement.text) <= _CHARS_MAX:
            (narration if statement.is_narration else found).setdefault(statement.text, statement)
    if len(found) < _STATEMENTS_MIN:
        named = (text for text in narration if text not in found and any(map(text.__contains__, _CODE_SIGNS)))
        found |= {text: narration[text] for text in [*named][: _STATEMENTS_MIN - len(found)]}
    if len(found) <= _STATEMENTS_MAX:
        return list(found.values())
    best = sorted(found.values(), key=_promise, reverse=True)[:_STATEMENTS_MAX]
    chosen = {id(statement) for statement in best}
    return [statement for statement in found.values() if id(statement) in chosen]


def _promise(statement: Statement) -> float:
    """A rough estimate of what a statement is worth, in a fraction of the time that its features take."""
    text = statement.text
    return (
        _PROMISE.get(statement.source, 0.5)
        + 0.4 * (statement.rank == 0)
        + 0.3 * (statement.rank_from_end == 0)
        + 0.3 * any(map(text.__contains__, _CODE_SIGNS))
        - 0.1 * min(statement.rank, 6)
        - 0.6 * statement.announces
        - 0.5 * (len(text) < 25)
    )


def _all_statements(
    section: Section, outcomes: Sequence[ErrorOutcome], preceding: Sequence[Message]
) -> Iterator[Statement]:
    first = section.turn_sizes[0][0]
    span = max(1, section.last_index - first)

    def place(index: int) -> float:
        return max(0, index - first) / span

    yield from _of_tools(section, outcomes, place)
    last_act = max((call.index for call in section.calls), default=-1)
    last_act = max(last_act, *(m.index for m in section.messages if m.role == "assistant"), -1)
    last_edit = max((call.index for call in section.calls if call.kind == "edit"), default=-1)
    wanted = {request.index: request for request in section.requests if not request.is_weak}
    for message in section.messages:
        if message.role == "user":
            for statement in _of_user(message, wanted.get(message.index), place(message.index)):
                statement.is_pending = statement.source == "request" and message.index > last_act
                yield statement
    calls = {call.index: call.kind for call in section.calls}
    yield from _of_messages(section, calls, place, last_edit)
    if first in calls:
        is_aside = _only_reads(section)
        for statement in _before_border(preceding, "before_edit" if calls[first] == "edit" else "before_call"):
            statement.is_aside = is_aside
            yield statement
    yield from _of_calls(section, place)


def _of_messages(
    section: Section, calls: Mapping[int, str], place: Callable[[int], float], last_edit: int
) -> Iterator[Statement]:
    """The statements of the assistant's messages; a report on the session is none of this section's."""
    only_reports = _only_reports(section)
    if only_reports:
        yield from _closed_items(section, place)
    for message in section.messages:
        if message.role == "assistant" or message.origin == "recap":
            is_closing = message.index in section.closing_turns
            source: Source = "closing" if is_closing else _source_before(calls, message)
            verb = _VERBS.get(calls.get(message.index + 1, ""), "")
            for statement in _of_assistant(message, source, place(message.index), message.index <= last_edit, verb):
                if only_reports and (statement.source == "closing" or _REPORTED.match(statement.text)):
                    statement.source = "recap"
                yield statement


def _closed_items(section: Section, place: Callable[[int], float]) -> Iterator[Statement]:
    for call in section.calls:
        if act := _CLOSE.match(call.command):
            text = f"{act['verb'].capitalize()} {act['item']}"
            yield Statement("task", call.index, "assistant", text, place(call.index))


def _only_reports(section: Section) -> bool:
    """Whether a section changes nothing, and its end reports on the session: the deeds it lists were done before."""
    if any(call.kind in ("edit", "delegate") for call in section.calls) or any(r.commits for r in section.results):
        return False
    closings = [m for m in section.messages if m.role == "assistant" and m.index in section.closing_turns]
    return any(len(m.sentences) >= _REPORT_SENTENCES_MIN and _SESSION_REPORT.search(m.text) for m in closings)


def _only_reads(section: Section) -> bool:
    """Whether a section holds only a few calls that read files: what was found before it was not found there."""
    calls = section.calls
    return not section.messages and len(calls) <= _READS_MAX and all(c.kind == "read" and c.file_name for c in calls)


def _of_tools(section: Section, outcomes: Sequence[ErrorOutcome], place: Callable[[int], float]) -> Iterator[Statement]:
    for result in section.results:
        for text in () if result.call is not None and result.call.is_scratch else result.commits:
            yield Statement("commit", result.index, "tool", commit_subject(text), place(result.index))
        if result.refusal:
            yield Statement("refusal", result.index, "tool", one_line(result.refusal), place(result.index))
    last_edit = max((call.index for call in section.calls if call.kind == "edit"), default=-1)
    for outcome in outcomes:
        if outcome.weight >= 1.0:
            for error in outcome.errors[:2]:
                is_settled = outcome.is_resolved or error.index < last_edit
                yield Statement(
                    "error", error.index, outcome.role, error.text, place(error.index), is_settled=is_settled
                )


def _before_border(preceding: Sequence[Message], source: Source) -> Iterator[Statement]:
    """The last two sentences of each message before a section that begins with a call: they say why."""
    for message in preceding:
        yield from (s for s in _of_assistant(message, source, -1.0) if s.rank_from_end < 2)


def _source_before(calls: Mapping[int, str], message: Message) -> Source:
    """What an assistant's message within a reply is: what follows it decides."""
    if message.is_reasoning:
        return "thought"
    kind = calls.get(message.index + 1)
    return "text" if kind is None else "before_edit" if kind == "edit" else "before_call"


def _of_user(message: Message, request: Request | None, place: float) -> Iterator[Statement]:
    if message.origin != "text":
        return
    if heading := template_title(message.text):
        yield Statement("plan", message.index, "user", heading, place)
    if request is not None:
        yield Statement("request", message.index, "user", request.core, place, weight=request.weight)
    sentences = message.sentences[:_FIRST_SENTENCES]
    for rank, text in enumerate(sentences):
        if (request is None or text != request.sentence) and len(text) > 15 and not requests.is_weak(text):
            core = requests.strip_politeness(text)
            source: Source = "correction" if sentence_scores.states_correction(text) else "user"
            is_aside = request is not None and not request.is_weak and text.endswith("?") and source == "user"
            yield Statement(
                source, message.index, "user", core, place, rank, len(sentences) - rank - 1, is_aside=is_aside
            )


def _of_assistant(
    message: Message, source: Source, place: float, is_done: bool = True, verb: str = ""
) -> Iterator[Statement]:
    """The statements of an assistant's message.

    Args:
        is_done: Whether an intention was carried out: an edit follows it.
        verb: What the call after the message does, else ''.
    """
    if message.origin not in ("text", "recap"):
        return
    if message.origin == "recap":
        source = "recap"
    sentences = message.sentences
    count = len(sentences)
    for rank, sentence in enumerate(sentences):
        if rank >= _FIRST_SENTENCES and count - rank > _LAST_SENTENCES:
            continue
        if len(sentence) < _CHARS_MIN or sentence.endswith("?") or sentence_scores.is_filler(sentence):
            continue
        thing = announced_thing(sentence) if verb else ""
        stripped = Stripped(f"{verb} {thing}", True) if thing else strip_lead_in(sentence)
        text, announces = stripped
        if announces and not is_done and starts_with_change(text):
            text = TO_DO + text
        yield Statement(
            source, message.index, message.role, text, place, rank, count - rank - 1, announces,
            opens_list=sentence.endswith((":", "：")) and not announces and not _names_deed(text),
            is_narration=not thing and is_narration(stripped), names_only=bool(thing),
        )  # fmt: skip


def _names_deed(text: str) -> bool:
    """Whether a sentence begins with what was or is to be done ("Added tests"), so that it needs no list after it."""
    return requests.starts_with_verb(text) or _PARTICIPLE.match(text) is not None


def _of_calls(section: Section, place: Callable[[int], float]) -> Iterator[Statement]:
    edited: dict[str, list[str]] = {}
    last_edit = 0
    for call in section.calls:
        if call.kind == "edit" and call.file_name:
            names = edited.setdefault(call.file_name, [])
            names += [name for name in call.defined_names if name not in names]
            last_edit = call.index
        elif call.subject and call.kind in ("plan", "delegate", "run") and " " in call.subject:
            source: Source = "call" if call.kind == "run" else "task"
            yield Statement(
                source, call.index, "assistant", one_line(call.subject.strip().split("\n", 1)[0]), place(call.index)
            )
    if edited:
        parts = [f"{file} ({', '.join(names[:3])})" if names else file for file, names in list(edited.items())[:2]]
        yield Statement("edit", last_edit, "assistant", "Edited " + " and ".join(parts), place(last_edit))
