"""Reads the files that `import` is given, and shows what would be imported."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ctxmem_mcp.capture import importer, watcher
from ctxmem_mcp.cli import output, unknown_files
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts.base import Transcript

WARNINGS_SHOWN = 5


def preview(paths: Sequence[Path] | None, as_json: bool) -> int:
    """Prints what an import would read, and stores nothing.

    Args:
        paths: files and folders; None: what agents keep on this machine.
        as_json: print a JSON list.

    Returns:
        The exit code: 1 if a named file would be refused.
    """
    files, named, others = (watcher.all_transcripts(), set[Path](), []) if paths is None else importer.find_files(paths)
    read, refused, unknown = read_transcripts(files, named)
    found = [(file, one) for file, one in importer.with_threads(read) if one.turns or one.abandoned_branches]
    if as_json:
        output.print_json([_record(file, one) for file, one in found])
    else:
        for file, one in found:
            output.write(_line(file, one))
        turns = sum(len(one.turns) for _, one in found)
        output.write(f"Would import {output.counted(len(found), 'conversation')}: {output.counted(turns, 'turn')}.")
    if unknown or others:
        output.write(f"ctxmem-mcp: not known: {unknown_files.describe(unknown, others)}", sys.stderr)
    for message in refused:
        output.write(f"ctxmem-mcp: {message}", sys.stderr)
    return 1 if refused else 0


def _record(file: Path, one: Transcript) -> dict[str, object]:
    return {
        "file": str(file), "agent": one.agent, "session_id": one.session_id, "title": importer.title_of(one),
        "turns": len(one.turns), "branches": 1 + len(one.abandoned_branches), "last_said_at": _last_time(one),
        "warnings": list(one.warnings),
    }  # fmt: skip


def _line(file: Path, one: Transcript) -> str:
    day = (_last_time(one) or "")[:10]
    facts = filter(None, (one.agent, output.counted(len(one.turns), "turn"), day, importer.title_of(one), str(file)))
    return "  ".join(facts)


def _last_time(transcript: Transcript) -> str | None:
    return max((turn.said_at for turn in transcript.turns if turn.said_at), default=None)


# ---------------------------------------------------------------- files


def read_transcripts(
    files: list[Path], named: set[Path]
) -> tuple[list[tuple[Path, Transcript]], list[str], list[Path]]:
    """The transcripts; why other files could not be read; and the files that were only found in a folder and are in no
    known format."""
    read: list[tuple[Path, Transcript]] = []
    refused: list[str] = []
    unknown: list[Path] = []
    for file in files:
        try:
            transcript = importer.read(file)
            if file in named and not any(_branches(transcript)):
                refused.append(_without_turns(file, transcript))
            else:
                read.append((file, transcript))
        except InvalidArgument as error:
            if file in named:
                refused.append(str(error))
            else:
                unknown.append(file)
        except OSError as error:
            refused.append(f"{file} can't be read: {error.strerror}.")
    return read, refused, unknown


def _branches(transcript: Transcript) -> Iterator[tuple[NewTurn, ...]]:
    for one in (transcript, *transcript.threads):
        yield from (one.turns, *one.abandoned_branches)


def _without_turns(file: Path, transcript: Transcript) -> str:
    reasons = "; ".join(transcript.all_warnings[:WARNINGS_SHOWN]) or "nobody speaks in it yet"
    kind = f"is in the format of {transcript.agent}, but" if transcript.agent else "is a database that"
    return f"{file} {kind} holds no turns: {reasons}."
