"""A leaf's title, as a person would have written it. Pure.

Dialogue between people    the most informative sentence    Caroline: I went to a support group yesterday
Else, the first of         the error it is about            Error: "exceeds the character limit"
                           the user's request               Move clean under `entire sessions`
                           what the assistant did           Editing hook_registry.go; tests pass
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import requests, sentence_scores
from ctxmem_mcp.summarizers.base import CALLS_OF, FALLBACK_TITLE, RUNNING, UNRESOLVED
from ctxmem_mcp.summarizers.error_outcomes import ErrorOutcome
from ctxmem_mcp.summarizers.headlines import as_title, makes_title
from ctxmem_mcp.summarizers.highlights import rate_work_sentence
from ctxmem_mcp.summarizers.requests import Request
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Message, Origin, one_line, shorten
from ctxmem_mcp.summarizers.title_options import TITLE_CHARS
from ctxmem_mcp.summarizers.tool_calls import ToolCall

_ORIGIN_LABELS: dict[Origin, str] = {"skill": "Skill ", "shell": "Ran ", "command": ""}
_ABOUT_ERROR = lazy_regex(
    r"\b(?:errors?|fail(?:s|ed|ing|ure)?|broken|breaks?|crash\w*|exception|traceback|bug|warning|red|"
    r"doesn'?t work|not working)\b",
    re.I,
)
_QUOTED = lazy_regex(r"[\"“']([^\"”'\n]{6,60})[\"”']")
_MESSAGE = lazy_regex(
    r"(?:[\w.]*(?:Error|Exception)|error(?: TS\d+|\[\w+\])?|fatal|panic|FAILED \S+ -|\S+:\d+(?::\d+)?):?\s+(.+)"
)


def title_of(
    section: Section,
    outcomes: Sequence[ErrorOutcome],
    preceding: Message | None,
    best_statement: str = "",
) -> str:
    """Returns the title of a leaf: at most 60 characters, never empty.

    Args:
        section: The parsed leaf.
        outcomes: Its errors and how each ended.
        preceding: The assistant's last message before the section, which a short answer in it may refer to.
        best_statement: The best title that one of its statements makes, if it contains tool calls.
    """
    clear = [r for r in section.requests if not r.is_weak and makes_title(shorten(r.core, TITLE_CHARS), r.core)]
    if section.is_dialogue:
        return _dialogue_title(section) or _first_sentence(section)
    if section.is_work and (error := _error_title(section, clear, outcomes)):
        return error
    if best_statement:
        return best_statement
    if clear:
        return shorten(_main_request(section, clear).core, TITLE_CHARS)
    return _title_without_request(section, outcomes, preceding)


def _title_without_request(section: Section, outcomes: Sequence[ErrorOutcome], preceding: Message | None) -> str:
    if section.calls:
        return _work_title(section, outcomes)
    for request in section.requests:
        question = requests.last_assistant_message(section.messages, request.index) or preceding
        choice = requests.find_choice(request.sentence, question)
        action = requests.strip_politeness(requests.proposed_action(choice))
        if action and makes_title(title := as_title(action, TITLE_CHARS), action):
            return title
    if finding := _best_finding(section):
        return shorten(finding, TITLE_CHARS)
    if any(message.origin == "recap" for message in section.messages):
        return "Recap of the conversation before"
    return _first_sentence(section)


def _main_request(section: Section, candidates: list[Request]) -> Request:
    """The request that most of the section answers, weighed against how clear it is."""
    starts = [request.index for request in candidates] + [section.last_index + 1]
    sizes = dict.fromkeys(starts, 0)
    for index, size in section.turn_sizes:
        started = [start for start in starts if start <= index]
        if started:
            sizes[started[-1]] += size
    total = max(1, section.tokens)
    return max(candidates, key=lambda request: (request.weight + 4.0 * sizes[request.index] / total, -request.index))


def _error_title(section: Section, clear: list[Request], outcomes: Sequence[ErrorOutcome]) -> str:
    """A title if the first request is about an error or contains a pasted one; else empty."""
    serious = [outcome for outcome in outcomes if outcome.weight >= 1.0]
    first = clear[0] if clear else None
    message = next((message for message in section.messages if first and message.index == first.index), None)
    if message is None:
        return ""
    pasted = next(
        (outcome for outcome in serious if outcome.role == "user" and outcome.errors[0].index == message.index), None
    )
    if not pasted and not _ABOUT_ERROR.search(" ".join(message.sentences[:3])):
        return ""
    texts = [error.text for outcome in ([pasted] if pasted else serious[:2]) for error in outcome.errors]
    for phrase in _QUOTED.findall(" ".join(message.sentences[:6])):
        if any(phrase in text for text in texts) or any(phrase in text for text in message.pasted_text.split("\n")):
            return f'Error: "{phrase}"'[:TITLE_CHARS]
    return f'Error: "{shorten(_error_message(texts[0]), TITLE_CHARS - 9)}"' if pasted else ""


def _error_message(text: str) -> str:
    found = _MESSAGE.search(text)
    return (found[1] if found else text).replace('"', "'").rstrip(".")


def _dialogue_title(section: Section) -> str:
    """The most informative sentence of a dialogue, with its speaker."""
    best, speaker, score = "", "", 0.0
    for message, _, text, value in section.scored_sentences:
        value -= 0.02 * max(0, len(text) - 50)
        if value > score:
            best, speaker, score = text, message.speaker, value
    text = sentence_scores.strip_opener(best).split(" [image")[0]
    return f"{speaker}: {shorten(text, TITLE_CHARS - len(speaker) - 2)}" if text and len(speaker) < 30 else ""


def _first_sentence(section: Section) -> str:
    """The first sentence that is more than an assent or an intention; else the first command, shell line or skill."""
    for message in section.messages:
        if message.origin in ("host", "skill", "shell"):
            continue
        for text in message.sentences:
            if (
                not requests.is_weak(text)
                and not sentence_scores.states_intent(text)
                and not (message.role == "assistant" and text.endswith(sentence_scores.QUESTION_MARKS))
                and makes_title(shorten(text, TITLE_CHARS), text)
            ):
                return shorten(requests.strip_politeness(text), TITLE_CHARS)
    for message in section.messages:
        if message.origin in _ORIGIN_LABELS and message.sentences:
            return shorten(_ORIGIN_LABELS[message.origin] + message.sentences[0], TITLE_CHARS)
    return FALLBACK_TITLE


def _work_title(section: Section, outcomes: Sequence[ErrorOutcome]) -> str:
    edited = _files_by_use(section.calls, "edit")
    if edited:
        text = "Editing " + " and ".join(edited[:2]) + _defined_names(section.calls, edited)
    elif finding := _best_finding(section):
        return shorten(finding, TITLE_CHARS)
    elif read := _files_by_use(section.calls, "read"):
        text = "Reading " + " and ".join(read[:2])
    else:
        text = _command_title(section)
    state = _work_state(section, outcomes)
    if state and len(text) + len(state) + 2 <= TITLE_CHARS:
        text = f"{text}; {state}"
    return shorten(text, TITLE_CHARS)


def _defined_names(calls: Sequence[ToolCall], edited: list[str]) -> str:
    """' (handlePreTask, handlePostTask)' if only one file was edited; as many names as fit."""
    if len(edited) > 1:
        return ""
    names = list(dict.fromkeys(name for call in calls if call.kind == "edit" for name in call.defined_names))
    remaining = TITLE_CHARS - len("Editing ()  ") - len(edited[0])
    selected: list[str] = []
    for name in names[:6]:
        if len(", ".join([*selected, name])) <= remaining:
            selected.append(name)
    return f" ({', '.join(selected)})" if selected else ""


def _files_by_use(calls: Sequence[ToolCall], kind: str) -> list[str]:
    """The files of calls of that kind, most frequent first."""
    counts: dict[str, int] = {}
    for call in calls:
        if call.kind == kind and call.file_name:
            counts[call.file_name] = counts.get(call.file_name, 0) + 1
    return sorted(counts, key=lambda file: -counts[file])


def _work_state(section: Section, outcomes: Sequence[ErrorOutcome]) -> str:
    if any(outcome.ending == UNRESOLVED for outcome in outcomes):
        return "errors open"
    if any(result.commits for result in section.results):
        return "committed"
    return "tests pass" if any(_tests_passed(result.success_line) for result in section.results) else ""


def _tests_passed(success_line: str) -> bool:
    return "pass" in success_line.lower() or success_line.startswith("ok")


def _best_finding(section: Section) -> str:
    """The assistant's best sentence about its findings or actions; empty if there is none."""
    best, score = "", 2.0
    for message in section.messages:
        if message.role == "assistant" and message.origin == "text":
            for text in message.sentences[:12]:
                value = rate_work_sentence(text, closing=True)[0] - 0.01 * len(text)
                if value > score:
                    best, score = text, value
    return requests.strip_politeness(sentence_scores.strip_opener(best)) if best else ""


def _command_title(section: Section) -> str:
    for call in section.calls:
        if call.command and call.subject:
            return shorten(one_line(call.subject), TITLE_CHARS)
        if call.command:
            return f"{RUNNING}{shorten(one_line(call.command), 46)}`"
    for call in section.calls:
        if call.subject:
            subject = shorten(one_line(call.subject), 44)
            return f"Searching for `{subject}`" if call.kind == "find" else subject
    title = _first_sentence(section)
    if title != FALLBACK_TITLE:
        return title
    tools = list(dict.fromkeys(one_line(call.tool) for call in section.calls if call.tool))
    return shorten(f"{CALLS_OF}{' and '.join(tools[:2]) or 'tools'}", TITLE_CHARS)
