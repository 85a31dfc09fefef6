"""How far each transcript was stored: one small file per transcript, in a folder beside the conversations.

It only saves work: a record is checked before it is used, and without one a transcript is read from its start. A record
holds lengths, hashes and ids, and no text of a conversation. One fact is kept nowhere else: that a transcript's
conversation was forgotten or has expired, and must not come back on its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ctxmem_mcp.private_files import create_folder, open_new, read_file
from ctxmem_mcp.transcripts.base import ParseState

FOLDER = "followed"


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """The record of one transcript. The fields are the keys of its JSON file.

    Attributes:
        size: the file's size in bytes when it was read.
        changed: when the file was changed, in nanoseconds since 1970.
        bytes: how many bytes of whole lines were stored.
        digest: the hash of these bytes.
        conversation: the id of the conversation it became.
        tip: the id of the turn it ends at; empty before its first.
        left: the hash of its abandoned branches.
        threads: the hashes of the conversation ids of its threads.
        gone: its conversation was stored and no longer exists.
        growth: the parser's state after these bytes, if the format is resumable.
        by_events: the session is stored from its events; its transcript is ignored.
        titled: the file itself names the session.
        path: the transcript's path.
    """

    size: int = -1
    changed: int = 0
    bytes: int = 0
    digest: str = ""
    conversation: str = ""
    tip: str = ""
    left: str = ""
    threads: tuple[str, ...] = ()
    gone: bool = False
    growth: ParseState | None = None
    by_events: bool = False
    titled: bool = False
    path: str = ""


GONE = SyncRecord(gone=True)


class SyncRecords:
    """The records of one data folder. A missing or unreadable record reads as an empty one."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def get(self, transcript: Path) -> SyncRecord:
        return _read(self._transcript_file(transcript))

    def put(self, transcript: Path, record: SyncRecord) -> None:
        _write(self._transcript_file(transcript), replace(record, path="" if record.gone else str(transcript)))

    def recent(self, seconds: float) -> list[SyncRecord]:
        """Returns the records of transcripts that were stored in the last seconds, without those that are gone."""
        records = [_read(file) for file in self._files() if _is_recent(file, seconds)]
        return [record for record in records if record.path and not record.gone]

    def remove(self, transcript: Path) -> None:
        """Deletes a transcript's record: it is read from its start, and stored again even if it was forgotten."""
        self._transcript_file(transcript).unlink(missing_ok=True)
        # An agent whose sessions are stored from events names its transcripts after them.
        if self.of_conversation(transcript.stem).gone:
            self._conversation_file(transcript.stem).unlink(missing_ok=True)

    def of_conversation(self, conversation_id: str) -> SyncRecord:
        """Returns the record of a conversation that is stored from its events, whichever its transcript is."""
        return _read(self._conversation_file(conversation_id))

    def mark_by_events(self, conversation_id: str) -> None:
        """Records that a conversation is stored from its events."""
        _write(self._conversation_file(conversation_id), SyncRecord(conversation=conversation_id, by_events=True))

    def mark_gone(self, conversation_ids: Collection[str]) -> None:
        """Records that these conversations are gone, so that their transcripts are ignored."""
        for file in self._files():
            if _read(file).conversation in conversation_ids:
                _write(file, GONE)

    def _files(self) -> Iterator[Path]:
        try:
            yield from sorted(self._folder.glob("*.json"))
        except OSError:
            return

    def _conversation_file(self, conversation_id: str) -> Path:
        return self._folder / f"{digest_of(b'events of ' + conversation_id.encode())}.json"

    def _transcript_file(self, transcript: Path) -> Path:
        return self._folder / f"{digest_of(os.fsencode(transcript.resolve()))}.json"


def digest_of(raw: bytes) -> str:
    """Returns a 128-bit hash, in hex."""
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _is_recent(file: Path, seconds: float) -> bool:
    try:
        return time.time() - file.stat().st_mtime < seconds
    except OSError:
        return False


def _read(file: Path) -> SyncRecord:
    try:
        return SyncRecord(**json.loads(read_file(file)))
    except (OSError, ValueError, TypeError):
        return SyncRecord()


def _write(file: Path, record: SyncRecord) -> None:
    """Replaces the file in one step."""
    create_folder(file.parent)
    unfinished = file.with_suffix(f".{os.getpid()}.aside")
    unfinished.unlink(missing_ok=True)  # of a killed process that had the same number
    with os.fdopen(open_new(unfinished), "w", encoding="utf-8") as stream:
        json.dump(asdict(record), stream, separators=(",", ":"))
    unfinished.replace(file)
