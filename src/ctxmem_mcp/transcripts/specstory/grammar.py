"""The grammar of SpecStory's markdown: who speaks from which line on, which lines are a tool's or a thought's block.

The writer escapes nothing, and sessions quote sessions. So a speaker's line counts only outside blocks and not with a
time before the last speaker's (a sub-agent's: before the session began, for they are written when they are done); and
a block ends at a closing line, unless a quoted speaker's line follows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ctxmem_mcp.transcripts.json_lines import instant_of

_SPEAKER = re.compile(
    r"(?:(?P<bold>_\*\*)(?:🤖 )?|### (?:<span[^>]*>)?👤 )(?P<who>User|Agent|Assistant|Recap)(?P<note> - [\w, ]+)?"
    r"(?: \((?P<of>[^)]*)\))?(?(bold)\*\*_|(?:</span>)?)\s*"
)
_OF = re.compile(r"(?:(?P<model>.+) )?(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*)")
TOOL = re.compile(r'<tool-use data-tool-type="[^"]*" data-tool-name="(?P<name>[^"]*)">(?:<details>)?\s*')
THINK = "<think><details><summary>Thought Process</summary>"
CLOSING = {"tool": ("</details></tool-use>", "</tool-use>"), "think": ("</details></think>", "</think>")}
RULE = "---"
# Agents at work side by side are written in order to the second or so.
_OUT_OF_ORDER = timedelta(seconds=5)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Speaker:
    """who: User, Agent, Assistant (an old word for it) or Recap. aside: a sub-agent's side of things."""

    who: str
    aside: bool = False
    model: str | None = None
    said_at: str | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """Lines start..stop (exclusive) of one kind: speaker, text, tool or think. last: a speaker or the end follows."""

    kind: str
    start: int
    stop: int
    speaker: Speaker
    last: bool = False


@dataclass(frozen=True, slots=True)
class _Clock:
    """From when on somebody can speak. aside: the same for sub-agents."""

    main: datetime = _LONG_AGO
    aside: datetime = _LONG_AGO

    def after(self, speaker: Speaker) -> _Clock:
        when = _time(speaker)
        if when is None or speaker.aside:
            return self
        earliest = when - _OUT_OF_ORDER
        return _Clock(max(self.main, earliest), earliest if self.aside == _LONG_AGO else self.aside)


def speaker_in(line: str) -> Speaker | None:
    found = _SPEAKER.fullmatch(line) if line.startswith(("_**", "### ")) else None
    if found is None:
        return None
    of = _OF.fullmatch(found["of"] or "")
    said_at = instant_of(of["time"]) if of else None
    model = of["model"] if of and said_at else found["of"]
    return Speaker(found["who"], (found["note"] or "") == " - sidechain", model, said_at)


def stretches(lines: list[str]) -> Iterator[Stretch]:
    """All lines from the first speaker's on."""
    clock, speaker = _Clock(), Speaker("User")
    at = _next_speaker(lines, 0, clock)
    while at < len(lines):
        kind, stop = "text", at + 1
        if found := _speaking(lines[at], clock):
            kind, speaker, clock = "speaker", found, clock.after(found)
        elif speaker.who != "User" and (block := _block_in(lines[at])):
            kind, stop = block, _end_of_block(lines, at + 1, CLOSING[block], clock)
        else:
            while stop < len(lines) and not _interrupts(lines[stop], speaker, clock):
                stop += 1
        yield Stretch(kind, at, stop, speaker, stop == len(lines) or _speaking(lines[stop], clock) is not None)
        at = stop


def _time(speaker: Speaker) -> datetime | None:
    when = datetime.fromisoformat(speaker.said_at) if speaker.said_at else None
    if when is None or not 1970 <= when.year < 9999:
        return None
    return when if when.tzinfo else when.replace(tzinfo=UTC)


def _speaking(line: str, clock: _Clock) -> Speaker | None:
    """Who speaks from this line on; nobody where the line is quoted."""
    found = speaker_in(line)
    when = _time(found) if found else None
    return None if found and when and when < (clock.aside if found.aside else clock.main) else found


def _interrupts(line: str, speaker: Speaker, clock: _Clock) -> bool:
    return _speaking(line, clock) is not None or (speaker.who != "User" and _block_in(line) is not None)


def _block_in(line: str) -> str | None:
    return "think" if line.startswith(THINK) else "tool" if TOOL.fullmatch(line) else None


def _end_of_block(lines: list[str], start: int, closing: tuple[str, ...], clock: _Clock) -> int:
    """Behind its closing line; where it has none (the file was cut), the next speaker's."""
    for i in range(start, len(lines)):
        if lines[i].startswith(closing) and not _is_quoted(lines, i + 1, clock):
            return i + 1
    return _next_speaker(lines, start, clock)


def _is_quoted(lines: list[str], after: int, clock: _Clock) -> bool:
    line = next((line for line in lines[after : after + 4] if line.strip() and line.strip() != RULE), "")
    return speaker_in(line) is not None and _speaking(line, clock) is None


def _next_speaker(lines: list[str], start: int, clock: _Clock) -> int:
    return next((i for i in range(start, len(lines)) if _speaking(lines[i], clock)), len(lines))
