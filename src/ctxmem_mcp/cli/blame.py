"""ctxmem-mcp blame FILE[:LINE]: which agents' edits made a file what it is, and the talk that decided each."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from ctxmem_mcp.cli import output
from ctxmem_mcp.cli.options import OPTIONS, READ, InProject, Json
from ctxmem_mcp.cli.runner import with_memory
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory.edits import FileEdit
from ctxmem_mcp.models import iso
from ctxmem_mcp.projects import find_project

commands = typer.Typer()

_TALK_CHARS = 300
_GIT_SECONDS = 10.0


@commands.command(rich_help_panel=READ)
def blame(
    file: Annotated[str, typer.Argument(metavar="FILE[:LINE]", help="A file, and perhaps a line's number.")],
    limit: Annotated[int, typer.Option(metavar="COUNT", min=1, help="Maximum number of edits to print.")] = 5,
    project: InProject = None,
    as_json: Json = False,
) -> None:
    """Print agents' edits of a file, newest first, with the talk that decided each.

    With a line's number, only the edits that wrote the line. If no edit has its text, git says when it was written, and
    the last edits before that are printed.
    """
    path, number = _parse(file)
    folder = Path(os.path.abspath(path)).parent
    in_project = find_project(project or folder)
    root = next((one for one in in_project.folders if Path(os.path.abspath(path)).is_relative_to(one)), None)
    name = path if root is None else str(Path(os.path.abspath(path)).relative_to(root))
    line = None if number is None else _read_line(path, number)
    edits = with_memory(OPTIONS, lambda m: m.file_edits(name, project=in_project, line=line, limit=limit))
    if line is not None and not edits and (at := _written_at(path, number or 0)) is not None:
        edits = with_memory(OPTIONS, lambda m: m.file_edits(name, project=in_project, limit=10_000))
        edits = [edit for edit in edits if edit.at <= at][:limit]
    if as_json:
        output.print_json([_record(edit) for edit in edits])
        return
    if line is not None:
        output.write(f"{path}:{number}: {line.strip()}")
    for edit in edits:
        _print_edit(edit)
    if not edits:
        typer.echo("No agent's edit of it is stored.")


def _parse(file: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(.+):(\d+)", file)
    if match and not os.path.exists(file):
        return match[1], int(match[2])
    return file, None


def _read_line(path: str, number: int) -> str:
    try:
        lines = Path(path).read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise InvalidArgument("FILE", f"can't be read: {error.strerror}", "Leave out the line.") from error
    if not 0 < number <= len(lines):
        raise InvalidArgument("LINE", f"must be from 1 to {len(lines)}; got {number}")
    return lines[number - 1]


def _written_at(path: str, number: int) -> float | None:
    """Returns when git's history says that a line was committed, in seconds since 1970; None if it does not know."""
    command = ["git", "blame", "--porcelain", "-L", f"{number},{number}", "--", os.path.basename(path)]
    try:
        done = subprocess.run(
            command, cwd=Path(os.path.abspath(path)).parent, capture_output=True, timeout=_GIT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(rb"^committer-time (\d+)$", done.stdout, re.MULTILINE)
    return float(match[1]) if match else None


def _print_edit(edit: FileEdit) -> None:
    at = output.local_time(datetime.fromtimestamp(edit.at, UTC).isoformat())
    output.write(f"{at}  {edit.conversation_id}  {edit.turn.short} {edit.turn.name or 'edit'}")
    for turn in edit.talk:
        text = " ".join(turn.content.split())
        shown = text if len(text) <= _TALK_CHARS else text[:_TALK_CHARS].rstrip() + "…"
        output.write(f"  {turn.short} {turn.role}: {shown}")


def _record(edit: FileEdit) -> dict[str, Any]:
    return {
        "conversation_id": edit.conversation_id,
        "turn_id": edit.turn.id,
        "at": iso(edit.at),
        "path": edit.path,
        "old": edit.old,
        "new": edit.new,
        "talk": [{key: value for key, value in asdict(turn).items() if key in _TURN_FIELDS} for turn in edit.talk],
    }


_TURN_FIELDS = ("index", "role", "content", "said_at")
