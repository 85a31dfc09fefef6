"""A shortened output has its beginning, its end, and every failure. The outputs are of real builds that failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.text.long_output import LINE_CHARS_MAX, ROOM_FOR_ERRORS, shorten_output

OUTPUTS = Path(__file__).parents[1] / "data" / "long_outputs"
NOTE = "expand_node with conversation c and id t7-123 returns all of it."
FAILURES = {
    "pytest": [
        "test_relay.py::test_frames[41] FAILED", "test_relay.py::test_frames[97] FAILED", "KeyError: 'lost'",
        "ConnectionRefusedError: localhost:7412 refused", "4 failed",
    ],
    "node": [
        "not ok 78 - frame 77 is decoded", "not ok 161 - the queue survives a restart",
        "undefinedFunction is not defined", "# fail 3",
    ],
    "make": [
        "missing_symbol", "unit41.c:1:10: fatal error: nowhere.h: No such file or directory",
        "unit23.o] Error 1", "unit41.o] Error 1", "Target 'all' not remade because of errors.",
    ],
    "cargo": [
        "error[E0308]: mismatched types", "error[E0425]: cannot find function `queue_depth`", "could not compile",
    ],
    "npm": ["Error: Cannot find module './missing-loader'", "MODULE_NOT_FOUND", "Node.js v20"],
}  # fmt: skip


@pytest.mark.parametrize("tool", FAILURES)
@pytest.mark.parametrize("share", [4, 6])
def test_no_failure_of_a_build_is_hidden(tool: str, share: int) -> None:
    text = (OUTPUTS / f"{tool}.txt").read_text("utf-8")
    short = shorten_output(text, len(text) // share, NOTE)
    assert len(short) < len(text) * 0.6
    for failure in FAILURES[tool]:
        assert failure in short
    lines = text.rstrip("\n").split("\n")
    assert short.startswith(lines[0])
    assert lines[-1] in short
    assert short.endswith(f"{NOTE}]")
    assert "lines that may report errors" not in short


def test_errors_that_have_no_room_are_counted() -> None:
    text = "\n".join(f"error: {name} is broken" for name in map(str, range(5_000)))
    short = shorten_output(text, 2_000, NOTE)
    assert "without 4" in short.splitlines()[-1]
    assert "error: 0 is broken" in short
    assert "error: 4999 is broken" in short


LINES = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=30), max_size=60)


@given(LINES, st.integers(0, 2_000))
def test_lines_stay_in_order_and_in_their_room(lines: list[str], chars: int) -> None:
    text = "\n".join(lines)
    short = shorten_output(text, chars, NOTE)
    assert short == text or len(short) <= 0.8 * len(text)
    if short == text:
        return
    shown = [line for line in short.split("\n")[:-1] if not line.startswith("[… ")]
    rest = iter(lines)
    assert all(line in rest for line in shown)
    assert sum(len(line) + 1 for line in shown) <= chars * (1 + ROOM_FOR_ERRORS)


def test_a_long_line_loses_its_middle() -> None:
    short = shorten_output(f"{'a' * 50_000}\nlast", 5_000, NOTE)
    assert short.splitlines()[0].startswith("a" * (LINE_CHARS_MAX // 2) + " … 49600 characters … ")
