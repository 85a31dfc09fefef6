"""Without splintr tiktoken counts if it has the ranks, otherwise the count is an upper bound. Budgets hold anyway."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
import splintr
from hypothesis import given
from tiktoken_ext import openai_public

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text import tokenizer
from tests.text.test_tokenizer import RANKS, ranks_file, words

BUDGETS = (500, 2_000)
CHILD = """
import asyncio, json, logging, sys
from pathlib import Path
kind, data, budgets = sys.argv[1], Path(sys.argv[2]), json.loads(sys.argv[3])
if kind == "missing":
    sys.modules["splintr"] = None
else:
    import splintr
    class Broken:
        def encode_flat(self, text):
            return b"" if kind == "wrong" else 1 / 0
        encode_ordinary = encode_flat
    splintr.Tokenizer = type("Tokenizer", (), {"from_pretrained": staticmethod(lambda encoding: Broken())})
from ctxmem_mcp import NewTurn, Settings, open_memory
from ctxmem_mcp.text import tokenizer
logging.basicConfig(level="WARNING")
turns = []
for i in range(30):
    turns.append(NewTurn("user", f"Question {i}: why does the relay fail on port {7000 + i}? 日本語のテキスト 🧵 " * 4))
    turns.append(NewTurn("assistant", f"def relay_{i}(x):\\n    return {{'a': [x, {i}]}}\\n" * 9))

async def main():
    async with open_memory(Settings(data_dir=data, durability="normal")) as memory:
        await memory.sync(turns, conversation_id="c")
        views = [await memory.view("c", query="the relay on port 7021", token_budget=b) for b in budgets]
        views.append(await memory.hand_off("c", token_budget=2000))
        print(json.dumps({
            "method": tokenizer.method_of().name,
            "views": [view.render() for view in views],
            "counts": [tokenizer.count(turn.content) for turn in turns],
            "verified": await memory.verify("c"),
        }))

asyncio.run(main())
"""


def _run(kind: str, data: Path, cache: Path) -> tuple[dict[str, Any], str]:
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind, str(data), json.dumps(BUDGETS)],
        env={**os.environ, "TIKTOKEN_CACHE_DIR": str(cache)}, capture_output=True, text=True, check=True, timeout=110,
    )  # fmt: skip
    return json.loads(done.stdout), done.stderr


@pytest.mark.parametrize("kind", ["missing", "wrong", "failing"])
def test_budgets_hold_without_an_exact_tokenizer(tmp_path: Path, kind: str) -> None:
    found, log = _run(kind, tmp_path / "data", tmp_path / "none")
    assert found["method"] == tokenizer.BYTES
    assert log.count("counted as bytes") == 1
    for text, budget in zip(found["views"], (*BUDGETS, 2_000), strict=True):
        assert tokenizer.count(text) <= budget
    assert "7021" in found["views"][1]
    assert found["verified"] == []
    assert _verify(tmp_path / "data") == []


def test_tiktoken_counts_if_its_cache_has_the_ranks(tmp_path: Path) -> None:
    url = re.findall(r'"(https://[^"]+)"', inspect.getsource(openai_public.o200k_base))[0]
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(ranks_file("o200k_base"))
    found, log = _run("missing", tmp_path / "data", tmp_path)
    assert found["method"] == tokenizer.TIKTOKEN
    assert log.count("counted by tiktoken") == 1
    for text, budget in zip(found["views"], (*BUDGETS, 2_000), strict=True):
        assert tokenizer.count(text) <= budget
    assert found["verified"] == []
    assert _verify(tmp_path / "data") == []


def test_a_damaged_file_in_the_cache_is_not_used(tmp_path: Path) -> None:
    url = re.findall(r'"(https://[^"]+)"', inspect.getsource(openai_public.o200k_base))[0]
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"aGVsbG8= 0\n")
    found, _ = _run("missing", tmp_path / "data", tmp_path)
    assert found["method"] == tokenizer.BYTES


@given(words)
def test_there_are_never_more_tokens_than_bytes(text: str) -> None:
    for encoding in tokenizer.ENCODINGS:
        assert tokenizer.count(text, encoding) <= tokenizer.bytes_of(text)


@pytest.mark.parametrize("encoding", tokenizer.ENCODINGS)
def test_the_cached_file_is_the_one_that_tiktoken_verifies(encoding: str) -> None:
    source = inspect.getsource(getattr(openai_public, encoding))
    assert tokenizer._RANKS_URL.format(encoding) in source
    assert tokenizer._RANKS_SHA256[encoding] in source
    assert tokenizer.method_of(encoding).name == tokenizer.SPLINTR
    assert len(splintr.Tokenizer.from_pretrained(encoding).encode_flat("a")) == 4
    assert RANKS[encoding]


def test_doctor_says_how_tokens_are_counted(tmp_path: Path) -> None:
    code = "import sys; sys.modules['splintr'] = None; from ctxmem_mcp.__main__ import main; sys.exit(main())"
    environ = {**os.environ, "HOME": str(tmp_path), "TIKTOKEN_CACHE_DIR": "", "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, "--data-dir", str(tmp_path / "data"), "doctor", "--json"],
        env=environ, capture_output=True, text=True, check=False, timeout=110,
    )  # fmt: skip
    tokens = json.loads(done.stdout)["tokens"]
    assert tokens["counted_by"] == tokenizer.BYTES
    assert "splintr-rs" in tokens["faults"][0]["what"]
    assert done.returncode == 1


def _verify(data: Path) -> list[str]:
    async def work() -> list[str]:
        async with open_memory(Settings(data_dir=data)) as memory:
            return await memory.verify("c")

    return anyio.run(work)
