"""The grammar of SpecStory's markdown: which lines name a speaker, and which are the block of a tool or a thought.

The writer escapes nothing, and sessions quote sessions. So a speaker's line counts only outside of blocks, and not with
a time before the last speaker's (for a sub-agent: before the session began, because sub-agents are written when they
are done); and a block ends at a closing line, unless a quoted speaker's line follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.transcripts.json_lines import timestamp_or_none

_SPEAKER_LINE = lazy_regex(
    r"(?:(?P<bold>_\*\*)(?:🤖 )?|### (?:<span[^>]*>)?👤 )(?P<label>User|Agent|Assistant|Recap)(?P<note> - [\w, ]+)?"
    r"(?: \((?P<details>[^)]*)\))?(?(bold)\*\*_|(?:</span>)?)\s*"
)
_DETAILS = lazy_regex(r"(?:(?P<model>.+) )?(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S*)")
TOOL_START = lazy_regex(r'<tool-use data-tool-type="[^"]*" data-tool-name="(?P<name>[^"]*)">(?:<details>)?\s*')
THOUGHT_START = "<think><details><summary>Thought Process</summary>"
CLOSINGS = {"tool": ("</details></tool-use>", "</tool-use>"), "think": ("</details></think>", "</think>")}
RULE = "---"
# Agents that run side by side are written in order, give or take a few seconds.
_OUT_OF_ORDER = timedelta(seconds=5)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Speaker:
    """The fields of a speaker's line.

    Attributes:
        label: User, Agent, Assistant (older files' name for Agent) or Recap.
        is_sidechain: the line is about a sub-agent, the speaker or the one spoken to.
        model: the model's name.
        said_at: the time, which `datetime.fromisoformat` reads.
    """

    label: str
    is_sidechain: bool = False
    model: str | None = None
    said_at: str | None = None


@dataclass(frozen=True, slots=True)
class Segment:
    """Lines of one kind, lines[start:stop].

    Attributes:
        kind: speaker, text, tool or think.
        start: the first line, counted from 0.
        stop: the line after the last.
        speaker: whose they are.
        is_last: another speaker follows, or the end of the file.
    """

    kind: str
    start: int
    stop: int
    speaker: Speaker
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class _EarliestTimes:
    """The time before which a speaker's line is quoted, for the main agent and for sub-agents."""

    main: datetime = _LONG_AGO
    sidechain: datetime = _LONG_AGO

    def after(self, speaker: Speaker) -> _EarliestTimes:
        time = _time(speaker)
        if time is None or speaker.is_sidechain:
            return self
        earliest = time - _OUT_OF_ORDER
        sidechain = earliest if self.sidechain == _LONG_AGO else self.sidechain
        return _EarliestTimes(max(self.main, earliest), sidechain)


def parse_speaker(line: str) -> Speaker | None:
    """Parses a speaker's line; returns None for any other line."""
    found = _SPEAKER_LINE.fullmatch(line) if line.startswith(("_**", "### ")) else None
    if found is None:
        return None
    details = _DETAILS.fullmatch(found["details"] or "")
    said_at = timestamp_or_none(details["time"]) if details else None
    model = details["model"] if details and said_at else found["details"]
    return Speaker(found["label"], (found["note"] or "") == " - sidechain", model, said_at)


def split_segments(lines: list[str]) -> Iterator[Segment]:
    """Yields the segments of a file from its first speaker on; together they are all of its lines from there."""
    times, speaker = _EarliestTimes(), Speaker("User")
    at = _next_speaker(lines, 0, times)
    while at < len(lines):
        kind, stop = "text", at + 1
        if found := _unquoted_speaker(lines[at], times):
            kind, speaker, times = "speaker", found, times.after(found)
        elif speaker.label != "User" and (block := _block_start(lines[at])):
            kind, stop = block, _block_end(lines, at + 1, CLOSINGS[block], times)
        else:
            while stop < len(lines) and not _ends_text(lines[stop], speaker, times):
                stop += 1
        is_last = stop == len(lines) or _unquoted_speaker(lines[stop], times) is not None
        yield Segment(kind, at, stop, speaker, is_last)
        at = stop


def _time(speaker: Speaker) -> datetime | None:
    time = datetime.fromisoformat(speaker.said_at) if speaker.said_at else None
    if time is None or not 1970 <= time.year < 9999:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _unquoted_speaker(line: str, times: _EarliestTimes) -> Speaker | None:
    """Returns who speaks from this line on; None if it is no speaker's line, or a quoted one."""
    found = parse_speaker(line)
    time = _time(found) if found else None
    return None if found and time and time < (times.sidechain if found.is_sidechain else times.main) else found


def _ends_text(line: str, speaker: Speaker, times: _EarliestTimes) -> bool:
    return _unquoted_speaker(line, times) is not None or (speaker.label != "User" and _block_start(line) is not None)


def _block_start(line: str) -> str | None:
    return "think" if line.startswith(THOUGHT_START) else "tool" if TOOL_START.fullmatch(line) else None


def _block_end(lines: list[str], start: int, closing: tuple[str, ...], times: _EarliestTimes) -> int:
    """Returns the line after a block's closing line; if there is none (the file was cut off), the next speaker's."""
    for i in range(start, len(lines)):
        if lines[i].startswith(closing) and not _is_quoted(lines, i + 1, times):
            return i + 1
    return _next_speaker(lines, start, times)


def _is_quoted(lines: list[str], after: int, times: _EarliestTimes) -> bool:
    line = next((line for line in lines[after : after + 4] if line.strip() and line.strip() != RULE), "")
    return parse_speaker(line) is not None and _unquoted_speaker(line, times) is None


def _next_speaker(lines: list[str], start: int, times: _EarliestTimes) -> int:
    return next((i for i in range(start, len(lines)) if _unquoted_speaker(lines[i], times)), len(lines))
