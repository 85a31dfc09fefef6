"""A section's title, as a person would have written it. Pure.

the error, when the section is about one        Error: "exceeds the character limit"
else what the user asked for                    Move clean under `entire sessions`
else what people talked about                   Caroline: I went to a support group yesterday
else what the assistant worked on               Editing hook_registry.go; tests pass
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ctxmem_mcp.summarizers import requests, sentence_scoring
from ctxmem_mcp.summarizers.base import NOTHING_SAID
from ctxmem_mcp.summarizers.error_outcomes import Episode
from ctxmem_mcp.summarizers.highlights import worth_at_work
from ctxmem_mcp.summarizers.requests import Ask
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import Said, one_line, shorten
from ctxmem_mcp.summarizers.tool_calls import Call

TITLE_CHARS = 60
_ABOUT_ERROR = re.compile(
    r"\b(?:errors?|fail(?:s|ed|ing|ure)?|broken|breaks?|crash\w*|exception|traceback|bug|warning|red|"
    r"doesn'?t work|not working)\b",
    re.I,
)
_QUOTED = re.compile(r"[\"“']([^\"”'\n]{6,60})[\"”']")
_MESSAGE = re.compile(
    r"(?:[\w.]*(?:Error|Exception)|error(?: TS\d+|\[\w+\])?|fatal|panic|FAILED \S+ -|\S+:\d+(?::\d+)?):?\s+(.+)"
)


def title_of(section: Section, episodes: Sequence[Episode], question: Said | None) -> str:
    """At most 60 characters, never empty."""
    strong = [ask for ask in section.asks if not ask.weak]
    if section.is_dialogue:
        return _talked_of(section) or _first_words(section)
    if section.is_work and (error := _error_title(section, strong, episodes)):
        return error
    if strong:
        return shorten(_main(section, strong).core, TITLE_CHARS)
    return _without_request(section, episodes, question)


def _without_request(section: Section, episodes: Sequence[Episode], question: Said | None) -> str:
    if section.calls:
        return _worked_on(section, episodes)
    for ask in section.asks:
        before = requests.last_speech(section.said, ask.index) or question
        if choice := requests.chosen(ask.line, before):
            return shorten(requests.strip_politeness(choice), TITLE_CHARS)
    if finding := _finding(section):
        return shorten(finding, TITLE_CHARS)
    if any(said.origin == "recap" for said in section.said):
        return "Recap of the conversation before"
    return _first_words(section)


def _main(section: Section, asks: list[Ask]) -> Ask:
    """The request that most of the section answers."""
    starts = [ask.index for ask in asks] + [section.end + 1]
    sizes = dict.fromkeys(starts, 0)
    for index, size in section.sizes:
        begun = [start for start in starts if start <= index]
        if begun:
            sizes[begun[-1]] += size
    total = max(1, section.tokens)
    return max(asks, key=lambda ask: (ask.weight + 4.0 * sizes[ask.index] / total, -ask.index))


def _error_title(section: Section, strong: list[Ask], episodes: Sequence[Episode]) -> str:
    """Where the first request is about an error, or the section opens with one that a user pasted."""
    real = [episode for episode in episodes if episode.weight >= 1.0]
    first = strong[0] if strong else None
    told = next((said for said in section.said if first and said.index == first.index), None)
    if told is None:
        return ""
    pasted = next(
        (episode for episode in real if episode.role == "user" and episode.faults[0].index == told.index), None
    )
    if not pasted and not _ABOUT_ERROR.search(" ".join(told.sentences[:3])):
        return ""
    texts = [fault.text for episode in ([pasted] if pasted else real[:2]) for fault in episode.faults]
    spoken = " ".join(told.sentences[:6])
    for phrase in _QUOTED.findall(spoken):
        if any(phrase in text for text in texts) or any(phrase in text for text in told.quoted.split("\n")):
            return f'Error: "{phrase}"'[:TITLE_CHARS]
    return f'Error: "{shorten(_message(texts[0]), TITLE_CHARS - 9)}"' if pasted else ""


def _message(text: str) -> str:
    found = _MESSAGE.search(text)
    return (found[1] if found else text).replace('"', "'").rstrip(".")


def _talked_of(section: Section) -> str:
    """The most telling sentence of a talk, with its speaker."""
    best, speaker, score = "", "", 0.0
    for said, _, text, value in section.facts:
        value -= 0.02 * max(0, len(text) - 50)
        if value > score:
            best, speaker, score = text, said.speaker, value
    text = sentence_scoring.told(best).split(" [image")[0]
    return f"{speaker}: {shorten(text, TITLE_CHARS - len(speaker) - 2)}" if text and len(speaker) < 30 else ""


def _first_words(section: Section) -> str:
    for said in section.said:
        for text in said.sentences:
            if (
                not requests.is_weak(text)
                and not sentence_scoring.is_intent(text)
                and said.origin not in ("host", "skill", "shell")
            ):
                return shorten(requests.strip_politeness(text), TITLE_CHARS)
    for said in section.said:
        if said.origin in ("skill", "shell", "command") and said.sentences:
            return shorten(
                {"skill": "Skill ", "shell": "Ran ", "command": ""}[said.origin] + said.sentences[0], TITLE_CHARS
            )
    return NOTHING_SAID


def _worked_on(section: Section, episodes: Sequence[Episode]) -> str:
    edited = _files(section.calls, "edit")
    if edited:
        text = "Editing " + " and ".join(edited[:2]) + _parts_of(section.calls, edited)
    elif finding := _finding(section):
        return shorten(finding, TITLE_CHARS)
    elif read := _files(section.calls, "read"):
        text = "Reading " + " and ".join(read[:2])
    else:
        text = _ran(section)
    ending = _state(section, episodes)
    if ending and len(text) + len(ending) + 2 <= TITLE_CHARS:
        text = f"{text}; {ending}"
    return shorten(text, TITLE_CHARS)


def _parts_of(calls: Sequence[Call], edited: list[str]) -> str:
    """' (handlePreTask, handlePostTask)' where one file was edited and they fit."""
    if len(edited) > 1:
        return ""
    names = list(dict.fromkeys(name for call in calls if call.deed == "edit" for name in call.defined))
    room = TITLE_CHARS - len("Editing ()  ") - len(edited[0])
    kept: list[str] = []
    for name in names[:6]:
        if len(", ".join([*kept, name])) <= room:
            kept.append(name)
    return f" ({', '.join(kept)})" if kept else ""


def _files(calls: Sequence[Call], deed: str) -> list[str]:
    """The files of that deed, most often named first."""
    counts: dict[str, int] = {}
    for call in calls:
        if call.deed == deed and call.file:
            counts[call.file] = counts.get(call.file, 0) + 1
    return sorted(counts, key=lambda file: -counts[file])


def _state(section: Section, episodes: Sequence[Episode]) -> str:
    if any(episode.weight >= 1.0 and not episode.closed for episode in episodes):
        return "errors open"
    if any(report.landed for report in section.reports):
        return "committed"
    return (
        "tests pass" if any("pass" in r.outcome.lower() or r.outcome.startswith("ok") for r in section.reports) else ""
    )


def _finding(section: Section) -> str:
    """The assistant's best statement: what it found or did."""
    best, score = "", 2.0
    for said in section.said:
        if said.role == "assistant" and said.origin == "words":
            for text in said.sentences[:12]:
                value = worth_at_work(text, closing=True)[0] - 0.01 * len(text)
                if value > score:
                    best, score = text, value
    return requests.strip_politeness(sentence_scoring.told(best)) if best else ""


def _ran(section: Section) -> str:
    for call in section.calls:
        if call.command and call.about:
            return shorten(one_line(call.about), TITLE_CHARS)
        if call.command:
            return f"Running `{shorten(one_line(call.command), 46)}`"
    for call in section.calls:
        if call.about:
            about = shorten(one_line(call.about), 44)
            return f"Searching for `{about}`" if call.deed == "find" else about
    return _first_words(section) if section.said else f"Calls of {one_line(section.calls[0].tool) or 'tools'}"
