"""How far each transcript was taken in: a small file for each, in a folder beside the conversations.

It saves work and nothing else: what it says is checked before it is believed, and without it a transcript is read from
its beginning. It holds lengths, hashes and ids, none of anybody's words. Only one thing is known here and nowhere
else: that a transcript's conversation was forgotten, or has expired, and is not to come back by itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FOLDER = "followed"


@dataclass(frozen=True, slots=True)
class SyncRecord:
    """What is known of a transcript.

    size and changed: of the file, when it was read. bytes: how many of them were taken in, whole lines; digest: of
    these. conversation: the id it became; tip: the turn it ends at, empty before its first. left: hash of the ways that
    were left. threads: hashes of the ids that its threads became. gone: its conversation was there and is not any
    more. growth: what the format needs to go on from here without what came before.
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
    growth: dict[str, Any] | None = None
    by_events: bool = False


GONE = SyncRecord(gone=True)


class SyncRecords:
    """The files of one data folder."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / FOLDER

    def get(self, transcript: Path) -> SyncRecord:
        return _read(self._file(transcript))

    def put(self, transcript: Path, record: SyncRecord) -> None:
        _write(self._file(transcript), record)

    def remove(self, transcript: Path) -> None:
        """Knows nothing of it any more: it is read from its beginning, and comes back if it was gone."""
        self._file(transcript).unlink(missing_ok=True)
        # An agent whose events tell its sessions calls their files after them.
        if self.of_conversation(transcript.stem).gone:
            self._conversation_file(transcript.stem).unlink(missing_ok=True)

    def of_conversation(self, conversation_id: str) -> SyncRecord:
        """What is known of a conversation that events tell, whichever its transcript is."""
        return _read(self._conversation_file(conversation_id))

    def mark_by_events(self, conversation_id: str) -> None:
        _write(self._conversation_file(conversation_id), SyncRecord(conversation=conversation_id, by_events=True))

    def mark_gone(self, conversation_ids: Collection[str]) -> None:
        """Notes that these conversations are gone: their transcripts are left alone."""
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

    def _file(self, transcript: Path) -> Path:
        return self._folder / f"{digest_of(os.fsencode(transcript.resolve()))}.json"


def digest_of(raw: bytes) -> str:
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def _read(file: Path) -> SyncRecord:
    """What stands there; nothing where that can't be read."""
    try:
        fields = json.loads(file.read_bytes())
        return SyncRecord(**fields)
    except (OSError, ValueError, TypeError):
        return SyncRecord()


def _write(file: Path, record: SyncRecord) -> None:
    """Whole or not at all."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = file.with_suffix(f".{os.getpid()}.aside")
    aside.write_text(json.dumps(asdict(record), separators=(",", ":")), "utf-8")
    aside.replace(file)
