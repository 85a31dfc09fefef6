"""Finds failed tool calls among a session's turns, and what solved each."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ctxmem_mcp.capture.failed_calls import FailedCall, key_of
from ctxmem_mcp.models import Turn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.error_outcomes import find_error_outcomes
from ctxmem_mcp.summarizers.section_reader import read_section

# The failure of a call is no longer of use if something else happened to it: a sibling failed, the user refused.
_NOT_TRIED = lazy_regex(
    r"Sibling tool call errored|has not been read yet|modified since|user doesn't want|No changes to"
)
_FAILED = lazy_regex(r"\A\s*(?:Exit code [1-9]|<tool_use_error>|Error: |Process exited with code [1-9])")
# Fails whatever is edited.
_LASTING = lazy_regex(
    r"command not found|not recognized|unknown (?:flag|option|linter|command|argument|shorthand|revision)|"
    r"[Uu]nrecogni[sz]ed (?:argument|option|command)|No module named|(?:invalid|illegal|no such) (?:option|command)|"
    r"unexpected argument|not a git repository|externally-managed|Missing script|No rule to make target|"
    r"[Pp]ermission denied|has been denied|Could not resolve host"
)
# What worked is looked for among this many calls after the failure.
_CALLS_AFTER = 6
_ALIKE_MIN = 0.4
_WORD = lazy_regex(r"[A-Za-z]\w+")
LINE_CHARS = 200


@dataclass(frozen=True, slots=True)
class CallOutcomes:
    """Calls by how they last ended. succeeded: keys."""

    failed: list[FailedCall] = field(default_factory=list)
    succeeded: set[str] = field(default_factory=set)


def find_outcomes(turns: Sequence[Turn], conversation: str, secret: bytes) -> CallOutcomes:
    """Returns the outcomes of the calls among these turns; a result must name its call.

    Args:
        turns: consecutive turns of a branch.
        conversation: its id.
        secret: the secret of the keys.
    """
    results = {turn.call_id: turn for turn in turns if turn.role == "tool" and turn.call_id}
    calls = [
        (turn, _arguments(turn), results[turn.call_id])
        for turn in turns
        if turn.role == "assistant" and turn.call_id is not None and turn.call_id in results
    ]
    endings: dict[int, str] | None = None
    failed: dict[str, FailedCall] = {}
    succeeded: set[str] = set()
    for number, (call, arguments, result) in enumerate(calls):
        key = key_of(call.name or "", arguments, secret)
        if not key or _NOT_TRIED.search(result.content[:500]):
            continue
        failed.pop(key, None)
        if not _FAILED.match(result.content):
            succeeded.add(key)
            continue
        succeeded.discard(key)
        endings = _endings(turns) if endings is None else endings
        after = calls[number + 1 : number + 1 + _CALLS_AFTER]
        ending = _alternative(arguments, after) or endings.get(result.index, "")
        failed[key] = FailedCall(
            key, call.call_id or "", conversation, result.id, (result.said_at or "")[:10],
            _LASTING.search(result.content[:4_000]) is not None, _error_line(result.content), ending,
        )  # fmt: skip
    return CallOutcomes(list(failed.values()), succeeded)


def _arguments(call: Turn) -> dict[str, Any]:
    try:
        arguments = json.loads(call.content)
    except (ValueError, RecursionError):
        return {}
    return arguments if isinstance(arguments, dict) else {}


def _endings(turns: Sequence[Turn]) -> dict[int, str]:
    """How the errors of each result ended, if they were resolved."""
    return {
        outcome.errors[0].index: outcome.ending
        for outcome in find_error_outcomes(read_section(turns))
        if outcome.is_resolved
    }


def _alternative(arguments: dict[str, Any], after: Sequence[tuple[Turn, dict[str, Any], Turn]]) -> str:
    """The next similar command that succeeded."""
    words = set(_WORD.findall(str(arguments.get("command") or "")))
    for _, other, result in after:
        command = other.get("command")
        others = set(_WORD.findall(command)) if isinstance(command, str) else set()
        if words and others and not _FAILED.match(result.content):
            alike = len(words & others) / min(len(words), len(others))
            if alike >= _ALIKE_MIN:
                return f"`{' '.join(str(command).split())[:LINE_CHARS]}` worked afterwards ({result.short})"
    return ""


def _error_line(content: str) -> str:
    """The line that says most: the first with an error's words, else the first after the exit code."""
    lines = [re.sub(r"</?tool_use_error>", "", line).strip() for line in content[:20_000].splitlines()]
    lines = [line for line in lines if line and not re.fullmatch(r"Exit code \d+|Process exited with code \d+", line)]
    telling = (
        line for line in lines if _LASTING.search(line) or re.search(r"\b[Ee]rror\b|FAIL|cannot |not found", line)
    )
    return next(telling, lines[0] if lines else "no output")[:LINE_CHARS]
