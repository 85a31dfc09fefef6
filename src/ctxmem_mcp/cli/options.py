"""The options and arguments that commands share, and the headings of the command list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ctxmem_mcp.agents import AGENTS
from ctxmem_mcp.cli.runner import GlobalOptions

# Those before the command.
OPTIONS = GlobalOptions()
HOOK_AGENTS = [agent.id for agent in AGENTS.values() if agent.events]

# The headings of the command list.
SETUP, CAPTURE, READ, CHANGE, SERVER = "Set up", "Capture and transfer", "Read", "Change", "Serve"

Conversation = Annotated[
    str, typer.Argument(metavar="ID", help='Conversation id, a unique prefix of one, or "last".', show_default=False)
]
OptionalConversation = Annotated[
    str | None,
    typer.Argument(metavar="ID", help='Conversation id, a unique prefix of one, or "last".', show_default=False),
]
ConversationOrQuery = Annotated[
    str | None,
    typer.Argument(
        metavar="ID", help='Conversation id, a unique prefix of one, or "last"; with --project, the query.',
        show_default=False,
    ),
]  # fmt: skip
InProject = Annotated[
    str | None,
    typer.Option(
        "--project", metavar="DIR", show_default=False,
        help="All sessions of the project in this folder: its git repository with all worktrees; or a space.",
    ),
]  # fmt: skip
Svg = Annotated[
    Path | None,
    typer.Option("--svg", metavar="FILE", help="Write it as an SVG picture to a file.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Budget = Annotated[int, typer.Option("--budget", "-b", metavar="TOKENS", min=1, help="Token budget of the output.")]
