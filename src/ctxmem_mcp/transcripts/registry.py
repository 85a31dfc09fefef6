"""Which format a file is in, and its transcript. Every format is a module with `looks_like` and `parse`."""

from __future__ import annotations

from importlib import import_module
from pathlib import PurePath
from typing import Any, Protocol, cast

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import claude_code
from ctxmem_mcp.transcripts.base import Transcript
from ctxmem_mcp.transcripts.cline.parser import SESSION_SUFFIX, TASK_FILE

# Asked in this order; the last ones take what the ones before them would read better.
FORMATS = (
    "claude_code", "codex", "pi", "cursor", "cline", "swe_agent", "specstory", "aider", "chatgpt", "anthropic",
    "openai", "jsonl",
)  # fmt: skip
# A file's kind shows in its first lines.
LOOKED_AT_CHARS = 200_000


class Format(Protocol):
    def looks_like(self, name: str, head: str) -> bool:
        """Whether a file of this name that begins so is in this format."""

    def parse(self, text: str, name: str) -> Transcript:
        """The file's transcript; name is the file's, with its folder where that one names the session (name_of)."""


def name_of(file: PurePath) -> str:
    """What a parser is told a file is called: with its folder where the folder names the session."""
    in_session = file.name == TASK_FILE or file.name.endswith(SESSION_SUFFIX)
    return f"{file.parent.name}/{file.name}" if in_session else file.name


def parse(text: str, name: str) -> Transcript:
    """The transcript in a file. Raises InvalidArgument when no format fits."""
    found = format_of(name, text[:LOOKED_AT_CHARS])
    if found is None:
        raise InvalidArgument(
            f"file {name}",
            f"is in no format that is known ({', '.join(known.replace('_', ' ') for known in FORMATS)})",
            'JSON Lines of turns always work: {"role": "user", "content": "..."} on each line.',
        )
    return found.parse(text, name)


def format_of(name: str, head: str) -> Format | None:
    for known in FORMATS:
        module = cast("Format", import_module(f"ctxmem_mcp.transcripts.{known}"))
        if module.looks_like(name, head):
            return module
    return None


# ---------------------------------------------------------------- files that grow

Growth = dict[str, Any]


def begun(text: str, name: str) -> tuple[Transcript, Growth | None]:
    """The transcript in a file, and what going on from there needs when the file has grown; None where it has to be
    read whole again. Raises InvalidArgument when no format fits."""
    if claude_code.looks_like(name, text[:LOOKED_AT_CHARS]):
        return claude_code.begun(text, name)
    return parse(text, name), None


def grown(growth: Growth, text: str) -> tuple[tuple[NewTurn, ...], Growth] | None:
    """The turns that the lines behind add, and what going on from there needs; None where only the whole file
    tells."""
    return claude_code.grown(growth, text)
