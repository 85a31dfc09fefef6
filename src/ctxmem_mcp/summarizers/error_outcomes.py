"""Errors and how each ended: fixed, passed when run again, or open. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxmem_mcp.models import Role
from ctxmem_mcp.summarizers import sentence_scoring
from ctxmem_mcp.summarizers.base import STILL_OPEN
from ctxmem_mcp.summarizers.error_extraction import Fault, Report, pasted_faults
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import shorten

_WORD = re.compile(r"[A-Za-z_]{4,}")


@dataclass(frozen=True, slots=True)
class Episode:
    """Errors reported at once and what became of them. weight: 1, less where the tool only refused a call."""

    role: Role
    faults: tuple[Fault, ...]
    ending: str
    ended_at: int
    ended_by: Role
    weight: float
    closed: bool


def endings_of(section: Section) -> list[Episode]:
    """Every distinct error once, where it was first met, with its ending."""
    seen: set[str] = set()
    episodes: list[Episode] = []
    for role, faults, report in _met(section):
        fresh = tuple(fault for fault in faults if not any(fault.key in key for key in seen))
        seen.update(fault.key for fault in fresh)
        if fresh:
            episodes.append(_episode(section, role, fresh, report))
    return episodes


def _met(section: Section) -> Iterator[tuple[Role, tuple[Fault, ...], Report | None]]:
    met: list[tuple[int, Role, tuple[Fault, ...], Report | None]] = [
        (said.index, "user", tuple(pasted_faults(said.index, said.quoted)), None)
        for said in section.said
        if said.role == "user" and said.quoted and section.is_work
    ]
    met += [(report.index, "tool", report.faults, report) for report in section.reports]
    for _, role, faults, report in sorted(met, key=lambda entry: entry[0]):
        if faults:
            yield role, faults, report


def _episode(section: Section, role: Role, faults: tuple[Fault, ...], report: Report | None) -> Episode:
    index = faults[0].index
    weight = 1.0
    if report is not None and (report.call is None or report.call.deed != "run"):
        weight = 0.12
    if faults[0].text.startswith("Exit code"):
        weight = 0.5
    again = _run_later(section, index, report)
    passed = again if again and not again.faults else None
    gone = again if again and {f.key for f in again.faults}.isdisjoint(f.key for f in faults) else None
    told = _told_later(section, index, faults)
    if told and (passed or told[0] >= 2.0):
        return Episode(role, faults, _point(told[2]), told[1], "assistant", weight, True)
    if passed:
        return Episode(role, faults, _passing(passed), passed.index, "tool", weight, True)
    if gone:
        ending = f"`{_family(gone.call.command) if gone.call else ''}` reports it no longer, but other errors"
        return Episode(role, faults, ending, gone.index, "tool", weight, True)
    if weight < 1.0:
        return Episode(role, faults, "", index, role, weight, False)
    return Episode(role, faults, STILL_OPEN, section.end, "assistant", weight, False)


def _point(text: str) -> str:
    """'Fixed by X: details' without the details."""
    point = text.split(": ", 1)[0]
    return point if 25 <= len(point) < len(text) and len(point.split()) > 4 else text


def _passing(report: Report) -> str:
    command = f"`{shorten(report.call.command, 60)}`" if report.call else ""
    return f"{command}: {report.outcome}" if report.outcome else f"{command} ran clean afterwards"


def _run_later(section: Section, index: int, report: Report | None) -> Report | None:
    """The last later run of the same command; of any test run for an error that a user pasted."""
    family = _family(report.call.command) if report and report.call else ""
    last: Report | None = None
    for later in section.reports:
        if later.index <= index or later.call is None or later.call.deed != "run":
            continue
        if (family and _family(later.call.command) == family) or (not family and (later.outcome or later.faults)):
            last = later
    return last


def _family(command: str) -> str:
    """The command without its options and paths: `go test ./a -run X` and `go test ./b` are the same work."""
    words: list[str] = []
    for word in command.split():
        if word.startswith(("-", "/", ".", "|", "2>", ">", "&")) or "/" in word or len(words) == 3:
            break
        words.append(word)
    return " ".join(words)


def _told_later(section: Section, index: int, faults: tuple[Fault, ...]) -> tuple[float, int, str] | None:
    """The assistant's clearest sentence on how it ended: (how sure, turn, sentence)."""
    about = {word.lower() for fault in faults for word in _WORD.findall(fault.text)}
    best: tuple[float, int, str] | None = None
    best_score = 0.0
    for said in section.between(index + 1, section.end):
        for text in said.sentences[:20]:
            sure = sentence_scoring.ending_in(text)
            if sure == 0.0 or len(text) < 18 or text.endswith((":", "?")):
                continue
            shared = len(about & {word.lower() for word in _WORD.findall(text)})
            score = sure + 0.4 * min(shared, 4)
            if score > best_score and (sure >= 3.0 or shared or (sure >= 2.0 and sentence_scoring.is_done(text))):
                best_score, best = score, (sure, said.index, text)
    return best
