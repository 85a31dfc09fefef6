"""One JSON document, valid or broken: everything before a break is read."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.transcripts import openai
from ctxmem_mcp.transcripts.base import ParseLog
from ctxmem_mcp.transcripts.json_documents import read_document
from ctxmem_mcp.transcripts.json_lines import read_rows
from tests.transcripts.damage import VALUES

LISTS = st.lists(VALUES, min_size=1, max_size=6)


def test_a_valid_document_gives_no_warning() -> None:
    log = ParseLog()
    assert read_document('{"a": [1, "}"]}', log) == {"a": [1, "}"]}
    assert log.warnings == []


def test_a_document_that_is_cut_off_gives_its_complete_values_and_a_warning_with_the_line() -> None:
    log = ParseLog()
    assert read_document('{"title": "x",\n "said": ["a\\"]", {"b": 1, "c": "cut o', log) == {
        "title": "x",
        "said": ['a"]', {"b": 1}],
    }
    assert [warning.split(":")[0] for warning in log.warnings] == ["line 2"]


def test_the_part_before_garbage_or_deep_nesting_is_read() -> None:
    assert read_document("[1, nul]", ParseLog()) == [1]
    assert read_document('{"a": 1}, more', ParseLog()) == {"a": 1}
    assert read_document("", ParseLog()) is None
    assert read_document('{"a": 1, "b": ' + "[" * 100_000, ParseLog())["a"] == 1


def test_a_number_of_more_digits_than_python_converts_costs_nothing() -> None:
    log, digits = ParseLog(), "9" * 5_000
    assert read_document(f'{{"a": 12, "b": {digits}, "c": "x"}}', log) == {"a": 12, "b": digits, "c": "x"}
    assert [*read_rows(f'{{"a": 1, "b": -{digits}}}\n{{"a": 2}}', log)] == [
        (1, {"a": 1, "b": f"-{digits}"}),
        (2, {"a": 2}),
    ]
    assert log.warnings == []
    rows = f'[{{"role": "user", "content": "Hi", "id": {digits}}}]'
    assert [turn.content for turn in openai.parse(rows, "chat.json").turns] == ["Hi"]


@given(LISTS, st.data())
def test_complete_values_before_a_cut_are_read(values: list[object], data: st.DataObject) -> None:
    texts = [json.dumps(value) for value in values]
    count = data.draw(st.integers(0, len(texts)))
    start = "[" + "".join(text + "," for text in texts[:count])
    cut = start + "".join(texts[count : count + 1])[: data.draw(st.integers(0, 30))]
    assert read_document(cut, ParseLog())[:count] == values[:count]
