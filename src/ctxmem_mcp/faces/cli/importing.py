"""Brings transcript files into the memory. What is known already is found and not stored again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.model import NewTurn
from ctxmem_mcp.transcripts import formats
from ctxmem_mcp.transcripts.contract import Transcript

# Turns per transaction: enough to be fast, little enough to show how far it is.
CHUNK_TURNS = 1_000
_SUFFIXES = (".jsonl", ".json", ".md", ".traj")
_NO_ID = re.compile(r"[^A-Za-z0-9._:@-]+")
ID_CHARS_MAX = 128

Progress = Callable[[int], None]


@dataclass(slots=True)
class Imported:
    """What one transcript gave. turns: those on its branches; new: stored now, the others were known."""

    file: str
    agent: str
    conversation_id: str
    turns: int
    known: int
    new: int
    warnings: list[str] = field(default_factory=list)


def files_under(paths: Sequence[Path]) -> tuple[list[Path], set[Path]]:
    """The files to read, each once, and those of them that were named and not merely found in a folder.

    A Claude Code session's sub-agents lie in a folder of its name: they come along.
    """
    named: set[Path] = set()
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise InvalidArgument(f"PATH {path}", "is not there", "Name a transcript, or a folder of them.")
        if path.is_dir():
            beside = [file for file in sorted(path.rglob("*")) if file.suffix in _SUFFIXES and file.is_file()]
        else:
            named.add(path)
            beside = [path, *sorted(path.with_suffix("").glob("subagents/*.jsonl"))]
        for file in beside:
            found.setdefault(file.resolve(), file)
    return list(found.values()), named


def read(file: Path) -> Transcript:
    """A file's transcript. Bytes that are no UTF-8 become U+FFFD, with a warning."""
    raw = file.read_bytes()
    mended: tuple[str, ...] = ()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        text = raw.decode("utf-8-sig", "replace")
        mended = (f"byte {error.start}: is no UTF-8 and was replaced by U+FFFD",)
    transcript = formats.parse(text, file.name)
    return replace(transcript, warnings=(*mended, *transcript.warnings))


def apart(transcripts: Sequence[tuple[Path, Transcript]]) -> Iterator[tuple[Path, Transcript]]:
    """Transcripts and their threads side by side; a thread that has a file of its own comes from that."""
    of_files = {transcript.session_id for _, transcript in transcripts if transcript.session_id}
    for file, transcript in transcripts:
        yield file, transcript
        for thread in transcript.threads:
            if thread.session_id not in of_files:
                yield file, thread


async def bring_in(
    memory: Memory, file: Path, transcript: Transcript, retention_days: int | None, progress: Progress
) -> Imported | None:
    """Stores a transcript: first the ways it was rewound from, then the way it stands, so that the head is there."""
    ways = [way for way in (*transcript.left, transcript.turns) if way]
    if not ways:
        return None
    conversation = conversation_id_for(transcript.session_id)
    known = new = 0
    for way in ways:
        conversation, knew, added = await _bring_way(memory, way, conversation, retention_days, progress)
        known, new = known + knew, new + added
    state = await memory.info(conversation or "")
    return Imported(
        str(file), transcript.agent, state.conversation_id, len(transcript.turns), known, new,
        list(transcript.warnings),
    )  # fmt: skip


async def _bring_way(
    memory: Memory, turns: Sequence[NewTurn], conversation: str | None, days: int | None, progress: Progress
) -> tuple[str | None, int, int]:
    after: str | None = None
    known = new = 0
    for start in range(0, len(turns), CHUNK_TURNS):
        chunk = turns[start : start + CHUNK_TURNS]
        done = await memory.sync(chunk, conversation_id=conversation, after=after, retention_days=days)
        conversation, after = done.conversation_id, done.head
        known, new = known + done.known, new + done.appended
        progress(len(chunk))
    return conversation, known, new


def conversation_id_for(session_id: str) -> str | None:
    """The agent's own id of a session where it can serve as one of ours; none where it has none."""
    fit = _NO_ID.sub("-", session_id).strip("._:@-")[:ID_CHARS_MAX]
    return fit or None
