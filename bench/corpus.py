"""Text that anybody has: the Python standard library's own sources, cut into turns of about 200 tokens."""

from __future__ import annotations

import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from ctxmem_mcp.model import NewTurn

CHARS_A_TURN = 800


def turns(how_many: int, seed: int = 1) -> Iterator[NewTurn]:
    """A session of request, call, result, answer over and over, dated a minute apart."""
    texts = _texts(seed)
    for i in range(how_many):
        role, name, call = (("user", None, None), ("assistant", "Read", f"c{i}"), ("tool", None, f"c{i - 1}"),
                            ("assistant", None, None))[i % 4]  # fmt: skip
        minute = f"2026-{1 + i // 40_320 % 12:02d}-{1 + i // 1_440 % 28:02d}T{i // 60 % 24:02d}:{i % 60:02d}:00Z"
        yield NewTurn(role, next(texts), name, minute, call)  # type: ignore[arg-type]


def _texts(seed: int) -> Iterator[str]:
    """Never the same text twice: later rounds over the sources begin elsewhere in them."""
    files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
    random.Random(seed).shuffle(files)
    shift = 0
    while True:
        for file in files:
            try:
                source = file.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            for start in range(shift, len(source) - CHARS_A_TURN // 2, CHARS_A_TURN):
                yield source[start : start + CHARS_A_TURN]
        shift += 131


def questions(how_many: int, among: int, seed: int = 7) -> list[str]:
    """Questions in the words of turns spread over the first `among`: names and rare words, as people ask."""
    wanted = set(random.Random(seed).sample(range(among), min(how_many * 2, among)))
    asked = []
    for i, turn in enumerate(turns(among)):
        if i in wanted and (words := re.findall(r"[A-Za-z_]{5,}", turn.content)):
            asked.append("What did we find about " + " and ".join(sorted(set(words), key=len)[-4:]) + "?")
    return asked[:how_many]
