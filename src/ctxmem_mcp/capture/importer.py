"""Imports transcript files. Turns that are already stored are recognised and not stored again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath

from ctxmem_mcp.capture import archive, cursor_db, opencode_files, program_db
from ctxmem_mcp.capture.blanked_turns import restore_blanked_turns
from ctxmem_mcp.capture.file_text import check_not_packed, decode
from ctxmem_mcp.capture.locations import subagents_of
from ctxmem_mcp.capture.project_record import record_project
from ctxmem_mcp.capture.session_ids import conversation_id_for
from ctxmem_mcp.capture.sync_state import SyncRecords
from ctxmem_mcp.errors import ForgottenBranch, InvalidArgument
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import Source
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.host_text import user_text
from ctxmem_mcp.text.media import media_spans
from ctxmem_mcp.transcripts import registry
from ctxmem_mcp.transcripts.base import Transcript, head_of

# Turns per transaction: enough to be fast, few enough to show progress.
CHUNK_TURNS = 1_000
_SUFFIXES = (".jsonl", ".json", ".md", ".traj")
# Under these a file's text decides; .traj alone makes a file a run of SWE-agent's.
_TRIED_SUFFIXES = (".jsonl", ".json", ".md")
# The most characters of a session's first words that serve as its title.
_TITLE_CHARS = 60
_COMMAND = lazy_regex(r"/[\w:-]+")
_ARCHIVE_SUFFIXES = (".zip", ".gz", ".eval")
# The folder of Cursor's older transcripts, which are plain text.
_CURSOR_TEXTS = "agent-transcripts"

Progress = Callable[[int], None]
"""Called with the number of turns just processed."""


@dataclass(slots=True)
class ImportResult:
    """What importing one transcript did.

    Attributes:
        file: the transcript's path.
        agent: the program that wrote it.
        conversation_id: the conversation it became.
        turns: the number of turns on its current branch.
        known: turns that were already stored.
        new: turns that were stored now.
        tip: the id of the turn it ends at.
        title: its own title, or the beginning of the user's first words.
        warnings: what was skipped or repaired.
        notes: whom an exported file is from, and what was taken out of it.
    """

    file: str
    agent: str
    conversation_id: str
    turns: int
    known: int
    new: int
    tip: str
    title: str = ""
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_files(paths: Sequence[Path]) -> tuple[list[Path], set[Path], list[Path]]:
    """Finds the transcripts in these files and folders, with those of the sessions' sub-agents.

    Returns:
        The files, each once; the paths that were named themselves rather than found in a folder; and the files in the
        folders that don't have a transcript's suffix.

    Raises:
        InvalidArgument: a path does not exist, or is a pipe, a socket or a device.
    """
    named: set[Path] = set()
    found: dict[Path, Path] = {}
    others: list[Path] = []
    for path in paths:
        if not path.exists():
            raise InvalidArgument(f"PATH {path}", "does not exist", "Name a transcript or a folder.")
        if path.is_dir():
            inside = [file for file in sorted(path.rglob("*")) if file.is_file()]
            inside = [file for file in inside if not opencode_files.is_part_of_session(file)]
            files = [file for file in inside if _may_be_transcript(file)]
            others += [file for file in inside if not _may_be_transcript(file)]
        elif not path.is_file():  # reading a pipe waits for its writer, and reading a device may never end
            raise InvalidArgument(
                f"PATH {path}", "is neither a file nor a folder", "Save its content to a file, and import that."
            )
        else:
            named.add(path)
            files = [path, *subagents_of(path)]
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values()), named, others


def _may_be_transcript(file: Path) -> bool:
    if file.suffix in program_db.SUFFIXES:
        return program_db.is_database(file)
    return file.suffix in (*_SUFFIXES, *_ARCHIVE_SUFFIXES) or (file.suffix == ".txt" and _CURSOR_TEXTS in file.parts)


def read(file: Path) -> Transcript:
    """Returns a file's transcript, with a warning if its text had to be repaired or its name is unusual.

    Raises:
        InvalidArgument: the file is in no known format.
        OSError: the file can't be read.
    """
    if cursor_db.is_cursor_db(file):
        return registry.parse(cursor_db.read_document(file), file.name)
    if opencode_files.is_session(file):
        return registry.parse(opencode_files.read_document(file), file.name)
    if program_db.is_database(file):
        return _joined([registry.parse(text, file.name) for text in program_db.read_documents(file)])
    return parse(file.read_bytes(), registry.name_for_parser(file))


def has_sessions_elsewhere(file: Path) -> bool:
    """Returns whether a file's own text is not its transcript: a database, or a session whose messages are files."""
    return opencode_files.is_session(file) or program_db.is_database(file)


def parse(raw: bytes, name: str) -> Transcript:
    """Returns the transcript in a file's bytes, as `read` does; name: as `registry.name_for_parser` returns it."""
    if archive.is_archive(raw):
        return _parse_archive(raw, name)
    check_not_packed(raw, name)
    text, warnings = decode(raw)
    known_name = _with_known_suffix(name, text)
    if known_name != name:
        warnings = (*warnings, f"read as {known_name}: such files end in {PurePath(known_name).suffix}")
    transcript = registry.parse(text, known_name)
    return replace(transcript, warnings=(*warnings, *transcript.warnings))


def _parse_archive(raw: bytes, name: str) -> Transcript:
    """Returns the transcripts in an archive as threads; its files that are none are left out.

    Raises:
        InvalidArgument: none of its files is a transcript.
    """
    found: list[Transcript] = []
    for member, content in archive.unpack(raw, name):
        with suppress(InvalidArgument):
            found.append(parse(content, member))
    if not found:
        raise InvalidArgument(f"file {name}", "contains no transcript", "Unpack it, and import a file of it.")
    return _joined(found)


def _joined(transcripts: Sequence[Transcript]) -> Transcript:
    """Returns the only transcript, or one without turns whose threads they and their threads are."""
    if len(transcripts) == 1:
        return transcripts[0]
    threads = [one for outer in transcripts for one in (replace(outer, threads=()), *outer.threads)]
    return Transcript(transcripts[0].agent if transcripts else "", "", (), threads=tuple(threads))


def _with_known_suffix(name: str, text: str) -> str:
    """Returns the name, or, if that has a suffix that transcripts don't have, one under which a format knows the
    text."""
    head = head_of(text)
    if PurePath(name).suffix in _SUFFIXES or not text.strip() or registry.detect_format(name, head):
        return name
    names = [f"{name}{suffix}" for suffix in _TRIED_SUFFIXES]
    stems = [f"{name.removesuffix(PurePath(name).suffix)}{suffix}" for suffix in _TRIED_SUFFIXES]
    return next((other for other in (*stems, *names) if registry.detect_format(other, head)), name)


def with_threads(transcripts: Sequence[tuple[Path, Transcript]]) -> Iterator[tuple[Path, Transcript]]:
    """Yields the transcripts and their threads, each with its file. A thread that is in a file of its own among these
    is taken from that file."""
    in_files = {transcript.session_id for _, transcript in transcripts if transcript.session_id}
    for file, transcript in transcripts:
        yield file, transcript
        for thread in transcript.threads:
            if thread.session_id not in in_files:
                yield file, thread


def title_of(transcript: Transcript) -> str:
    """Returns a transcript's own title, or the beginning of the user's first words."""
    said = (
        user_text(turn.content) for turn in transcript.turns if turn.role == "user" and not media_spans(turn.content)
    )
    # A command of the agent alone, such as /mode, says nothing.
    first = next((text for text in said if text.strip() and not _COMMAND.fullmatch(text.strip())), "")
    title = " ".join((transcript.title or first[: 4 * _TITLE_CHARS]).split())
    return title if len(title) <= _TITLE_CHARS else title[: _TITLE_CHARS - 1].rstrip() + "…"


async def import_transcript(
    memory: Memory,
    file: Path,
    transcript: Transcript,
    retention_days: int | None = None,
    progress: Progress = lambda _: None,
    *,
    include_abandoned: bool = True,
    again: bool = False,
) -> ImportResult | None:
    """Stores a transcript: first its abandoned branches, then its current one, so that the head is there.

    Branches that were forgotten are left out. Stored messages that are emptied in the file by now stay as they are.

    Args:
        memory: where to store it. The conversation's space is the folder the session worked in, its title the one that
            the file has, if any.
        file: the file it was read from, for the result.
        transcript: what to store.
        retention_days: days after its last append that a new conversation is kept; None: the configured default.
        progress: called after each transaction.
        include_abandoned: if false, the abandoned branches are already stored and are skipped.
        again: store it even if it was forgotten.

    Returns:
        What was stored; None if the transcript has no turns.

    Raises:
        Forgotten: its conversation was forgotten.
    """
    conversation = conversation_id_for(transcript.session_id)
    if conversation:
        transcript = await restore_blanked_turns(memory, conversation, transcript)
    branches = [*(transcript.abandoned_branches if include_abandoned else ()), transcript.turns]
    branches = [branch for branch in branches if branch]
    if not branches:
        return None
    if again:
        await memory.allow_again(conversation, branches)
    known = new = 0
    tip = ""
    warnings = list(transcript.warnings)
    since = await memory.count_tombstones()
    for branch in branches:
        tip = ""
        try:
            for start in range(0, len(branch), CHUNK_TURNS):
                chunk = branch[start : start + CHUNK_TURNS]
                done = await memory.sync(
                    chunk,
                    conversation_id=conversation,
                    after=tip if start else None,
                    retention_days=retention_days,
                    space=transcript.cwd,
                    source=Source.TRANSCRIPT,
                    since=since,
                )
                conversation, tip = done.conversation_id, done.head or ""
                known, new = known + done.known, new + done.appended
                progress(len(chunk))
        except ForgottenBranch:
            warnings.append("a branch that was forgotten was left out")
    if transcript.title and conversation:
        await memory.set_title(conversation, transcript.title)
    if conversation:
        await memory.set_agent(conversation, transcript.agent)
        await record_project(memory, conversation, transcript.cwd)
    return ImportResult(
        str(file), transcript.agent, conversation or "", len(transcript.turns), known, new, tip,
        title_of(transcript), warnings,
    )  # fmt: skip


def forget_sync_records(data_dir: Path, files: Sequence[Path]) -> None:
    """Deletes the sync records of files that were imported by name: they are synced again, even if their conversation
    was forgotten before."""
    records = SyncRecords(data_dir)
    for file in files:
        records.remove(file)
