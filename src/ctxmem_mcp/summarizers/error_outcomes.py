"""Errors and how each ended: fixed, passed when run again, or unresolved. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ctxmem_mcp.models import Role
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import sentence_scores
from ctxmem_mcp.summarizers.base import NOT_REPORTED_AGAIN, UNRESOLVED
from ctxmem_mcp.summarizers.error_extraction import ErrorLine, ToolResult, find_pasted_errors
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentences import shorten

_WORD = lazy_regex(r"[A-Za-z_]{4,}")
_NAME = lazy_regex(r"\w+")
_FILE = lazy_regex(r"\w\.[A-Za-z]{1,5}\b")
# Commands that expect to fail.
_PROBE = lazy_regex(r"echo \"?\$\?|\|\| *(?:true|echo)\b")
# Arguments that narrow a run to some tests or files.
_NARROWING = lazy_regex(
    r"(?:-run|-k|-t|--grep|--filter|--tests?|-m)[= ]+\S+|(?<=\s)\S*(?:/|::|\.(?:py|go|ts|tsx|js|rs|rb|java)\b)\S*"
)


class _Statement(NamedTuple):
    """A sentence that states how an error ended. confidence: from 1 to 3."""

    confidence: float
    turn: int
    text: str


@dataclass(frozen=True, slots=True)
class ErrorOutcome:
    """Errors reported together and how they ended.

    Attributes:
        role: Who reported them: the tool, or the user who pasted them.
        ending: How they ended, else ''.
        ended_at: The turn that ended them.
        ended_by: The role of that turn.
        weight: 1; less if only an exit code is known (0.5) or the tool only refused a call (0.12).
    """

    role: Role
    errors: tuple[ErrorLine, ...]
    ending: str
    ended_at: int
    ended_by: Role
    weight: float
    is_resolved: bool


def find_error_outcomes(section: Section) -> list[ErrorOutcome]:
    """Returns every distinct error once, in order of first appearance, with its ending."""
    seen: set[str] = set()
    outcomes: list[ErrorOutcome] = []
    for role, errors, result in _reported_errors(section):
        new_errors = tuple(error for error in errors if not any(error.key in key for key in seen))
        seen.update(error.key for error in new_errors)
        if new_errors:
            outcome = _outcome_of(section, role, new_errors, result)
            outcomes += [outcome] if outcome.ending != UNRESOLVED else _split_by_edits(section, outcome)
    return outcomes


def _split_by_edits(section: Section, outcome: ErrorOutcome) -> Iterator[ErrorOutcome]:
    """Splits open errors from those of files that were edited after them, about which nothing is certain."""
    index = outcome.errors[0].index
    edited = {call.file_name for call in section.calls if call.kind == "edit" and call.index > index} - {""}
    # An error that names no file may be in any.
    touched = tuple(
        error
        for error in outcome.errors
        if edited and (not _FILE.search(error.text) or any(file in error.text for file in edited))
    )
    rest = tuple(error for error in outcome.errors if error not in touched)
    if touched:
        yield replace(outcome, errors=touched, ending=NOT_REPORTED_AGAIN, ended_at=index, ended_by=outcome.role)
    if rest:
        yield replace(outcome, errors=rest)


def _reported_errors(section: Section) -> Iterator[tuple[Role, tuple[ErrorLine, ...], ToolResult | None]]:
    reported: list[tuple[int, Role, tuple[ErrorLine, ...], ToolResult | None]] = [
        (message.index, "user", tuple(find_pasted_errors(message.index, message.pasted_text)), None)
        for message in section.messages
        if message.role == "user" and message.pasted_text and section.is_work
    ]
    reported += [(result.index, "tool", result.errors, result) for result in section.results]
    for _, role, errors, result in sorted(reported, key=lambda entry: entry[0]):
        if errors:
            yield role, errors, result


def _outcome_of(section: Section, role: Role, errors: tuple[ErrorLine, ...], result: ToolResult | None) -> ErrorOutcome:
    """How errors ended. If that is not certain, nothing is said about it."""
    index, weight = errors[0].index, _weight_of(errors, result)
    rerun = _last_rerun(section, index, result)
    passing_run = rerun if rerun and not rerun.errors and _covers(rerun, result, errors) else None
    keys = {error.key for error in errors}
    is_cleared = rerun and _covers(rerun, result, errors) and keys.isdisjoint(error.key for error in rerun.errors)
    statement = _resolution_statement(section, index, errors)
    if statement and (statement.confidence >= (1.0 if passing_run and not passing_run.success_line else 2.0)):
        return ErrorOutcome(role, errors, _main_clause(statement.text), statement.turn, "assistant", weight, True)
    if passing_run:
        return ErrorOutcome(role, errors, _success_text(passing_run), passing_run.index, "tool", weight, True)
    if rerun and is_cleared:
        command = _command_stem(rerun.call.command) if rerun.call else ""
        ending = f"`{command}` reports it no longer, but other errors"
        return ErrorOutcome(role, errors, ending, rerun.index, "tool", weight, True)
    if weight >= 1.0 and _is_open(section, errors, result, rerun):
        return ErrorOutcome(role, errors, UNRESOLVED, section.last_index, "assistant", weight, False)
    ending = NOT_REPORTED_AGAIN if weight >= 1.0 else ""
    return ErrorOutcome(role, errors, ending, index, role, weight, False)


def _is_open(
    section: Section, errors: tuple[ErrorLine, ...], result: ToolResult | None, rerun: ToolResult | None
) -> bool:
    """Whether errors certainly persist at the end of the section.

    They do unless the command only probes, a later run succeeds, or the assistant claims success at the end.
    """
    index, keys = errors[0].index, {error.key for error in errors}
    if rerun and any(error.key in keys for error in rerun.errors):
        index = rerun.index
    if result and result.call and (result.call.is_scratch or _PROBE.search(result.call.command)):
        return False
    if any(later.index > index and (later.success_line or later.commits) for later in section.results):
        return False
    closing = section.assistant_messages(index + 1, section.last_index)[-1:]
    return not any(
        sentence_scores.score_resolution(text) >= 2.0 for message in closing for text in message.sentences[:20]
    )


def _covers(rerun: ToolResult, result: ToolResult | None, errors: tuple[ErrorLine, ...]) -> bool:
    """Whether a run would report the errors if they persisted: it is as wide as the first one, or names them."""
    if result is None or result.call is None or rerun.call is None:
        return True
    narrowing = set(_NARROWING.findall(rerun.call.command)) - set(_NARROWING.findall(result.call.command))
    command = rerun.call.command
    return not narrowing or all(any(len(w) > 5 and w in command for w in _NAME.findall(e.text)) for e in errors)


def _weight_of(errors: tuple[ErrorLine, ...], result: ToolResult | None) -> float:
    if errors[0].text.startswith("Exit code"):
        return 0.5
    if result is not None and (result.call is None or result.call.kind != "run"):
        return 0.12
    return 1.0


def _main_clause(text: str) -> str:
    """'Fixed by X' of 'Fixed by X: details'."""
    clause = text.split(": ", 1)[0]
    return clause if 25 <= len(clause) < len(text) and len(clause.split()) > 4 else text


def _success_text(result: ToolResult) -> str:
    command = f"`{shorten(result.call.command, 60)}`" if result.call else ""
    return f"{command}: {result.success_line}" if result.success_line else f"{command} ran clean afterwards"


def _last_rerun(section: Section, index: int, result: ToolResult | None) -> ToolResult | None:
    """The last later run of the same command; for an error that a user pasted, of any command with a clear result."""
    stem = _command_stem(result.call.command) if result and result.call else ""
    last: ToolResult | None = None
    for later in section.results:
        if later.index <= index or later.call is None or later.call.kind != "run":
            continue
        if (stem and _command_stem(later.call.command) == stem) or (not stem and (later.success_line or later.errors)):
            last = later
    return last


def _command_stem(command: str) -> str:
    """The command without options and paths, at most three words: `go test ./a -run X` and `go test ./b` are equal."""
    words: list[str] = []
    for word in command.split():
        if word.startswith(("-", "/", ".", "|", "2>", ">", "&")) or "/" in word or len(words) == 3:
            break
        words.append(word)
    return " ".join(words)


def _resolution_statement(section: Section, index: int, errors: tuple[ErrorLine, ...]) -> _Statement | None:
    """The assistant's clearest sentence on how the errors ended."""
    error_words = {word.lower() for error in errors for word in _WORD.findall(error.text)}
    best: _Statement | None = None
    best_score = 0.0
    for message in section.assistant_messages(index + 1, section.last_index):
        for text in message.sentences[:20]:
            confidence = sentence_scores.score_resolution(text)
            if confidence == 0.0 or len(text) < 18 or text.endswith((":", "?")):
                continue
            shared = len(error_words & {word.lower() for word in _WORD.findall(text)})
            score = confidence + 0.4 * min(shared, 4)
            if score > best_score and (
                confidence >= 3.0 or shared or (confidence >= 2.0 and sentence_scores.states_completion(text))
            ):
                best_score, best = score, _Statement(confidence, message.index, text)
    return best
