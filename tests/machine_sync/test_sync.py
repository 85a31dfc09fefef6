"""Two machines, or three, and a shared folder: what each does, and random interleavings of it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ctxmem_mcp import redaction
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import CtxmemError, InvalidArgument, StoreUnavailable
from ctxmem_mcp.file_lock import lock_file
from ctxmem_mcp.machine_sync import sync as sync_module
from ctxmem_mcp.machine_sync.remote import FolderRemote
from ctxmem_mcp.machine_sync.shared_folder import SharedFolder
from ctxmem_mcp.machine_sync.sync import SyncResult, sync
from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.private_files import SYNC
from ctxmem_mcp.settings import Settings
from tests.stores.samples import raw_files

pytestmark = pytest.mark.anyio

ID = "talk"


class Killed(BaseException):
    """The process ends here."""


class FaultyRemote(FolderRemote):
    """A folder at whose so-many-th operation the process ends, before or after it is done."""

    def __init__(self, folder: Path, left: float = float("inf"), *, is_after: bool = False) -> None:
        super().__init__(folder)
        self._left, self._is_after = left, is_after

    def _count(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise Killed

    def list_names(self) -> set[str]:
        self._count()
        return super().list_names()

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        self._count()
        return super().read(names)

    def write(self, files: Mapping[str, bytes]) -> None:
        for name, raw in files.items():
            if not self._is_after:
                self._count()
            super().write({name: raw})
            if self._is_after:
                self._count()

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self._count()
            super().remove([name])


@dataclass
class Machine:
    """A data folder with an open memory, and the folder that it shares."""

    memory: Memory
    data: Path
    shared: Path

    async def sync(self, remote: FolderRemote | None = None) -> SyncResult:
        folder = SharedFolder.open(remote or FolderRemote(self.shared), None, encrypt=False)
        return await sync(self.memory, self.data, folder)

    async def say(self, text: str, conversation: str = ID, after: str | None = None) -> str:
        turn = NewTurn("user", f"{text} " * 40)
        return (await self.memory.append(turn, conversation_id=conversation, parent_id=after)).turn_id

    async def redact(self, conversation: str, turn_id: str) -> None:
        await redaction.redact(self.memory, self.data, await self.memory.find_copies(conversation, turn_id))

    async def turns(self) -> dict[str, dict[str, bool]]:
        """The ids of all turns by conversation, each with whether it is redacted."""
        found: dict[str, dict[str, bool]] = {}
        for one in await self.memory.all_conversations():
            for tip in await self.memory.branches(one.conversation_id):
                for turn in await self.memory.history(one.conversation_id, turn_id=tip.id):
                    found.setdefault(one.conversation_id, {})[turn.id] = turn.is_redacted
        return found


@asynccontextmanager
async def machine(folder: Path, name: str) -> AsyncIterator[Machine]:
    data = folder / name
    async with open_memory(Settings(data_dir=data), background=False) as memory:
        yield Machine(memory, data, folder / "shared")


@pytest.fixture
async def a(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine(tmp_path, "a") as opened:
        yield opened


@pytest.fixture
async def b(tmp_path: Path) -> AsyncIterator[Machine]:
    async with machine(tmp_path, "b") as opened:
        yield opened


async def test_a_session_is_continued_on_the_other_machine_both_ways(a: Machine, b: Machine) -> None:
    await a.say("first")
    await a.say("second")
    await a.sync()
    first = await b.sync()
    assert (first.received, first.sent) == ({ID: 2}, []), "what is the same is not sent back"
    third = await b.say("third")
    await b.sync()
    await a.sync()
    assert (await a.memory.head(ID)).id == third, "the head moves along its own branch"
    assert len(await a.memory.branches(ID)) == 1
    again = await a.sync()
    assert (again.received, again.sent, again.unchanged) == ({}, [], 1)
    assert (await b.sync()).sent == []


async def test_each_machine_keeps_its_head_and_gets_the_others_branch(a: Machine, b: Machine) -> None:
    shared = await a.say("shared")
    await a.sync()
    await b.sync()
    ours, theirs = await a.say("ours"), await b.say("theirs")
    for one in (a, b, a):
        await one.sync()
    assert (await a.memory.head(ID)).id == ours
    assert (await b.memory.head(ID)).id == theirs
    assert await a.turns() == await b.turns() == {ID: dict.fromkeys((shared, ours, theirs), False)}


async def test_what_is_forgotten_on_one_machine_is_forgotten_on_all(a: Machine, b: Machine) -> None:
    await a.say("quixoplex")
    await a.say("other", "other")
    await a.sync()
    await b.sync()
    await b.say("more of it")
    await a.memory.forget(ID, ID)
    await a.sync()
    assert (await b.sync()).forgotten == [ID]
    await a.sync()
    assert await a.turns() == await b.turns()
    assert list(await a.turns()) == ["other"]
    assert not any(b"quixoplex" in raw for raw in raw_files(a.shared).values())


async def test_a_forgotten_branch_is_forgotten_on_all(a: Machine, b: Machine) -> None:
    first, second = await a.say("first"), await a.say("second")
    away = await a.say("away", after=first)
    await a.sync()
    await b.sync()
    later = await b.say("later", after=away)
    await a.memory.forget(ID, ID, away)
    for one in (a, b, a, b):
        await one.sync()
    assert later not in (await b.turns())[ID]
    assert await a.turns() == await b.turns() == {ID: {first: False, second: False}}


async def test_a_redacted_turn_is_redacted_on_all(a: Machine, b: Machine) -> None:
    await a.say("first")
    secret = await a.say("quixoplex")
    await a.sync()
    await b.sync()
    await b.say("quite another thing")
    await b.sync()
    await a.redact(ID, secret)
    await a.sync()
    assert (await b.sync()).redacted == {ID: 1}
    await a.sync()
    assert await a.turns() == await b.turns()
    assert (await b.turns())[ID][secret]
    for folder in (a.data, b.data, a.shared):
        assert not any(b"quixoplex" in raw for raw in raw_files(folder).values())


async def test_a_conversation_is_kept_as_long_as_either_machine_promised(a: Machine, b: Machine) -> None:
    await a.say("first")
    await a.memory.set_retention(ID, 5)
    await a.sync()
    await b.sync()
    await b.memory.set_retention(ID, 300)
    await b.sync()
    await a.sync()
    assert (await a.memory.info(ID)).retention_days == 300
    await a.memory.set_retention(ID, 10)
    await a.sync()
    assert (await b.sync()).forgotten == []
    assert (await b.memory.info(ID)).retention_days == 300


async def test_what_was_forgotten_can_be_imported_again(a: Machine, b: Machine) -> None:
    await a.say("first")
    await a.sync()
    await b.sync()
    kept = await b.memory.history(ID)
    await a.memory.forget(ID, ID)
    await a.sync()
    await b.sync()
    turns = [NewTurn(turn.role, turn.content) for turn in kept]
    await b.memory.allow_again(ID, [turns])
    await b.memory.sync(turns, conversation_id=ID)
    for one in (b, a, b, a):
        await one.sync()
    assert list(await a.turns()) == list(await b.turns()) == [ID]
    await a.memory.forget(ID, ID)
    for one in (a, b, a):
        await one.sync()
    assert await a.turns() == await b.turns() == {}


async def test_an_encrypted_folder_tells_nothing_without_the_passphrase(a: Machine, b: Machine) -> None:
    await a.say("quixoplex")
    folder = SharedFolder.open(FolderRemote(a.shared), "correct horse", encrypt=True)
    await sync(a.memory, a.data, folder)
    assert all(raw.startswith(b"age-encryption.org/v1") for raw in raw_files(a.shared).values())
    with pytest.raises(InvalidArgument, match="passphrase"):
        SharedFolder.open(FolderRemote(a.shared), "wrong", encrypt=False)
    opened = SharedFolder.open(FolderRemote(a.shared), "correct horse", encrypt=False)
    assert (await sync(b.memory, b.data, opened)).received == {ID: 1}


async def test_a_damaged_file_is_reported_and_stays(a: Machine, b: Machine) -> None:
    await a.say("first")
    await a.sync()
    (file,) = a.shared.glob("*.conversation")
    file.write_bytes(file.read_bytes()[:5_000])
    result = await b.sync()
    assert result.warnings
    assert file.exists()


# ---------------------------------------------------------------- random interleavings


@dataclass
class Model:
    """What was said, and what of it may be left."""

    parents: dict[str, str | None] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    redacted: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)

    def expected(self) -> dict[str, bool]:
        """The turns that are left, with whether they are redacted. Parents come before their children."""
        left: dict[str, bool] = {}
        for turn, parent in self.parents.items():
            if turn not in self.gone and (parent is None or parent in left):
                left[turn] = turn in self.redacted
        return left


class Story:
    """A random sequence of what two machines do."""

    def __init__(self, folder: Path, randomly: random.Random) -> None:
        self._folder, self._random = folder, randomly
        self.model, self._count, self.said = Model(), 0, list[str]()

    async def tell(self, steps: int, names: str = "ab") -> None:
        async with AsyncExitStack() as stack:
            machines = [await stack.enter_async_context(machine(self._folder, name)) for name in names]
            for _ in range(steps):
                await self._step(self._random.choice(machines))
            for one in machines * 3:
                await one.sync()
            await self._check(machines)

    async def _step(self, one: Machine) -> None:
        do = self._random.choices(
            (
                self._append,
                self._fork,
                self._revert,
                self._forget,
                self._forget_branch,
                self._redact,
                self._sync,
                self._kill,
            ),
            (8, 3, 2, 0.5, 0.7, 1, 4, 2),
        )[0]
        self.said.append(f"{one.data.name} {do.__name__}")
        await do(one)

    async def _append(self, one: Machine) -> None:
        conversation = f"c{self._random.randrange(3)}"
        self._count += 1
        text = f"words{self._count}z"
        try:
            parent = (await one.memory.head(conversation)).id
        except CtxmemError:
            parent = None
        await self._say(one, conversation, text, parent)

    async def _say(self, one: Machine, conversation: str, text: str, parent: str | None) -> None:
        turn_id = await one.say(text, conversation, parent)
        self.model.parents[f"{conversation} {turn_id}"] = f"{conversation} {parent}" if parent else None
        self.model.texts[f"{conversation} {turn_id}"] = text

    async def _chosen(self, one: Machine) -> tuple[str, str] | None:
        turns = [(conversation, turn) for conversation, some in (await one.turns()).items() for turn in some]
        return self._random.choice(turns) if turns else None

    async def _fork(self, one: Machine) -> None:
        if chosen := await self._chosen(one):
            self._count += 1
            await self._say(one, chosen[0], f"words{self._count}z", chosen[1])

    async def _revert(self, one: Machine) -> None:
        if chosen := await self._chosen(one):
            await one.memory.revert(*chosen)

    async def _redact(self, one: Machine) -> None:
        if chosen := await self._chosen(one):
            await one.redact(*chosen)
            self.model.redacted.add(" ".join(chosen))

    async def _forget(self, one: Machine) -> None:
        if chosen := await self._chosen(one):
            await self._forgotten(one, chosen[0], one.memory.forget(chosen[0], chosen[0]))

    async def _forget_branch(self, one: Machine) -> None:
        if chosen := await self._chosen(one):
            tip = self._random.choice(await one.memory.branches(chosen[0]))
            await self._forgotten(one, chosen[0], one.memory.forget(chosen[0], chosen[0], tip.id))

    async def _forgotten(self, one: Machine, conversation: str, forgetting: object) -> None:
        before = set((await one.turns())[conversation])
        await forgetting  # type: ignore[misc]
        left = set((await one.turns()).get(conversation, ()))
        self.model.gone |= {f"{conversation} {turn}" for turn in before - left}

    async def _sync(self, one: Machine) -> None:
        await one.sync()

    async def _kill(self, one: Machine) -> None:
        remote = FaultyRemote(one.shared, self._random.randrange(12), is_after=self._random.random() < 0.5)
        try:
            await one.sync(remote)
        except Killed:
            self.said[-1] += " (killed)"

    async def _check(self, machines: Sequence[Machine]) -> None:
        expected = self.model.expected()
        for one in machines:
            turns = {
                f"{conversation} {turn}": is_redacted
                for conversation, some in (await one.turns()).items()
                for turn, is_redacted in some.items()
            }
            differing = set(turns.items()) ^ set(expected.items())
            assert not differing, (one.data.name, differing, self.said)
            for conversation in await one.turns():
                assert await one.memory.verify(conversation) == [], self.said
            page = await one.memory.conversations(limit=100)
            assert page.unreadable == {}
        self._check_files()

    def _check_files(self) -> None:
        removed = {
            text for turn, text in self.model.texts.items() if self.model.expected().get(turn, True) is not False
        }
        removed = {self.model.texts[turn] for turn in self.model.texts if self.model.expected().get(turn, True)}
        for file, raw in raw_files(self._folder).items():
            found = {word.decode() for word in re.findall(rb"words\d+z", raw)}
            assert not found & removed, (file, found & removed, self.said)


@pytest.mark.parametrize(("seed", "names"), [(0, "ab"), (1, "ab"), (2, "ab"), (3, "abc")])
async def test_random_interleavings_end_with_the_same_turns_everywhere(tmp_path: Path, seed: int, names: str) -> None:
    await Story(tmp_path, random.Random(seed)).tell(25, names)


@pytest.mark.soak
async def test_a_thousand_interleavings_end_with_the_same_turns(tmp_path: Path) -> None:
    first = time.time_ns()
    for seed in range(first, first + 1_000):
        await Story(tmp_path / str(seed), random.Random(seed)).tell(25, "abc" if seed % 4 == 0 else "ab")


async def test_another_process_that_syncs_is_waited_for(a: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_module, "LOCK_SECONDS", 0.1)
    await a.say("first")
    async with lock_file(a.data / SYNC / "lock", 5.0):
        with pytest.raises(StoreUnavailable, match="Another process"):
            await a.sync()
