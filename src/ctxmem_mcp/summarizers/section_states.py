"""The state in which a section ends, in a few words: what its last tests, checks or commit said. Pure.

A state is stated only if it is certain: a result that an edit follows says nothing about the end.
"""

from __future__ import annotations

import re

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.error_extraction import ToolResult
from ctxmem_mcp.summarizers.section_reader import Section

COMMITTED_STATE, REFUSED_STATE, BLOCKED_STATE = "committed", "refused by user", "commit blocked"
_TESTS = lazy_regex(
    r"\b(?:py\.?test|unittest|vitest|jest|mocha|rspec|phpunit|ctest|tox|nox|tests?(?::\w+)?)\b(?!\.\w)", re.I
)
_LINT = lazy_regex(
    r"\b(?:golangci-lint|lint(?::\w+)?|eslint|ruff|clippy|mypy|pyright|tsc|vet|credo|shellcheck|typecheck|check)\b",
    re.I,
)
_BUILD = lazy_regex(r"\b(?:build|compile|make)\b", re.I)
_STATES = {
    ("tests", True): "tests pass", ("tests", False): "tests fail",
    ("lint", True): "lint clean", ("lint", False): "lint fails",
    ("build", False): "build fails",
}  # fmt: skip
BOTH_PASS = "lint and tests pass"
STATES = frozenset((*_STATES.values(), BOTH_PASS, COMMITTED_STATE, REFUSED_STATE, BLOCKED_STATE))


def state_at_end(section: Section) -> str:
    """Returns the state in which a section ends; empty if nothing is certain."""
    last_edit = max((call.index for call in section.calls if call.kind == "edit"), default=-1)
    last_call = max((call.index for call in section.calls), default=-1)
    results: dict[str, bool] = {}
    is_blocked = False
    for result in section.results:
        is_scratch = result.call is not None and result.call.is_scratch
        if result.commits and not is_scratch and not result.commits[0].startswith("http"):
            results, is_blocked = {"committed": True}, False
        elif result.is_blocked:
            is_blocked = True
        elif result.refusal and result.call is not None and result.call.index == last_call:
            return REFUSED_STATE
        elif result.index > last_edit and (family := _family_of(result)) and (result.errors or result.success_line):
            results.pop(family, None)
            results[family] = not result.errors
    if is_blocked or not results:
        return BLOCKED_STATE if is_blocked else ""
    if results.get("lint") and results.get("tests"):
        return BOTH_PASS
    family, is_good = min(results.items(), key=lambda item: (item[1], item[0] != "tests"))
    return COMMITTED_STATE if family == "committed" else _STATES.get((family, is_good), "")


def _family_of(result: ToolResult) -> str:
    """What a command checks: "tests", "lint" or "build"; else ''."""
    if result.call is None or result.call.kind != "run" or result.call.is_scratch:
        return ""
    command = result.call.command[:200]
    for family, pattern in (("tests", _TESTS), ("lint", _LINT), ("build", _BUILD)):
        if pattern.search(command):
            return family
    return ""
