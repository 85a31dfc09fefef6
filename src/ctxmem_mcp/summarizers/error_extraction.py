"""What a tool's output reports: the errors in it, word for word, or the line that says it went well. Pure.

Bounded on any output: both ends are read line by line, what lies between only where a marker of an error stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from ctxmem_mcp.summarizers.sentences import one_line, window
from ctxmem_mcp.summarizers.tool_calls import Call

END_CHARS = 12_000
MIDDLE_CHARS = 4_000_000
FAULTS_MAX = 12
LINE_CHARS = 300

_MARKERS = ("\nFAILED ", "--- FAIL: ", "\nE   ", "Error: ", "error: ", "\nfatal: ", "\npanic: ")
_HINT = re.compile(r"rror|FAIL|xception|fatal|panic|✕|✗|×|:\d+|not found|No such|denied|ERR!|failed|rejected|Exit code")
_TEST_FAILED = re.compile(r"^\s*(?:--- FAIL: |FAILED |FAIL: |[✕✗×]\s+)(\S.*?)(?:\s+\([\d.]+\s?m?s\))?$")
_PARAMETERS = re.compile(r"\[[^\]\n]{40,}\]")
_FRAME = re.compile(r":\d+: (?:in \w+|\w+(?:Error|Exception)?)$|\bin <module>$|:\d+ \+0x[0-9a-f]+$")
_PYTEST_REASON = re.compile(r"^E\s{2,}(\S.*)$")
_LOCATED = re.compile(r"^\s*(?:\[[\w:.-]+\]\s)?(?:[\w./\\@-]+/)?([\w.@-]+\.\w{1,6}(?::\d+){1,2}:?\s+\S.*)$")
_TSC = re.compile(r"^\S+\.\w{1,4}\(\d+,\d+\): error .+$")
_PLAIN = re.compile(
    r"^\s*(?:\S{0,40}: )?(?:(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception)\b(?:: .+)?$|(?:fatal|error|Error|ERROR|"
    r"panic)(?:\[\w+\])?:\s*\S.+|npm ERR! \S.+"
    r"|.{0,160}(?:command not found|No such file or directory|[Pp]ermission denied|timed out|\[rejected\]|"
    r"not recognized).*)"
)
_EXIT = re.compile(r"^(?:Exit code|exit status|Command failed with exit code|Process exited with code) ([1-9]\d*)\b.*")
_FAILING = re.compile(
    r"^Exit code [1-9]|\bFAIL|\b[Ee]rror|ERROR|[1-9]\d* (?:issues|failed|errors|problems)|panic:|fatal:|undefined|"
    r"cannot |unused|expected|declared and not used",
    re.M,
)
_REFUSED = re.compile(r"\A\s*(?:<tool_use_error>|Error\b|error:|\w+Error: )(.{0,400})", re.S)
_TAG = re.compile(r"</?[a-z_]+>")
_WENT_WELL = re.compile(
    r"(?:^=*\s*(?P<pytest>\d+ passed[^=\n]{0,60}?)\s*=*$)|(?:^\s*(?P<line>0 issues\.?|All tests pass\w*.{0,40}|"
    r"Tests:\s+.{0,60}passed.{0,40}|test result: ok\..{0,60}|All checks passed!?|Success: no issues found.{0,40}|"
    r"Successfully .{5,100}|BUILD SUCCESS\w*|PASS|ok\s+\S+.{0,30}|OK(?: \(.*\))?)\s*$)",
    re.M,
)
_COMMITTED = re.compile(r"^\[([\w./-]+(?: \(root-commit\))?) ([0-9a-f]{7,40})\] (.{3,120})$", re.M)
_PULL_REQUEST = re.compile(r"https?://[\w.-]+/[\w./-]+/(?:pull|merge_requests)/\d+")
# The output of these is other people's text: an error in it is not an error of this run.
_QUOTING = frozenset("grep rg ag cat bat head tail less sed awk find ls tree jq diff wc echo printf man".split())
_QUOTING_GIT = frozenset("diff log show status blame grep branch ls-files ls-tree config".split())


@dataclass(frozen=True, slots=True)
class Fault:
    """One reported error. text: its line, without position columns or frame; key: equal for repeats of it."""

    index: int
    text: str

    @property
    def key(self) -> str:
        return re.sub(r"\d+|0x[0-9a-f]+|\W+", " ", self.text.lower()).strip()[:90]


@dataclass(frozen=True, slots=True)
class Report:
    """What a result says. outcome: the line that says it went well; landed: a commit or a pull request."""

    index: int
    call: Call | None
    tokens: int
    faults: tuple[Fault, ...] = ()
    outcome: str = ""
    landed: tuple[str, ...] = ()


def read_report(index: int, content: str, tokens: int, call: Call | None) -> Report:
    """Of one tool result; call: the call it answers, where known."""
    ran = content.startswith("Exit code") if call is None else call.deed in ("run", "delegate")
    if not ran:
        return Report(index, call, tokens, _refusal(index, content, call) if call else ())
    if call is not None and _only_quotes(call.command):
        return Report(index, call, tokens, _exit_of(index, content))
    text = window(content, END_CHARS, END_CHARS)
    marked = list(_marked_lines(content)) if len(text) < len(content) else []
    failing = marked or _FAILING.search(text)
    faults = tuple(_distinct(_faults(index, [*marked, *text.split("\n")]))) if failing else ()
    outcome = "" if faults else _outcome(text)
    return Report(index, call, tokens, faults or _exit_of(index, content), outcome, tuple(_landed(text)))


def _refusal(index: int, content: str, call: Call) -> tuple[Fault, ...]:
    """Why a tool refused a call, and on which file where the tool doesn't say: 'a.py: File does not exist.'"""
    refused = _REFUSED.match(content)
    if not refused:
        return ()
    why = _clean(_TAG.sub("", refused[0]).strip().split("\n", 1)[0])
    return (Fault(index, f"{call.file}: {why}" if call.file and call.file not in why else why),)


def _only_quotes(command: str) -> bool:
    words = command.split()
    if words[:1] == ["for"] and "do" in words:
        words = words[words.index("do") + 1 :]
    if not words:
        return False
    return words[0] in _QUOTING or (words[0] == "git" and len(words) > 1 and words[1] in _QUOTING_GIT)


def _marked_lines(content: str) -> Iterator[str]:
    """Lines with a marker between the two ends that are read whole: at most a few for each marker."""
    stop = min(len(content) - END_CHARS, END_CHARS + MIDDLE_CHARS)
    for marker in _MARKERS:
        at = END_CHARS
        for _ in range(FAULTS_MAX):
            at = content.find(marker, at, stop)
            if at < 0:
                break
            start = content.rfind("\n", max(0, at - LINE_CHARS), at + 1) + 1
            end = content.find("\n", at + len(marker), at + LINE_CHARS)
            yield content[start : end if end > 0 else at + LINE_CHARS]
            at += len(marker)


def _faults(index: int, lines: list[str]) -> Iterator[Fault]:
    test = ""
    for line in lines:
        if len(line) > 2_000 or ": : #" in line or not (_HINT.search(line) or line.startswith("E ")):
            continue
        line = _PARAMETERS.sub("", line)[:LINE_CHARS]
        if _FRAME.search(line):
            continue
        if failed := _TEST_FAILED.match(line):
            test = failed[1]
            yield Fault(index, _clean(test))
        elif found := _PYTEST_REASON.match(line):
            if "rror" in found[1] or "xception" in found[1] or found[1].startswith("Failed"):
                yield Fault(index, _clean(found[1]))
        elif found := _LOCATED.match(line):
            yield Fault(index, _clean(found[1]))
        elif _TSC.match(line) or _PLAIN.match(line):
            yield Fault(index, _clean(line))


def _distinct(faults: Iterator[Fault]) -> list[Fault]:
    """Each error once; of a test's name and the same name with its reason, the one with the reason."""
    kept: dict[str, Fault] = {}
    for fault in faults:
        if fault.key and fault.key not in kept and len(fault.text) > 5:
            kept[fault.key] = fault
        if len(kept) > 4 * FAULTS_MAX:
            break
    keys = list(kept)
    return [f for k, f in kept.items() if not any(k != other and k in other for other in keys)][:FAULTS_MAX]


def _exit_of(index: int, content: str) -> tuple[Fault, ...]:
    found = _EXIT.match(content[:200])
    if not found:
        return ()
    rest = [line for line in content[found.end() : found.end() + 2_000].split("\n") if line.strip()]
    first = _clean(rest[0]) if rest else ""
    return (Fault(index, f"Exit code {found[1]}: {first}" if first else f"Exit code {found[1]}"),)


def _outcome(text: str) -> str:
    best = ""
    for found in _WENT_WELL.finditer(text):
        best = found["pytest"] or found["line"]
        if found["pytest"]:
            break
    return one_line(best)


def _landed(text: str) -> Iterator[str]:
    for found in _COMMITTED.finditer(text):
        yield f"Committed {found[2]}: {one_line(found[3])}"
    if pull := _PULL_REQUEST.search(text):
        yield pull[0]


def _clean(line: str) -> str:
    return one_line(line)[:LINE_CHARS]


def pasted_faults(index: int, text: str) -> list[Fault]:
    """The errors in what a person pasted into a message."""
    return _distinct(_faults(index, window(text, END_CHARS, END_CHARS).split("\n")))
