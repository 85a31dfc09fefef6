"""What a recap leaves out: within its budget, and nothing that the recap states."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import Highlight, Node, Summary
from ctxmem_mcp.summarizers.error_extraction import find_failed_tests
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.recap_supplement import RecapWords, build_supplement

WORDS = "port relay socket driver 7412 setTimeout() retry schema index commit branch café 端口 --force t.py:8".split()
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=3, max_size=9, unique=True).map(" ".join)
KINDS = st.sampled_from(["decision", "error", "fact", "outcome", "request"])
HIGHLIGHTS = st.lists(st.tuples(KINDS, st.integers(0, 19), SENTENCES), max_size=25)


def build(
    lines: list[tuple[str, int, str]],
    reasons: list[str],
    recap: str,
    budget: int,
    failed_tests: Sequence[tuple[int, str]] = (),
) -> str:
    highlights = tuple(
        Highlight(kind, index, "tool" if kind == "error" else "assistant", text)  # type: ignore[arg-type]
        for kind, index, text in sorted(lines, key=lambda line: line[1])
    )
    node = Node(b"d" * 16, 0, 0, 19, 900, 1)
    said = [Highlight("fact", 5, "assistant", text) for text in reasons]
    failed = [Highlight("error", index, "tool", name) for index, name in failed_tests]
    return build_supplement(
        [(node, Summary("extractive", "Work", highlights))], [], said, failed, recap, budget, tokenizer.count
    )


@given(HIGHLIGHTS, st.lists(SENTENCES, max_size=5), st.lists(SENTENCES, max_size=4), st.integers(1, 400))
def test_it_fits_and_repeats_nothing(
    lines: list[tuple[str, int, str]], reasons: list[str], recap: list[str], budget: int
) -> None:
    text = build(lines, reasons, "\n".join(recap), budget)
    assert tokenizer.count(text) <= budget
    words = RecapWords("\n".join(recap))
    shown = re.findall(r"^- (.+) \(t\d+ \w+\)$", text, re.M)
    assert [line for line in shown if words.state(line)] == []
    assert len(shown) == len(set(shown))


@given(HIGHLIGHTS)
def test_nothing_is_added_if_the_recap_states_everything(lines: list[tuple[str, int, str]]) -> None:
    text = build(lines, [], "\n".join(["Work", *(text for _, _, text in lines)]), 4_000)
    assert [line for line in text.splitlines() if re.match(r"- .+ \(t\d+ \w+\)", line)] == []


def test_a_line_is_stated_by_its_words_and_not_by_its_wording() -> None:
    recap = RecapWords(
        "The user wants the relay moved.\n- It listens on port 7412 now; tests pass.\n- Nothing is open."
    )
    assert recap.state("Moved the relay to port 7412")
    assert not recap.state("relay.py:88: error: Unsupported operand types for + (7412)")
    assert RecapWords("").share_of("anything here") == 0.0


def test_failed_tests_are_named_unless_an_error_or_the_recap_names_them() -> None:
    failed = [(3, "TestRetry"), (3, "TestSchemaMigration"), (7, "TestRelayRestart"), (7, "TestPortIsFree")]
    text = build([("error", 3, "TestRetry")], [], "TestPortIsFree fails.", 1_000, failed)
    part = text.partition("Tests that failed\n")[2].partition("\n\n")[0]
    assert part == "- TestSchemaMigration (t3 tool)\n- TestRelayRestart (t7 tool)"
    assert text.count("TestRetry") == 1


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("--- FAIL: TestRelay/restart (0.53s)", "TestRelay/restart"),
        ("FAILED tests/test_relay.py::test_port - AssertionError: 7412", "tests/test_relay.py::test_port"),
        ("test queue::tests::depth ... FAILED", "queue::tests::depth"),
        ("not ok 12 - the queue survives a restart", "the queue survives a restart"),
        ("  ✕ keeps the port (12 ms)", "keeps the port"),
    ],
)
def test_failed_tests_are_found_in_the_outputs_of_their_runners(line: str, name: str) -> None:
    assert find_failed_tests(f"collected 2 items\n{line}\nok 13 - another\n{line}\n") == [name]
