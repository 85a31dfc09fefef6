"""The summaries of the example session alone tell what happened in it."""

from __future__ import annotations

from ctxmem_mcp.models import Summary
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.summarizers.sections import example_session, split_into_sections, summarize_sections

EXPECTED_OUTLINE = """\
Token estimation function refactoring
├── Refactor the token estimation function; tests pass
├── Refactoring to support integer inputs; tests pass
├── Error: "exceeds the character limit"
│   └── Fixed by changing test params from strings to integers
└── Variable name refactoring; tests pass"""


def ending_texts(summary: Summary) -> list[str]:
    lines = summary.highlights
    return [line.text for line in lines if line.kind == "ending"]


def draw_outline(title: str, children: list[Summary]) -> str:
    rows = [title]
    for position, child in enumerate(children):
        last = position == len(children) - 1
        rows.append(("└── " if last else "├── ") + child.title)
        rows += [("    " if last else "│   ") + "└── " + ending for ending in ending_texts(child)]
    return "\n".join(rows)


def test_the_outline_of_the_example_tells_what_happened() -> None:
    children = summarize_sections(split_into_sections(example_session()))
    root = ExtractiveSummarizer().summarize_parent(children)
    assert draw_outline(root.title, [summary for _, summary in children]) == EXPECTED_OUTLINE


def test_the_root_has_the_error_with_its_ending_and_the_users_rules() -> None:
    root = ExtractiveSummarizer().summarize_parent(summarize_sections(split_into_sections(example_session())))
    kinds = [line.kind for line in root.highlights]
    assert kinds.index("ending") == max(i for i, kind in enumerate(kinds) if kind == "error") + 1
    assert any("Don't rename the parameter `kind`" in line.text for line in root.highlights)


def test_every_request_of_the_example_is_a_highlight_with_its_turn() -> None:
    turns = example_session()
    summaries = [summary for _, summary in summarize_sections(split_into_sections(turns))]
    request_indexes = {line.index for s in summaries for line in s.highlights if line.kind == "request"}
    assert request_indexes == {turn.index for turn in turns if turn.role == "user"}
