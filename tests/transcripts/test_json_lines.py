"""Lines as other programs leave them: several objects on one, or a part of one before another."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.transcripts.base import ParseLog
from ctxmem_mcp.transcripts.json_lines import read_rows

ROWS = st.dictionaries(
    st.text(max_size=6), st.text(max_size=12) | st.dictionaries(st.text(max_size=3), st.integers()), min_size=1
)


def read(text: str) -> tuple[list[dict[str, Any]], list[str]]:
    log = ParseLog()
    return [row for _, row in read_rows(text, log)], log.warnings


@given(st.lists(ROWS, min_size=2, max_size=4), st.sampled_from(["", " ", "\0\0", "\ufeff"]))
def test_every_whole_object_of_a_spliced_line_is_read(rows: list[dict[str, Any]], between: str) -> None:
    assert read(between.join(json.dumps(row) for row in rows) + "\n") == (rows, [])


@given(st.text(max_size=12), ROWS, st.data())
def test_a_whole_row_behind_a_torn_one_is_read(words: str, row: dict[str, Any], data: st.DataObject) -> None:
    torn = json.dumps({"type": "user", "message": {"role": "user", "content": words}, "uuid": "u"})
    torn = torn[: data.draw(st.integers(1, len(torn) - 1))]
    found, warnings = read(torn + json.dumps(row))
    assert found[-1] == row
    assert [warning.split(":")[0] for warning in warnings] == ["line 1"]


@pytest.mark.parametrize("line", ["{" * 20_000, '{"a":' * 20_000, '{"a":{}' * 20_000, "}{", '{"text": "{}{}'])
def test_a_line_without_a_whole_object_is_skipped_in_reasonable_time(line: str) -> None:
    found, warnings = read(line)
    assert (found, len(warnings)) == ([], 1)


def test_what_is_inside_a_torn_object_is_no_row() -> None:
    torn = '{"type": "user", "message": {"role": "user", "content": "hi"}, "uuid": "'
    found, warnings = read(torn + '{"type": "mode"}\n' + torn)
    assert (found, len(warnings)) == ([{"type": "mode"}], 2)
