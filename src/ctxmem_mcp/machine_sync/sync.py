"""Brings a data folder and a shared folder to the same state.

First everything that others have forgotten is forgotten, then their turns and redactions are taken over, then what
they lack is written, and at last the files that this makes superfluous are removed. Each step leaves both folders in
order, so a sync that was killed is simply repeated.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ctxmem_mcp import redaction
from ctxmem_mcp.composition import open_folder
from ctxmem_mcp.errors import CtxmemError, NotFound, StoreUnavailable
from ctxmem_mcp.file_lock import lock_file
from ctxmem_mcp.machine_sync.local_record import LocalRecord, machine_id
from ctxmem_mcp.machine_sync.shared_folder import CONVERSATION, Manifest, SharedFolder
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import to_new_turns
from ctxmem_mcp.private_files import SYNC
from ctxmem_mcp.stores.sqlite.conversation_files import FOLDER, file_name, fingerprint
from ctxmem_mcp.stores.sqlite.file_lifecycle import REPAIR_PREFIX
from ctxmem_mcp.stores.sqlite.snapshot import read_conversation_file
from ctxmem_mcp.transfer import merge_conversation

_CATALOG, _LOCK = "catalog.db", "lock"
LOCK_SECONDS = 60.0
# The folder in which a received file is opened; sweeps remove what killed processes leave of it.
_RECEIVED_PREFIX = f"{REPAIR_PREFIX}sync-"
_BYTES_AT_ONCE = 32 * 1024 * 1024


@dataclass(slots=True)
class SyncResult:
    """What a sync did.

    Attributes:
        received: How many turns were stored, by conversation.
        sent: The conversations that were written to the shared folder.
        forgotten: The conversations that were forgotten, whole or in part, because another machine had forgotten them.
        redacted: How many turns were redacted because they are elsewhere, by conversation.
        unchanged: How many conversations were the same on both sides.
        warnings: What could not be done.
    """

    received: dict[str, int] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    redacted: dict[str, int] = field(default_factory=dict)
    unchanged: int = 0
    warnings: list[str] = field(default_factory=list)


async def sync(memory: Memory, data_dir: Path, folder: SharedFolder) -> SyncResult:
    """Exchanges everything with a shared folder.

    Args:
        memory: A memory over the data folder. Other processes may use it meanwhile.
        data_dir: The data folder.
        folder: The shared folder.

    Raises:
        StoreUnavailable: The folder can't be reached, or another process is syncing.
    """
    async with lock_file(data_dir / SYNC / _LOCK, LOCK_SECONDS) as is_alone:
        if not is_alone:
            raise StoreUnavailable("Another process is syncing this data folder.", "Try again when it is done.")
        await asyncio.to_thread(_remove_received, data_dir)
        return await _Sync(memory, data_dir, folder).run()


class _Sync:
    """One sync."""

    def __init__(self, memory: Memory, data_dir: Path, folder: SharedFolder) -> None:
        self._memory, self._data_dir, self._folder = memory, data_dir, folder
        self._machine, self._record = machine_id(data_dir), LocalRecord.load(data_dir, folder.id)
        self._own, self._result = Manifest(), SyncResult()
        # Files in the folder that hold nothing that is not elsewhere, or nothing that may stay.
        self._superfluous: set[str] = set()

    async def run(self) -> SyncResult:
        await self._memory.index_all()
        listed = await asyncio.to_thread(self._folder.remote.list_names)
        for manifest in (await asyncio.to_thread(self._folder.manifests, listed)).values():
            self._own.take_in(manifest)
        for conversation in await self._local_ids():
            await self._forget_gone(conversation)
        names = {name for name in listed if name.endswith(CONVERSATION)}
        await self._receive(names)
        await self._memory.index_all()
        await self._send(names)
        await asyncio.to_thread(self._folder.write_manifest, self._machine, self._own)
        superfluous = (self._superfluous | self._replaced(names)) - set(self._own.files.values())
        await asyncio.to_thread(self._folder.remote.remove, superfluous & names)
        present = names | set(self._own.files.values())
        self._record.merged = {name: mark for name, mark in self._record.merged.items() if name in present}
        self._record.save(self._data_dir, self._folder.id)
        return self._result

    async def _local_ids(self) -> list[str]:
        return [one.conversation_id for one in await self._memory.all_conversations()]

    # ------------------------------------------------------------ what was forgotten

    async def _forget_gone(self, conversation: str) -> None:
        """Forgets the turns of a conversation that were forgotten elsewhere."""
        if not self._own.gone:
            return
        gone = await self._gone_turns(self._memory, conversation)
        for turn_id, mark in gone:
            if self._record.applied.get(mark) == self._own.gone[mark]:
                # It was forgotten here too, and somebody has imported it again.
                self._own.again[mark] = self._record.lifted[mark] = time.time()
                continue
            try:
                await self._memory.forget_from(conversation, turn_id)
            except NotFound:  # it went with an earlier one
                continue
            # Recorded afterwards: after a kill in between, a turn that is still there must not pass for one that
            # somebody has imported again.
            self._record.applied[mark] = self._own.gone[mark]
            self._record.save(self._data_dir, self._folder.id)
            if conversation not in self._result.forgotten:
                self._result.forgotten.append(conversation)

    async def _gone_turns(self, memory: Memory, conversation: str) -> list[tuple[str, str]]:
        """Returns the ids and the marks of turns that were forgotten, without those that follow one of them."""
        digests = [digest for digest, _ in await memory.turn_digests(conversation)]
        marks = {digest: self._folder.mark_of_turn(conversation, digest) for digest in digests}
        gone = {digest for digest, mark in marks.items() if self._own.is_gone(mark)}
        found: dict[str, str] = {}
        for tip in await memory.branches(conversation) if gone else ():
            for turn in await memory.history(conversation, turn_id=tip.id):
                if turn.digest in gone:
                    found[turn.id] = marks[turn.digest]
                    break
        return list(found.items())

    def _publish_gone(self, conversation: str, digests: Iterable[bytes]) -> None:
        """States that turns were forgotten on this machine."""
        for digest in digests:
            mark, now = self._folder.mark_of_turn(conversation, digest), time.time()
            self._own.gone[mark] = self._record.applied[mark] = max(now, self._own.again.get(mark, 0.0) + 1e-3)

    # ------------------------------------------------------------ receiving

    async def _receive(self, names: set[str]) -> None:
        local = {self._folder.mark_of_conversation(one) for one in await self._local_ids()}
        known = {name for name, mark in self._record.merged.items() if mark in local}
        # What was forgotten since is recognised when the files that hold it are read again.
        if self._record.tombstones != (tombstones := await self._memory.count_tombstones()):
            known, self._record.tombstones = set(), tombstones
        for conversation in await self._local_ids():
            known.add(await self._name_of(conversation))
        for name in sorted(names - known):
            raw = (await asyncio.to_thread(self._folder.read, [name])).get(name)
            if raw is None:
                continue  # removed since, or written for another key
            try:
                await self._merge(name, raw)
            except CtxmemError as error:
                self._result.warnings.append(f"{name} was not received: {error}")

    async def _merge(self, name: str, raw: bytes) -> None:
        prefix, parent = _RECEIVED_PREFIX, self._data_dir
        with tempfile.TemporaryDirectory(prefix=prefix, dir=parent) as temporary:
            file = Path(temporary) / f"received{CONVERSATION}"
            await asyncio.to_thread(file.write_bytes, raw)
            async with open_folder(Path(temporary), file) as copy:
                file.unlink()
                (info,) = (await copy.conversations(limit=1)).conversations
                if faults := await copy.verify(info.conversation_id):
                    self._result.warnings.append(f"{name} is damaged and was not received: {faults[0]}")
                    return
                await self._merge_copy(name, info.conversation_id, copy)

    async def _merge_copy(self, name: str, conversation: str, copy: Memory) -> None:
        for turn_id, _ in await self._gone_turns(copy, conversation):
            try:
                await copy.forget_from(conversation, turn_id)
            except NotFound:
                continue
            self._superfluous.add(name)
        try:
            there = await copy.info(conversation)
        except NotFound:  # all of it was forgotten
            return
        if there.expires <= time.time() and await self._memory.stored_head(conversation) is None:
            self._superfluous.add(name)
            return
        await self._allow_again(conversation, copy)
        new, forgotten = await merge_conversation(copy, conversation, self._memory)
        for turn_id in forgotten:
            self._publish_gone(conversation, [(await copy.turn(conversation, turn_id)).digest])
            self._superfluous.add(name)
        await self._redact_alike(conversation, copy)
        if new:
            self._result.received[conversation] = self._result.received.get(conversation, 0) + new
        self._record.merged[name] = self._folder.mark_of_conversation(conversation)

    async def _allow_again(self, conversation: str, copy: Memory) -> None:
        """Lifts this machine's tombstones of turns that somebody has imported again elsewhere, once for each time."""
        digests = [digest for digest, _ in await copy.turn_digests(conversation)] if self._own.again else []
        marks = {self._folder.mark_of_turn(conversation, digest) for digest in digests} & self._own.again.keys()
        due = {mark: self._own.again[mark] for mark in marks if not self._own.is_gone(mark)}
        if any(self._record.lifted.get(mark) != at for mark, at in due.items()):
            tips = await copy.branches(conversation)
            branches = [to_new_turns(await copy.history(conversation, turn_id=tip.id)) for tip in tips]
            await self._memory.allow_again(conversation, branches)
            self._record.lifted.update(due)
            self._record.save(self._data_dir, self._folder.id)

    async def _redact_alike(self, conversation: str, copy: Memory) -> None:
        """Redacts the turns that are redacted in the copy."""
        there = {digest for digest, is_redacted in await copy.turn_digests(conversation) if is_redacted}
        found = await self._memory.find_turns(there) if there else []
        if found:
            await redaction.redact(self._memory, self._data_dir, found)
            for one in found:
                self._result.redacted[one.conversation_id] = self._result.redacted.get(one.conversation_id, 0) + 1

    # ------------------------------------------------------------ sending

    async def _name_of(self, conversation: str) -> str:
        """Returns the name that the shared folder has for a conversation's present state."""
        path = self._data_dir / FOLDER / file_name(conversation)
        seen = fingerprint(path)
        known = self._record.names.get(path.name)
        if known is not None and known[0] == seen:
            return known[1]
        try:
            info, turns = await self._memory.info(conversation), await self._memory.turn_digests(conversation)
        except NotFound:  # forgotten since
            return ""
        name = self._folder.file_name(info, turns)
        self._record.names[path.name] = [seen, name]
        return name

    async def _send(self, names: set[str]) -> None:
        waiting: dict[str, bytes] = {}
        for conversation in await self._local_ids():
            name = await self._name_of(conversation)
            if not name:
                continue
            mark = self._folder.mark_of_conversation(conversation)
            self._own.files[mark], self._record.merged[name] = name, mark
            if name in names:
                self._result.unchanged += 1
                continue
            path = self._data_dir / FOLDER / file_name(conversation)
            raw = await asyncio.to_thread(read_conversation_file, path, self._data_dir / _CATALOG)
            if raw is None:
                continue
            waiting[name] = raw
            self._result.sent.append(conversation)
            if sum(map(len, waiting.values())) > _BYTES_AT_ONCE:
                await asyncio.to_thread(self._folder.write, waiting)
                waiting = {}
        if waiting:
            await asyncio.to_thread(self._folder.write, waiting)
        kept = {file_name(conversation) for conversation in await self._local_ids()}
        self._record.names = {file: known for file, known in self._record.names.items() if file in kept}

    def _replaced(self, names: set[str]) -> set[str]:
        """Returns the files of which everything is in the file that this machine has written."""
        return {name for name in names if self._record.merged.get(name) in self._own.files}


def _remove_received(data_dir: Path) -> None:
    for left in data_dir.glob(f"{_RECEIVED_PREFIX}*"):
        shutil.rmtree(left, ignore_errors=True)
