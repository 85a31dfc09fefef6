"""Which statement replaces an earlier one."""

from __future__ import annotations

import pytest
from bench.replaced import load_pairs

from ctxmem_mcp.text.replacements import Statement, find_replaced, replaces, statement


def stated(*texts: str) -> list[tuple[int, Statement]]:
    return [(i, found) for i, text in enumerate(texts) if (found := statement(text, "en"))]


def test_no_near_miss_is_taken_for_a_replacement_and_most_replacements_are_found() -> None:
    pairs = list(load_pairs())
    assert [pair.name for pair in pairs if pair.is_found and not pair.is_replaced] == []
    replaced = [pair for pair in pairs if pair.is_replaced]
    assert sum(pair.is_found for pair in replaced) >= 0.8 * len(replaced)


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        ("Keep the logs for 30 days.", "Keep the logs for 30 days."),
        ("Keep the logs for 30 days.", "Keep the backups for 90 days."),
        ("Write the parser in Rust.", "Now write the tests of the server."),
        ("Sort the list by name.", "Also sort the list by date now."),
    ],
)
def test_a_statement_that_repeats_or_adds_replaces_nothing(earlier: str, later: str) -> None:
    (_, before), (_, after) = stated(earlier, later)
    assert not replaces(after, before)


def test_of_several_replacements_the_last_holds() -> None:
    texts = ("Logs stay for 30 days.", "Make the logs stay for 14 days.", "Make the logs stay for 7 days.")
    assert find_replaced(stated(*texts)) == {0: 2, 1: 2}


def test_what_was_restored_is_not_replaced() -> None:
    texts = ("Logs stay for 30 days.", "Logs stay for 14 days.", "Logs stay for 30 days.")
    assert find_replaced(stated(*texts)) == {1: 2}


def test_a_text_too_long_for_a_statement_is_none() -> None:
    assert statement("The logs stay for 30 days. " * 20, "en") is None
