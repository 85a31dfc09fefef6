"""The known transcript formats, and detection of a file's format. `base.Format` documents what a format provides."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import PurePath
from typing import cast

from ctxmem_mcp.agents import CLINE_SESSION_SUFFIX, CLINE_TASK_FILE
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import claude_code
from ctxmem_mcp.transcripts.base import Format, ParseState, ResumableFormat, Transcript, head_of
from ctxmem_mcp.transcripts.host_titles import plain_title

# The modules (`base.Format`) in the order they are tried. The last ones are general: they would also accept files that
# a format before them reads better.
FORMATS = (
    "claude_code", "codex", "pi", "cursor", "cline", "swe_agent", "specstory", "aider", "chatgpt", "claude_ai",
    "gemini_cli", "qwen_code", "copilot_chat", "copilot_cli", "opencode", "sillytavern", "oobabooga", "openwebui",
    "librechat", "chatbot_ui", "claude_code_web", "zed", "continue_dev", "goose", "openhands", "amp", "droid", "grok",
    "kiro", "inspect_ai", "ai_sdk", "gemini_contents", "langchain", "sharegpt", "responses", "message_lists",
    "anthropic", "openai", "jsonl",
)  # fmt: skip
# Another package adds a format with an entry point in this group that names a module with the two functions.
ENTRY_POINT_GROUP = "ctxmem_mcp.transcripts"
_log = logging.getLogger(__name__)
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
    found = detect_format(name, head_of(text))
    if found is None:
        raise InvalidArgument(
            f"file {name}",
            f"is in none of the known formats ({', '.join(known.replace('_', ' ') for known in FORMATS)})",
            'JSON Lines of turns always work: one {"role": "user", "content": "..."} per line.',
        )
    return _not_empty(_with_plain_titles(found.parse(text, name)), name)


def _with_plain_titles(transcript: Transcript) -> Transcript:
    """A transcript without a model's raw output in the place of its title or of a thread's."""
    threads = tuple(map(_with_plain_titles, transcript.threads))
    return replace(transcript, title=plain_title(transcript.title), threads=threads)


def _not_empty(transcript: Transcript, name: str) -> Transcript:
    """Raises InvalidArgument for a transcript whose rows carry words of which the parser understands none."""
    if transcript.unread and not transcript.turns and not transcript.threads:
        reason = next(iter(transcript.all_warnings), f"none of its {transcript.unread} rows with words was understood")
        raise InvalidArgument(
            f"file {name}",
            f"looks like {transcript.agent}'s, but {reason}",
            'JSON Lines of turns always work: one {"role": "user", "content": "..."} per line.',
        )
    return transcript


def detect_format(name: str, head: str) -> Format | None:
    """Returns the first format that recognises a file, or None.

    Args:
        name: the file's name, as `name_for_parser` returns it.
        head: the file's beginning, as `base.head_of` returns it.
    """
    own = (cast("Format", import_module(f"ctxmem_mcp.transcripts.{known}")) for known in FORMATS)
    return next((known for known in (*_installed_formats(), *own) if known.looks_like(name, head)), None)


@cache
def _installed_formats() -> tuple[Format, ...]:
    """Returns the formats of other packages, which come before the known ones. One that can't be loaded is logged."""
    found: list[Format] = []
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            found.append(cast("Format", entry_point.load()))
        except Exception as error:  # another package's code may raise anything
            _log.warning("The transcript format %s can't be loaded: %s", entry_point.value, error)
    return tuple(found)


# ---------------------------------------------------------------- files that grow


def parse_resumable(text: str, name: str) -> tuple[Transcript, ParseState | None]:
    """Returns what `parse` returns, and the state from which `resume` continues when the file has grown.

    The state is None if the format is not resumable: a grown file has to be parsed again from its beginning.

    Raises:
        InvalidArgument: the file is in no known format.
    """
    if _RESUMABLE.looks_like(name, head_of(text)):
        transcript, state = _RESUMABLE.parse_resumable(text, name)
        return _not_empty(_with_plain_titles(transcript), name), state
    return parse(text, name), None


def resume(state: ParseState, text: str) -> tuple[tuple[NewTurn, ...], ParseState] | None:
    """Parses the lines that were appended to a file. See `base.ResumableFormat.resume`."""
    return _RESUMABLE.resume(state, text)
