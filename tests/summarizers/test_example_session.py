"""The example session reads, by its summaries alone, as the story it tells."""

from __future__ import annotations

from ctxmem_mcp.models import Summary
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.summarizers.sections import example, sections, summarized

PICTURE = """\
Token estimation function refactoring
├── Refactor the token estimation function
├── Refactoring to support integer inputs
├── Error: "exceeds the character limit"
│   └── Fixed by changing test params from strings to integers
└── Variable name refactoring"""


def endings(summary: Summary) -> list[str]:
    lines = summary.highlights
    return [line.text for line in lines if line.kind == "ending"]


def drawn(title: str, children: list[Summary]) -> str:
    rows = [title]
    for place, child in enumerate(children):
        last = place == len(children) - 1
        rows.append(("└── " if last else "├── ") + child.title)
        rows += [("    " if last else "│   ") + "└── " + ending for ending in endings(child)]
    return "\n".join(rows)


def test_the_outline_of_the_example_is_its_story() -> None:
    children = summarized(sections(example()))
    root = ExtractiveSummarizer().summarize_parent(children)
    assert drawn(root.title, [summary for _, summary in children]) == PICTURE


def test_the_root_carries_the_error_with_its_ending_and_the_users_rules() -> None:
    root = ExtractiveSummarizer().summarize_parent(summarized(sections(example())))
    kinds = [line.kind for line in root.highlights]
    assert kinds.index("ending") == max(i for i, kind in enumerate(kinds) if kind == "error") + 1
    assert any("Don't rename the parameter `kind`" in line.text for line in root.highlights)


def test_every_request_of_the_example_stands_in_a_summary_with_its_turn() -> None:
    whole = example()
    told = {line.index for _, s in summarized(sections(whole)) for line in s.highlights if line.kind == "request"}
    assert told == {said.index for said in whole if said.role == "user"}
