"""The benchmark of scale: its text does not repeat, a filled store is used again, and growth is computed right."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import pytest
from bench.scale import command, report, text

from ctxmem_mcp.models import NewTurn

CONVERSATIONS = [
    [
        NewTurn("user", f"Why does parseConfig in src/loader/config_{i}.py fail with 4{i}17 records?"),
        NewTurn("assistant", f"parseConfig reads config_{i}.py once; record 4{i}17 is the last that it understands."),
    ]
    for i in range(3)
]


def test_each_pass_has_other_names_and_numbers_and_the_same_ones_throughout() -> None:
    passes = list(islice(text.turns(CONVERSATIONS), 60))
    assert len({turn.content for turn in passes}) == len(passes)
    assert not any("parseConfig" in turn.content for turn in passes)
    for asked, answered in zip(passes[::2], passes[1::2], strict=True):
        assert asked.role == "user"
        assert asked.content.split()[2] == answered.content.split()[0]


def test_turns_that_are_left_out_do_not_change_the_others() -> None:
    assert list(islice(text.turns(CONVERSATIONS), 40))[17:] == list(islice(text.turns(CONVERSATIONS, 17), 23))


def test_the_exponent_is_that_of_the_growth() -> None:
    sizes = [1e6, 1e7, 1e8]
    assert report.exponent(sizes, [3.0, 3.0, 3.0]) == pytest.approx(0)
    assert report.exponent(sizes, [2e6, 2e7, 2e8]) == pytest.approx(1)
    assert report.exponent(sizes[:1], [3.0]) is None


def test_sizes_are_read_with_units() -> None:
    assert command.numbers("10M,500k,1000") == [1_000, 500_000, 10_000_000]


def test_a_small_run_measures_everything_and_fills_a_store_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CTXMEM_EVAL_DIR", str(_data(tmp_path)))
    arguments = ["--sizes", "2k", "--conversations", "", "--stores", "sqlite", "--folder", str(tmp_path / "store")]
    command.main([*arguments, "--operations", "2"])
    found = json.loads((tmp_path / "store" / "results.json").read_text())
    assert set(found) == {"sqlite-tokens-2000"}
    assert found["sqlite-tokens-2000"]["tokens"] >= 2_000
    assert {"append", "view", "search", "project view", "revert"} <= set(found["sqlite-tokens-2000"]["times"])
    filled = found["sqlite-tokens-2000"]["turns"]
    command.main([*arguments, "--operations", "0"])
    assert json.loads((tmp_path / "store" / "results.json").read_text())["sqlite-tokens-2000"]["turns"] == filled
    assert "| append |" in capsys.readouterr().out


def _data(folder: Path) -> Path:
    """Writes a small data set in the place of the real one."""
    turns = [
        {"id": f"t{i}", "role": ("user", "assistant")[i % 2], "name": None, "said_at": None,
         "content": f"We decided in step {i} that the parser of module_{i} skips empty lines, because of issue {i}42."}
        for i in range(200)
    ]  # fmt: skip
    question = {"id": "q", "query": "what did we decide about empty lines?", "category": "user", "evidence": [
        {"turn": "t4", "text": "empty lines"}]}  # fmt: skip
    (folder / "data").mkdir()
    with gzip.open(folder / "data" / "coding-dev.jsonl.gz", "wt") as lines:
        lines.write(json.dumps({"id": "c", "kind": "coding", "turns": turns, "questions": [question] * 5}) + "\n")
    return folder
