"""The end of a session, as listings show it."""

from __future__ import annotations

import pytest

from ctxmem_mcp.stores.listing import shorten_ending


@pytest.mark.parametrize(
    "text",
    [
        "It reads src/**/*.py and lib/**/*.py, then **/*.js and **/*.ts.",
        "Call f(**kwargs) and g(x, **more).",
        "It is {**first, **second} or {**first,**second}.",
        "2**10 and 3**4 are x ** y.",
        "Pass `**x**` and `a**b`.",
    ],
)
def test_asterisks_of_code_are_left(text: str) -> None:
    assert shorten_ending(text) == text


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("**Done:** all is **bold**, (**here**) and ***there***.", "Done: all is bold, (here) and there."),
        ("**Use `a**b` now.** Call f(**x), then **run** it.", "Use `a**b` now. Call f(**x), then run it."),
        ("## **Result**\nThe build is **green\nagain**.", "Result: The build is green again."),
        ("构建**完成**了。", "构建完成了。"),
    ],
)
def test_marks_of_bold_text_are_removed(text: str, line: str) -> None:
    assert shorten_ending(text) == line
