"""Output of commands as an SVG picture, for papers and issues."""

from __future__ import annotations

import inspect
import io
import re
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, TerminalTheme

from ctxmem_mcp.cli.output import SafeConsole

WIDTH = 110
_RICH_TEMPLATE: str = inspect.signature(Console.export_svg).parameters["code_format"].default
# It names no font to download: a page that shows the picture makes no request.
_TEMPLATE = re.sub(r"@font-face \{\{.*?\}\}\s*", "", _RICH_TEMPLATE, flags=re.DOTALL)


def draw_svg(
    title: str, draw: Callable[[Console], None], *, theme: TerminalTheme = DEFAULT_TERMINAL_THEME, width: int = WIDTH
) -> str:
    """Draws the output of a function as SVG.

    Args:
        title: The title of the window around it.
        draw: Prints to the console. Control characters in the text are made visible.
        theme: The colours.
        width: The characters in a line.
    """
    console = SafeConsole(record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor", width=width,
                          highlight=False)  # fmt: skip
    draw(console)
    return console.export_svg(title=title, theme=theme, code_format=_TEMPLATE, unique_id="ctxmem")


def write_svg(path: Path, title: str, draw: Callable[[Console], None]) -> None:
    """Writes the picture of `draw_svg` to a file."""
    path.write_text(draw_svg(title, draw), encoding="utf-8")
