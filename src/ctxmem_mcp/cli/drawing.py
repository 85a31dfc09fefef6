"""Output of commands as an SVG picture, for papers and issues."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME, TerminalTheme

from ctxmem_mcp.cli.output import SafeConsole

WIDTH = 110
# It names no font to download: a page that shows the picture makes no request.
_TEMPLATE = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def draw_svg(
    title: str, draw: Callable[[Console], None], *, theme: TerminalTheme = DEFAULT_TERMINAL_THEME, width: int = WIDTH
) -> str:
    """Returns what is printed to a console, as SVG.

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
    """Writes what is printed to a console to a file."""
    path.write_text(draw_svg(title, draw), encoding="utf-8")
