"""Extracts errors from tool output verbatim, or the line that reports success. Pure.

The cost is bounded on any output: both ends are read line by line, the middle only around error markers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import COMMITTED
from ctxmem_mcp.summarizers.sentences import head_and_tail, one_line
from ctxmem_mcp.summarizers.tool_calls import ToolCall
from ctxmem_mcp.text.cues import error_line
from ctxmem_mcp.text.host_text import is_refused_call, refusal_words

END_CHARS = 12_000
MIDDLE_CHARS = 4_000_000
ERRORS_MAX = 12
LINE_CHARS = 300
TEST_CHARS_MAX = 120

_MARKERS = ("\nFAILED ", "--- FAIL: ", "\nE   ", "Error: ", "error: ", "\nfatal: ", "\npanic: ")
_ERROR_HINT = lazy_regex(
    r"rror|FAIL|xception|fatal|panic|✕|✗|×|:\d+|not found|No such|denied|ERR!|failed|rejected|Exit code"
)
_TEST_FAILED = lazy_regex(r"^\s*(?:--- FAIL: |FAILED |FAIL: |[✕✗×]\s+)(\S.*?)(?:\s+\([\d.]+\s?m?s\))?$")
# As cargo and TAP report them.
_TEST_FAILED_ELSEWHERE = lazy_regex(r"^\s*(?:test (\S+) \.\.\. FAILED|not ok \d+ - (\S.*))$")
_TEST_HINT = lazy_regex(r"FAIL|not ok |[✕✗×]")
_PARAMETERS = lazy_regex(r"\[[^\]\n]{40,}\]")
_STACK_FRAME = lazy_regex(r":\d+: (?:in \w+|\w+(?:Error|Exception)?)$|\bin <module>$|:\d+ \+0x[0-9a-f]+$")
_PYTEST_REASON = lazy_regex(r"^E\s{2,}(\S.*)$")
_FILE_LOCATION = lazy_regex(r"^\s*(?:\[[\w:.-]+\]\s)?(?:[\w./\\@-]+/)?([\w.@-]+\.\w{1,6}(?::\d+){1,2}:?\s+\S.*)$")
# What a test logs on its way has the form of its errors.
_LOGGED = lazy_regex(r"\b(?:INFO|DEBUG|successfully)\b")
_COMPLAINT = lazy_regex(
    r"rror|xpected|\b(?:want|got|fail\w*|should|undefined|cannot|not|no|missing|unused|returned|returns|wrong|invalid)\b|"
    r"FAIL|fatal|panic|xception|\([a-z]+\)\Z|\ATest|::"
)
_TSC = lazy_regex(r"^\S+\.\w{1,4}\(\d+,\d+\): error .+$")
_ERROR_MESSAGE = lazy_regex(
    r"^\s*(?:\S{0,40}: )?(?:(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b(?:: .+)?$|(?:fatal|error|Error|ERROR|"
    r"panic)(?:\[\w+\])?:\s*\S.+|npm ERR! \S.+"
    r"|.{0,160}(?:command not found|No such file or directory|[Pp]ermission denied|timed out|\[rejected\]|"
    r"not recognized).*)"
)
_EXIT_CODE = lazy_regex(
    r"^(?:Exit code|exit status|Command failed with exit code|Process exited with code) ([1-9]\d*)\b.*"
)
# Copilot CLI states it after the output.
_EXIT_CODE_AT_END = lazy_regex(r"<shellId: \S{1,40} completed with exit code ([1-9]\d*)>\s*\Z")
_FAILURE_SIGN = lazy_regex(
    r"^(?:Exit code|Process exited with code|<shellId: \S{1,40} completed with exit code) [1-9]|\bFAIL|\b[Ee]rror|"
    r"ERROR|[1-9]\d* (?:issues|failed|errors|problems)|panic:|fatal:|undefined|cannot |unused|expected|"
    r"declared and not used",
    re.M,
)
_TOOL_REFUSAL = lazy_regex(r"\A\s*(?:<tool_use_error>|Error\b|error:|\w+Error: )(.{0,400})", re.S)
_TAG = lazy_regex(r"</?[a-z_]+>")
_SUCCESS = lazy_regex(
    r"(?:^=*\s*(?P<pytest>\d+ passed[^=\n]{0,60}?)\s*=*$)|(?:^\s*(?P<line>0 issues\.?|All tests pass\w*.{0,40}|"
    r"(?:\d+ \w+, )?\d+ (?:tests?|examples?|runs?), (?:\d+ assertions?, )?0 failures.{0,40}|\d+ passing.{0,20}|"
    r"Tests\s+\d+ passed.{0,40}|"
    r"Tests:\s+.{0,60}passed.{0,40}|test result: ok\..{0,60}|All checks passed!?|Success: no issues found.{0,40}|"
    r"Successfully .{5,100}|BUILD SUCCESS\w*|PASS|ok\s+\S+.{0,30}|OK(?: \(.*\))?)\s*$)",
    re.M,
)
# How hooks and their runners say that they refuse a commit.
_BLOCKED = lazy_regex(
    r"\b(?:pre-commit|commit-msg|husky)\b[^\n]{0,60}\b(?:fail\w*|exited with code|refused|rejected)\b|"
    r"\bfix (?:these|the) (?:issues|errors|problems) before committing\b|^- exit code: \d+$",
    re.I | re.M,
)
_COMMITTED = lazy_regex(r"^\[([\w./-]+(?: \(root-commit\))?) ([0-9a-f]{7,40})\] (.{3,120})$", re.M)
_PULL_REQUEST = lazy_regex(r"https?://[\w.-]+/[\w./-]+/(?:pull|merge_requests)/\d+")


@dataclass(frozen=True, slots=True)
class ErrorLine:
    """A reported error. text: the line that reports it, without its folder."""

    index: int
    text: str

    @property
    def key(self) -> str:
        """Equal for repetitions of the same error: no numbers, no punctuation."""
        return re.sub(r"\d+|0x[0-9a-f]+|\W+", " ", self.text.lower()).strip()[:90]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """A parsed tool result.

    Attributes:
        call: The call it belongs to, if known.
        errors: The errors it reports.
        success_line: The line that reports success, else ''.
        commits: Commits and pull requests it reports.
        refusal: What the user said when refusing the call, else ''.
        is_blocked: Whether a hook refused a commit.
    """

    index: int
    call: ToolCall | None
    tokens: int
    errors: tuple[ErrorLine, ...] = ()
    success_line: str = ""
    commits: tuple[str, ...] = ()
    refusal: str = ""
    is_blocked: bool = False


def read_result(index: int, content: str, tokens: int, call: ToolCall | None) -> ToolResult:
    """Parses a tool result. Errors are read only from commands and sub-agents; from other tools, only their refusal.

    Args:
        index: The result's turn.
        content: Its text.
        tokens: Tokens of the text.
        call: The call it belongs to, if known.
    """
    if is_refused_call(content):
        return ToolResult(index, call, tokens, refusal=refusal_words(content))
    ran = content.startswith("Exit code") if call is None else call.kind in ("run", "delegate")
    if not ran:
        return ToolResult(index, call, tokens, _refusal_error(index, content, call) if call else ())
    if call is not None and call.only_prints:
        return ToolResult(index, call, tokens, _exit_error(index, content))
    text = head_and_tail(content, END_CHARS, END_CHARS)
    marked = list(_marked_lines(content)) if len(text) < len(content) else []
    has_failure = marked or _FAILURE_SIGN.search(text)
    in_english = _find_errors(index, [*marked, *text.split("\n")]) if has_failure else ()
    errors = tuple(_distinct_errors(chain(in_english, _find_translated_errors(index, text))))
    success_line = "" if errors else _success_line(text)
    errors = errors or _exit_error(index, content)
    commits = tuple(read_commits(text))
    is_blocked = not commits and call is not None and "commit" in call.command and bool(_BLOCKED.search(text))
    return ToolResult(index, call, tokens, errors, success_line, commits, is_blocked=is_blocked)


def _refusal_error(index: int, content: str, call: ToolCall) -> tuple[ErrorLine, ...]:
    """Why a tool refused a call; its file is added if the tool doesn't name it: 'a.py: File does not exist.'"""
    refusal = _TOOL_REFUSAL.match(content)
    if not refusal:
        return ()
    reason = _clean_line(_TAG.sub("", refusal[0]).strip().split("\n", 1)[0])
    file = call.file_name
    return (ErrorLine(index, f"{file}: {reason}" if file and file not in reason else reason),)


def _marked_lines(content: str) -> Iterator[str]:
    """Lines with an error marker between the two ends that are read completely: at most 12 per marker."""
    stop = min(len(content) - END_CHARS, END_CHARS + MIDDLE_CHARS)
    for marker in _MARKERS:
        at = END_CHARS
        for _ in range(ERRORS_MAX):
            at = content.find(marker, at, stop)
            if at < 0:
                break
            start = content.rfind("\n", max(0, at - LINE_CHARS), at + 1) + 1
            end = content.find("\n", at + len(marker), at + LINE_CHARS)
            yield content[start : end if end > 0 else at + LINE_CHARS]
            at += len(marker)


def _find_errors(index: int, lines: list[str]) -> Iterator[ErrorLine]:
    test = ""
    for line in lines:
        if len(line) > 2_000 or ": : #" in line or not (_ERROR_HINT.search(line) or line.startswith("E ")):
            continue
        line = _PARAMETERS.sub("", line)[:LINE_CHARS]
        if _STACK_FRAME.search(line):
            continue
        if failed := _TEST_FAILED.match(line):
            test = failed[1]
            yield ErrorLine(index, _clean_line(test))
        elif found := _PYTEST_REASON.match(line):
            if "rror" in found[1] or "xception" in found[1] or found[1].startswith("Failed"):
                yield ErrorLine(index, _clean_line(found[1]))
        elif (found := _FILE_LOCATION.match(line)) and not _LOGGED.search(found[1]):
            yield ErrorLine(index, _clean_line(found[1]))
        elif _TSC.match(line) or _ERROR_MESSAGE.match(line):
            yield ErrorLine(index, _clean_line(line))


def _find_translated_errors(index: int, text: str) -> Iterator[ErrorLine]:
    """Errors of programs that print them in another language than English ("Fehler: ...", "错误：...")."""
    for found in error_line().finditer(text):
        if len(found[0]) <= LINE_CHARS:
            yield ErrorLine(index, _clean_line(found[0]))


def _distinct_errors(errors: Iterable[ErrorLine]) -> list[ErrorLine]:
    """Each error once; if a test's name appears with and without its reason, the one with the reason."""
    distinct: dict[str, ErrorLine] = {}
    for error in errors:
        if error.key and error.key not in distinct and len(error.text) > 5:
            distinct[error.key] = error
        if len(distinct) > 4 * ERRORS_MAX:
            break
    kept = [error for key, error in distinct.items() if not any(key != other and key in other for other in distinct)]
    # Of lines of the same form, a test's logs come after its complaints.
    return sorted(kept, key=lambda error: not _COMPLAINT.search(error.text))[:ERRORS_MAX]


def _exit_error(index: int, content: str) -> tuple[ErrorLine, ...]:
    if found := _EXIT_CODE.match(content[:200]):
        rest = [line for line in content[found.end() : found.end() + 2_000].split("\n") if line.strip()]
        line = _clean_line(rest[0]) if rest else ""
    elif found := _EXIT_CODE_AT_END.search(content[-200:]):
        before = content[-2_000:].rpartition("<shellId: ")[0].strip()
        line = _clean_line(before.rpartition("\n")[2])
    else:
        return ()
    return (ErrorLine(index, f"Exit code {found[1]}: {line}" if line else f"Exit code {found[1]}"),)


def _success_line(text: str) -> str:
    best = ""
    for found in _SUCCESS.finditer(text):
        best = found["pytest"] or found["line"]
        if found["pytest"]:
            break
    return one_line(best)


def read_commits(text: str) -> Iterator[str]:
    """Yields the commits and the pull request that an output reports, each as a line."""
    for found in _COMMITTED.finditer(text):
        yield f"{COMMITTED}{found[2]}: {one_line(found[3])}"
    if pull := _PULL_REQUEST.search(text):
        yield pull[0]


def _clean_line(line: str) -> str:
    return one_line(line)[:LINE_CHARS]


def find_failed_tests(content: str) -> list[str]:
    """Returns the names of the tests that an output reports as failed, each once."""
    found: dict[str, None] = {}
    if not _TEST_HINT.search(content):
        return []
    for line in head_and_tail(content, END_CHARS, END_CHARS).splitlines():
        match = _TEST_FAILED.match(line) or _TEST_FAILED_ELSEWHERE.match(line)
        name = next(filter(None, match.groups()), "").partition(" - ")[0] if match else ""
        if 0 < len(name) <= TEST_CHARS_MAX:
            found[name] = None
    return list(found)


def find_pasted_errors(index: int, text: str) -> list[ErrorLine]:
    """Returns the errors in text that a person pasted into a message."""
    text = head_and_tail(text, END_CHARS, END_CHARS)
    return _distinct_errors(chain(_find_errors(index, text.split("\n")), _find_translated_errors(index, text)))
