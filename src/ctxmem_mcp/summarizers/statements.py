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
from ctxmem_mcp.summarizers import requests, sentence_scoring
from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.requests import Request
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Message, one_line, shorten

Source = Literal[
    "request", "user", "refusal", "plan", "closing", "before_edit", "before_call", "text", "thought", "commit", "task",
    "call", "recap", "error", "edit", "title", "decision", "ending", "file", "fact", "outcome",
]  # fmt: skip

# Sentences read of one message: of a long one those at both ends.
_FIRST_SENTENCES, _LAST_SENTENCES = 14, 6
_CHARS_MIN, _CHARS_MAX = 12, 400
_LEAD_IN = re.compile(
    r"\A(?:(?:good|great|perfect|excellent|now|ok(?:ay)?|next|first|then|so|also|but|and|actually|wait|hmm+|i see|"
    r"finally|alright|done|right|interesting|wow|oh|however)\b[\s,.!:–—-]+)*"
    r"(?P<intent>(?:let me|let's|i(?:'ll| will| need to| should| want to| have to|'m going to| am going to|'d like to)|"
    r"we (?:need|have) to|i also need to)\s+(?:(?:also|now|just|first|then|quickly|go ahead and|try to|start by|"
    r"continue by)\s+)*)?",
    re.I,
)
_FINDING_LEAD_IN = re.compile(
    r"\A(?:i (?:can )?(?:now )?(?:see|found|notice|realize)(?: that)?|i(?:'ve| have)(?: now| also)?(?=\s+\w+ed\b)|"
    r"it (?:turns out|seems|looks like)(?: that)?|this (?:means|confirms)(?: that)?)\s+",
    re.I,
)
_USER_LEAD_IN = re.compile(
    r"\A(?:the|this) user (?:is (?=\w+ing)|has |just )?(?:now |also |just )?"
    r"(?P<verb>asking|asked|asks|wants|want|wanted|"
    r"says|said|saying|is right that|points out|pointing out|rejected|approved|confirmed|chose|interrupted)\b(?: me)?",
    re.I,
)
_USER_VERBS = {
    "asking": "asks", "asked": "asks", "want": "wants", "wanted": "wants", "saying": "says", "said": "says",
    "pointing out": "points out",
}  # fmt: skip
# Words that a headline leaves out.
_ARTICLE = re.compile(r"\b(?<![`/.\-])(?:the|an?|our|my|its)\s+(?=[\w`\"(])", re.I)
_FILLER_WORDS = re.compile(
    r"\b(?:also|currently|simply|just|actually|properly|correctly|as well|existing|now|really|basically)\s+", re.I
)
# The label of a conventional commit.
_COMMIT_TYPE = re.compile(r"\A(?:feat|fix|chore|docs|refactor|test|tests|perf|ci|build|style)(?:\([^)\n]*\))?!?:\s*")
_ASIDE = re.compile(r"\s*\([^()]{1,60}\)")

# Texts that are never a title: what was pasted, asked by a program or put in the place of something else.
_NO_TITLE = re.compile(
    r"\A\W{0,3}(?:/|~/|[A-Za-z]:\\|https?://|\[(?![ x]\])|\([A-Z]\)|·|\d+[:.]\d)|https?://\S+\Z|data:\w+/|\[REDACTED|;base64,|"
    r"\A[^\w\s`'\"#(<@.*-]|\A\*\w|\bI'm using \S+ skill\b|"
    r"\AI (?:now )?have (?:a|the) [^.]*\b(?:understanding|picture)\b|"
    r"\A(?:implement|execute) (?:the following|this) plan\W*\Z",
    re.I,
)
_SUBORDINATE = re.compile(
    r"(?:based|since|when|if|while|after|before|given|because|although|as|with|by|for|in)\b", re.I
)
_LETTER_SHARE_MIN = 0.72
# Fewer words say enough only with a name from the code. A script without spaces says much in one.
_WORDS_MIN = 3
_SEVERAL = re.compile(r" |[^\x00-\u024f]")
_CODE = re.compile(r"\w\.\w|`|[a-z][A-Z]|_|[^\x00-\u024f]")
_SECRET_CHARS = 20
_TOKEN = re.compile(
    r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])(?:[A-Za-z0-9+/=]{20,}|(?:sk|pk|ghp|gho|xox[bp]|glpat|npm|hf|AKIA|eyJ)[-_A-Za-z0-9.]{16,}|"
    r"\$\w{1,8}\$\S{12,}|[A-Za-z0-9]+[-_][A-Za-z0-9_-]{24,})"
)


@dataclass(slots=True)
class Statement:
    """Something stated in a section.

    Attributes:
        index, role: Of its turn.
        text: One line, without a lead-in ("Now let me", "I see that").
        place: Where in the section it is, from 0 to 1; below 0 if it stands before the section's border.
        rank: Its number among the sentences of its message; `rank_from_end` counts from the last one.
        announces: Whether it announces what the assistant is about to do.
        weight: How clear a request is.
    """

    source: Source
    index: int
    role: Role
    text: str
    place: float
    rank: int = 0
    rank_from_end: int = 0
    announces: bool = False
    weight: float = 0.0


def find_statements(
    section: Section, outcomes: Sequence[ErrorOutcome], preceding: Sequence[Message] = ()
) -> list[Statement]:
    """Returns the statements of a section, each text once, in order of their source.

    Args:
        section: The parsed leaf.
        outcomes: Its errors and how each ended.
        preceding: Messages just before the section. If it begins with a call, the last one says why.
    """
    found: dict[str, Statement] = {}
    for statement in _all_statements(section, outcomes, preceding):
        if _CHARS_MIN <= len(statement.text) <= _CHARS_MAX:
            found.setdefault(statement.text, statement)
    return list(found.values())


def strip_lead_in(text: str) -> tuple[str, bool]:
    """Returns a sentence without its lead-in, and whether that announced an intention ("Now let me ...")."""
    lead = _LEAD_IN.match(text)
    rest, announces = (text[lead.end() :], lead["intent"] is not None) if lead else (text, False)
    if not announces and (finding := _FINDING_LEAD_IN.match(rest)):
        rest = rest[finding.end() :]
    elif user := _USER_LEAD_IN.match(rest):
        verb = user["verb"].lower()
        rest = f"User {_USER_VERBS.get(verb, verb)}{rest[user.end() :]}"
    return (requests.capitalize(rest), announces) if len(rest) >= _CHARS_MIN else (text, announces)


def makes_title(title: str, text: str) -> bool:
    """Returns whether a text can be a title: no secret, path, URL, pasted output or picture, and no clause cut short.

    Args:
        title: The title.
        text: The text that it was cut from.
    """
    if (len(title.split()) < _WORDS_MIN and not _CODE.search(title)) or not _SEVERAL.search(title):
        return False
    if _NO_TITLE.search(text[:400]) or any(map(_is_secret, title.split())):
        return False
    if len(title) < 0.9 * len(text) and _SUBORDINATE.match(title):
        return False
    return sum(char.isalpha() or char in " `'_" for char in title) >= _LETTER_SHARE_MIN * len(title)


def _is_secret(word: str) -> bool:
    """Whether a word looks like a token, a key, a hash or base64: long, of letters and digits mixed."""
    return len(word) >= _SECRET_CHARS and _TOKEN.fullmatch(word.strip("`'\"(),.;:")) is not None


def headline(text: str) -> str:
    """Returns a statement without what a headline leaves out: articles, asides in brackets, a final mark."""
    text = _ARTICLE.sub("", _FILLER_WORDS.sub("", _ASIDE.sub("", text))).strip(" .:;,!–—-")
    return text[:1].upper() + text[1:] if text.split(" ", 1)[0].isalpha() else text


def as_title(text: str, limit: int) -> str:
    """Returns a statement in at most `limit` characters, without a final mark: whole, or as a headline, or cut."""
    text = text.rstrip(" .:;,!")
    if len(text) <= limit:
        return text
    short = shorten(text, limit)
    return shorten(headline(text), limit) if short.endswith("…") or len(short) < 0.45 * len(text) else short


def _all_statements(
    section: Section, outcomes: Sequence[ErrorOutcome], preceding: Sequence[Message]
) -> Iterator[Statement]:
    first = section.turn_sizes[0][0]
    span = max(1, section.last_index - first)

    def place(index: int) -> float:
        return max(0, index - first) / span

    yield from _of_tools(section, outcomes, place)
    wanted = {request.index: request for request in section.requests if not request.is_weak}
    for message in section.messages:
        if message.role == "user":
            yield from _of_user(message, wanted.get(message.index), place(message.index))
    calls = {call.index: call.kind for call in section.calls}
    for message in section.messages:
        if message.role == "assistant" or message.origin == "recap":
            is_closing = message.index in section.closing_turns
            source: Source = "closing" if is_closing else _source_before(calls, message)
            yield from _of_assistant(message, source, place(message.index))
    if first in calls:
        yield from _before_border(preceding, "before_edit" if calls[first] == "edit" else "before_call")
    yield from _of_calls(section, place)


def _of_tools(section: Section, outcomes: Sequence[ErrorOutcome], place: Callable[[int], float]) -> Iterator[Statement]:
    for result in section.results:
        for text in result.commits:
            subject = _COMMIT_TYPE.sub("", text.split(": ", 1)[-1])
            yield Statement("commit", result.index, "tool", requests.capitalize(subject), place(result.index))
        if result.refusal:
            yield Statement("refusal", result.index, "tool", one_line(result.refusal), place(result.index))
    for outcome in outcomes:
        if outcome.weight >= 1.0:
            for error in outcome.errors[:2]:
                yield Statement("error", error.index, outcome.role, error.text, place(error.index))


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
    if heading := requests.plan_heading(message):
        yield Statement("plan", message.index, "user", heading, place)
    if request is not None:
        yield Statement("request", message.index, "user", request.core, place, weight=request.weight)
    sentences = message.sentences[:_FIRST_SENTENCES]
    for rank, text in enumerate(sentences):
        if (request is None or text != request.sentence) and len(text) > 15 and not requests.is_weak(text):
            core = requests.strip_politeness(text)
            yield Statement("user", message.index, "user", core, place, rank, len(sentences) - rank - 1)


def _of_assistant(message: Message, source: Source, place: float) -> Iterator[Statement]:
    if message.origin not in ("text", "recap"):
        return
    if message.origin == "recap":
        source = "recap"
    sentences = message.sentences
    count = len(sentences)
    for rank, sentence in enumerate(sentences):
        if rank >= _FIRST_SENTENCES and count - rank > _LAST_SENTENCES:
            continue
        if len(sentence) < _CHARS_MIN or sentence.endswith("?") or sentence_scoring.is_filler(sentence):
            continue
        text, announces = strip_lead_in(sentence)
        yield Statement(source, message.index, message.role, text, place, rank, count - rank - 1, announces)


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
