"""Writers that are killed: `python -m tests.stores.killed_writer LOCATION` forks them, with everything loaded.

So a writer writes within milliseconds of its start, and a thousand of them take minutes. The server prints "ready". For
each line "write PIPE CONVERSATION_ID AUTHOR" it forks a writer and prints its process id; for "wait PID" it prints
"gone" once that process has ended. A writer puts a line into its named pipe for each call that was acknowledged: the
ids and digests of its turns, as JSON.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.memory import Memory
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.stores.sqlite import SqliteStore
from ctxmem_mcp.summarizers.extractive import ExtractiveSummarizer
from tests.stores.locations import open_store
from tests.stores.writer_process import ROOT

LONG_WORDS = 6_000
PATIENCE_SECONDS = 60
Acknowledged = dict[str, str]  # ids, and digests of the texts


def digest_of(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _text(author: str, number: int, randomly: random.Random) -> str:
    words = randomly.randrange(2, 60) if randomly.random() < 0.98 else LONG_WORDS
    return f"{author}.{number} " + " ".join(f"w{randomly.randrange(10**8)}" for _ in range(words))


async def _write(location: str, pipe: str, conversation_id: str, author: str) -> None:
    """Appends turns, and lists of turns after the last one, until the process is killed."""
    output = os.open(pipe, os.O_WRONLY)
    randomly = random.Random(author)
    memory = Memory(open_store(location), ExtractiveSummarizer())
    last, number = None, 0
    while True:
        if last is not None and randomly.random() < 0.15:
            texts = [_text(author, number + i, randomly) for i in range(randomly.randrange(2, 9))]
            turns = [NewTurn("user", text) for text in texts]
            ids = (await memory.sync(turns, conversation_id=conversation_id, after=last)).turn_ids[-len(texts) :]
        else:
            texts = [_text(author, number, randomly)]
            ids = [(await memory.append(NewTurn("user", texts[0]), conversation_id=conversation_id)).turn_id]
        acknowledged = dict(zip(ids, map(digest_of, texts), strict=True))
        os.write(output, json.dumps(acknowledged).encode() + b"\n")
        last, number = ids[-1], number + len(texts)


async def _load() -> None:
    """Loads what the first append of a process loads."""
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(SqliteStore(Path(folder)), ExtractiveSummarizer())
        done = await memory.append(NewTurn("user", "Loads everything."), conversation_id="c")
        await memory.sync([NewTurn("user", "The rest.")], conversation_id="c", after=done.turn_id)
        await memory.close()


def _serve(location: str) -> None:
    asyncio.run(_load())
    _print("ready")
    for line in sys.stdin:
        verb, *words = line.split()
        if verb == "wait":
            os.waitpid(int(words[0]), 0)
            _print("gone")
        elif child := os.fork():
            _print(str(child))
        else:
            _write_until_killed(location, *words)


def _write_until_killed(location: str, pipe: str, conversation_id: str, author: str) -> None:
    try:
        asyncio.run(_write(location, pipe, conversation_id, author))
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


# ------------------------------------------------------------ the killer's side


class Writers:
    """The server of writers, and the named pipes that they write to."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process, self._folder, self._started = process, folder, 0

    def start(self, conversation_id: str, author: str) -> Writer:
        pipe = self._folder / f"pipe{self._started}"
        self._started += 1
        os.mkfifo(pipe)
        output = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        return Writer(self, int(self.ask(f"write {pipe} {conversation_id} {author}")), pipe, output)

    def ask(self, line: str) -> str:
        """Sends a line to the server. Returns its answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline().strip()
        assert answer, "the server of writers has ended"
        return answer


@dataclass
class Writer:
    server: Writers
    pid: int
    pipe: Path
    output: int
    raw: bytes = b""

    def wait_for(self, calls: int) -> None:
        """Waits until so many calls were acknowledged."""
        while self.raw.count(b"\n") < calls:
            ready, _, _ = select.select([self.output], [], [], PATIENCE_SECONDS)
            assert ready, "the writer acknowledges nothing"
            part = os.read(self.output, 1 << 16)
            assert part, "the writer has ended"
            self.raw += part

    def kill(self) -> list[Acknowledged]:
        """Kills it. Returns what was acknowledged to it until then, by calls."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.server.ask(f"wait {self.pid}") == "gone"
        while part := os.read(self.output, 1 << 16):
            self.raw += part
        os.close(self.output)
        self.pipe.unlink()
        return [json.loads(line) for line in self.raw.splitlines(keepends=True) if line.endswith(b"\n")]


@contextmanager
def writers(location: str, folder: Path) -> Iterator[Writers]:
    """Starts the server of writers.

    Args:
        location: Where the store is.
        folder: Where the pipes are made.
    """
    with subprocess.Popen(
        [sys.executable, "-m", __name__, location],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield Writers(process, folder)
        finally:
            process.kill()


if __name__ == "__main__":
    _serve(sys.argv[1])
