"""The known transcript formats, and detection of a file's format. `base.Format` documents what a format provides."""

from __future__ import annotations

from importlib import import_module
from pathlib import PurePath
from typing import cast

from ctxmem_mcp.agents import CLINE_SESSION_SUFFIX, CLINE_TASK_FILE
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import claude_code
from ctxmem_mcp.transcripts.base import Format, ParseState, ResumableFormat, Transcript

# The modules (`base.Format`) in the order they are tried. The last ones are general: they would also accept files that
# a format before them reads better.
FORMATS = (
    "claude_code", "codex", "pi", "cursor", "cline", "swe_agent", "specstory", "aider", "chatgpt", "anthropic",
    "openai", "jsonl",
)  # fmt: skip
# How much of a file `detect_format` needs: a format shows in the first lines.
HEAD_CHARS = 200_000
_BLANK = " \t\r\n\0\ufeff"
# The one format that is resumable so far.
_RESUMABLE: ResumableFormat = claude_code


def name_for_parser(file: PurePath) -> str:
    """Returns a file's name as parsers take it: with its folder if the folder names the session, as Cline's does."""
    in_session_folder = file.name == CLINE_TASK_FILE or file.name.endswith(CLINE_SESSION_SUFFIX)
    return f"{file.parent.name}/{file.name}" if in_session_folder else file.name


def parse(text: str, name: str) -> Transcript:
    """Returns the transcript in a file.

    Args:
        text: the whole file.
        name: the file's name, as `name_for_parser` returns it.

    Raises:
        InvalidArgument: the file is in no known format.
    """
    if not text.strip(_BLANK):
        raise InvalidArgument(f"file {name}", "is empty", "Name a file that holds a transcript.")
    found = detect_format(name, text[:HEAD_CHARS])
    if found is None:
        raise InvalidArgument(
            f"file {name}",
            f"is in none of the known formats ({', '.join(known.replace('_', ' ') for known in FORMATS)})",
            'JSON Lines of turns always work: one {"role": "user", "content": "..."} per line.',
        )
    return _not_empty(found.parse(text, name), name)


def _not_empty(transcript: Transcript, name: str) -> Transcript:
    """Raises InvalidArgument for a transcript whose rows carry words of which the parser understands none."""
    if transcript.unread and not transcript.turns and not transcript.threads:
        raise InvalidArgument(
            f"file {name}",
            f"looks like {transcript.agent}'s, but {transcript.warnings[0]}",
            'JSON Lines of turns always work: one {"role": "user", "content": "..."} per line.',
        )
    return transcript


def detect_format(name: str, head: str) -> Format | None:
    """Returns the first format that recognises a file, or None.

    Args:
        name: the file's name, as `name_for_parser` returns it.
        head: the file's first `HEAD_CHARS` characters.
    """
    for known in FORMATS:
        module = cast("Format", import_module(f"ctxmem_mcp.transcripts.{known}"))
        if module.looks_like(name, head):
            return module
    return None


# ---------------------------------------------------------------- files that grow


def parse_resumable(text: str, name: str) -> tuple[Transcript, ParseState | None]:
    """Returns what `parse` returns, and the state from which `resume` continues when the file has grown.

    The state is None if the format is not resumable: a grown file has to be parsed again from its beginning.

    Raises:
        InvalidArgument: the file is in no known format.
    """
    if _RESUMABLE.looks_like(name, text[:HEAD_CHARS]):
        transcript, state = _RESUMABLE.parse_resumable(text, name)
        return _not_empty(transcript, name), state
    return parse(text, name), None


def resume(state: ParseState, text: str) -> tuple[tuple[NewTurn, ...], ParseState] | None:
    """Parses the lines that were appended to a file. See `base.ResumableFormat.resume`."""
    return _RESUMABLE.resume(state, text)
