"""Brings transcript files into the memory. What is known already is found and not stored again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctxmem_mcp.capture import cursor_db
from ctxmem_mcp.capture.locations import subagents_of
from ctxmem_mcp.capture.sync_state import SyncRecords
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import Transcript

# Turns per transaction: enough to be fast, little enough to show how far it is.
CHUNK_TURNS = 1_000
_SUFFIXES = (".jsonl", ".json", ".md", ".traj")
# The folder of Cursor's older transcripts, which are plain text.
_TEXTS = "agent-transcripts"
_NO_ID = re.compile(r"[^A-Za-z0-9._:@-]+")
ID_CHARS_MAX = 128

Progress = Callable[[int], None]


@dataclass(slots=True)
class ImportResult:
    """What one transcript gave. turns: those on its branches; new: stored now, the others were known.

    tip: the turn it ends at.
    """

    file: str
    agent: str
    conversation_id: str
    turns: int
    known: int
    new: int
    tip: str
    warnings: list[str] = field(default_factory=list)


def find_files(paths: Sequence[Path]) -> tuple[list[Path], set[Path]]:
    """The files to read, each once, and those of them that were named and not merely found in a folder.

    A session's sub-agents lie in a folder of its name: they come along.
    """
    named: set[Path] = set()
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise InvalidArgument(f"PATH {path}", "is not there", "Name a transcript, or a folder of them.")
        if path.is_dir():
            beside = [file for file in sorted(path.rglob("*")) if _may_be_one(file) and file.is_file()]
        else:
            named.add(path)
            beside = [path, *subagents_of(path)]
        for file in beside:
            found.setdefault(file.resolve(), file)
    return list(found.values()), named


def _may_be_one(file: Path) -> bool:
    return file.suffix in _SUFFIXES or (file.suffix == ".txt" and _TEXTS in file.parts)


def read(file: Path) -> Transcript:
    """A file's transcript. Bytes that are no UTF-8 become U+FFFD, with a warning."""
    if cursor_db.is_cursor_db(file):
        return registry.parse(cursor_db.read_document(file), file.name)
    return parse(file.read_bytes(), registry.name_for_parser(file))


def parse(raw: bytes, name: str) -> Transcript:
    """The transcript that these bytes of a file of that name are."""
    text, mended = decode(raw)
    transcript = registry.parse(text, name)
    return replace(transcript, warnings=(*mended, *transcript.warnings))


def decode(raw: bytes) -> tuple[str, tuple[str, ...]]:
    """A file's text, and what had to be mended in it."""
    try:
        return raw.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        warning = f"byte {error.start}: is no UTF-8 and was replaced by U+FFFD"
        return raw.decode("utf-8-sig", "replace"), (warning,)


def with_threads(transcripts: Sequence[tuple[Path, Transcript]]) -> Iterator[tuple[Path, Transcript]]:
    """Transcripts and their threads side by side; a thread that has a file of its own comes from that."""
    of_files = {transcript.session_id for _, transcript in transcripts if transcript.session_id}
    for file, transcript in transcripts:
        yield file, transcript
        for thread in transcript.threads:
            if thread.session_id not in of_files:
                yield file, thread


async def import_transcript(
    memory: Memory,
    file: Path,
    transcript: Transcript,
    retention_days: int | None = None,
    progress: Progress = lambda _: None,
    *,
    include_left: bool = True,
) -> ImportResult | None:
    """Stores a transcript: first the ways it was rewound from, unless these are known (left_too), then the way it
    stands, so that the head is there. Its space is the folder it was worked in."""
    ways = [way for way in (*(transcript.abandoned_branches if include_left else ()), transcript.turns) if way]
    if not ways:
        return None
    conversation = conversation_id_for(transcript.session_id)
    known = new = 0
    tip = ""
    for way in ways:
        for start in range(0, len(way), CHUNK_TURNS):
            chunk = way[start : start + CHUNK_TURNS]
            done = await memory.sync(
                chunk,
                conversation_id=conversation,
                after=tip if start else None,
                retention_days=retention_days,
                space=transcript.cwd,
            )
            conversation, tip = done.conversation_id, done.head or ""
            known, new = known + done.known, new + done.appended
            progress(len(chunk))
    return ImportResult(
        str(file), transcript.agent, conversation or "", len(transcript.turns), known, new, tip,
        list(transcript.warnings),
    )  # fmt: skip


def forget_sync_records(data_dir: Path, files: Sequence[Path]) -> None:
    """Files imported by name are followed again, even those that were forgotten before."""
    records = SyncRecords(data_dir)
    for file in files:
        records.remove(file)


def conversation_id_for(session_id: str) -> str | None:
    """The agent's own id of a session where it can serve as one of ours; none where it has none."""
    fit = _NO_ID.sub("-", session_id).strip("._:@-")[:ID_CHARS_MAX]
    return fit or None
