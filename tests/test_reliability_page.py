"""The page about reliability names tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
_FILE = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`|`::(test_\w+)`")


def test_every_test_that_the_page_names_exists() -> None:
    page = (ROOT / "docs" / "reliability.md").read_text("utf-8")
    file, named = "", 0
    for match in _FILE.finditer(page):
        file, name = match[1] or file, match[2] or match[3]
        text = (ROOT / file).read_text("utf-8")
        assert name is None or re.search(rf"def {name}\b", text), (file, name)
        named += name is not None
    assert named > 50
