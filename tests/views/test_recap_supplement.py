"""What a recap leaves out: within its budget, and nothing that the recap states."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.models import Highlight, Node, Summary
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.views.recap_supplement import RecapWords, build_supplement

WORDS = "port relay socket driver 7412 setTimeout() retry schema index commit branch café 端口 --force t.py:8".split()
SENTENCES = st.lists(st.sampled_from(WORDS), min_size=3, max_size=9, unique=True).map(" ".join)
KINDS = st.sampled_from(["decision", "error", "fact", "outcome", "request"])
HIGHLIGHTS = st.lists(st.tuples(KINDS, st.integers(0, 19), SENTENCES), max_size=25)


def build(lines: list[tuple[str, int, str]], reasons: list[str], recap: str, budget: int) -> str:
    highlights = tuple(
        Highlight(kind, index, "tool" if kind == "error" else "assistant", text)  # type: ignore[arg-type]
        for kind, index, text in sorted(lines, key=lambda line: line[1])
    )
    node = Node(b"d" * 16, 0, 0, 19, 900, 1)
    said = [Highlight("fact", 5, "assistant", text) for text in reasons]
    return build_supplement(
        [(node, Summary("extractive", "Work", highlights))], [], said, recap, budget, tokenizer.count
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
