"""Law 12 with real processes: what is stored while it is being forgotten, by any way in, is gone after the receipt."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.capture import spool
from tests.capture.agents import environment
from tests.stores.samples import raw_files
from tests.stores.writer_process import ROOT

Command = dict[str, Any]
# What a way in may answer: nothing was stored, because the conversation, or the turn that was to be followed, is gone.
REFUSALS = {"ok", "Forgotten", "ForgottenBranch", "UnknownConversation", "UnknownTurn", "InvalidArgument"}
_IDS = re.compile(r"t\d+-\d+|c[0-9a-f]{16}")
# The longest time, in seconds, by which a command begins after the others. Storing or forgetting takes about as long.
DELAY_MAX = 0.02
# The folder is searched after each few rounds; each round has words of its own.
ROUNDS_PER_SEARCH = 10


class Helper:
    """One process that stores or forgets; see `forget_process`."""

    def __init__(self, data: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.forget_process", str(data)],
            cwd=ROOT,
            env={**environment(data), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pending = 0

    def send(self, command: Command) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        self._pending += 1

    def answers(self) -> list[str]:
        """Waits until all commands are done."""
        assert self._process.stdout is not None
        found = [self._process.stdout.readline().strip() for _ in range(self._pending)]
        self._pending = 0
        return found

    @contextmanager
    def running(self) -> Iterator[Helper]:
        try:
            assert self._process.stdout is not None
            assert self._process.stdout.readline() == "ready\n"
            yield self
        finally:
            self._process.kill()
            self._process.communicate()


class Round:
    """Conversations that are stored and forgotten at the same time, with a word that only this round has."""

    def __init__(self, number: int, data: Path, randomly: random.Random) -> None:
        self._data, self._random = data, randomly
        self.session, self.chat, self.forked = f"session-{number}", f"chat-{number}", f"forked-{number}"
        self.word = f"quixoplex{number}x"
        self._file = data.parent / "transcripts" / f"{self.session}.jsonl"
        self._rows: list[str] = []
        self._kinds = randomly.sample(["session", "chat", "gateway", "forked"], 2)

    def write(self, rows: int) -> None:
        """Writes the session's transcript with so many rows more."""
        for _ in range(rows):
            number = len(self._rows)
            role = ("user", "assistant")[number % 2]
            row = {"type": role, "uuid": f"{number}", "parentUuid": str(number - 1) if number else None}
            message = {"role": role, "content": f"{self.word} {number} in the transcript"}
            self._rows.append(json.dumps({**row, "sessionId": self.session, "cwd": "/w", "message": message}))
        self._file.parent.mkdir(exist_ok=True)
        self._file.write_text("".join(row + "\n" for row in self._rows))

    def spool(self) -> None:
        """Leaves an event whose message the transcript does not have."""
        event = {
            "session_id": self.session, "transcript_path": str(self._file), "cwd": "/w",
            "hook_event_name": "SessionEnd" if self._random.random() < 0.5 else "Stop",
            "last_assistant_message": f"{self.word} only in the event",
        }  # fmt: skip
        spool.put(str(self._data), "claude-code", json.dumps(event).encode())

    def spool_late(self) -> None:
        """Leaves an event after the receipt."""
        if "session" in self._kinds:
            self.spool()

    def request(self, length: int) -> Command:
        """A request through the gateway, which is stored with its answer."""
        contents = [f"hi from {self.session}", f"{self.word} in an answer", f"{self.word} in a request"][:length]
        messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(contents)]
        return {"do": "gateway", "messages": messages, "answer": f"{self.word} in an answer"}

    def sync(self, turns: int) -> Command:
        contents = [f"{self.word} {i} in a sync" for i in range(turns)]
        return {"do": "sync", "conversation_id": self.chat, "contents": contents}

    def fork(self, word: str, turns: int) -> Command:
        """A branch, of which only the first two turns are another's too."""
        contents = [f"shared {self.forked}", "too", *(f"{word} {i} on a branch" for i in range(turns))]
        return {"do": "sync", "conversation_id": self.forked, "contents": contents}

    def begin(self, helper: Helper) -> list[Command]:
        """Stores the beginning of two kinds of conversations. Returns the commands that forget them, or a branch."""
        return [getattr(self, f"_begin_{kind}")(helper) for kind in self._kinds]

    def stores(self) -> list[Command]:
        """Returns the commands that store more of them, by every way in."""
        return [command for kind in self._kinds for command in getattr(self, f"_store_{kind}")()]

    def _begin_session(self, helper: Helper) -> Command:
        self.write(self._random.randint(1, 6))
        self._first(helper, {"do": "watch", "file": str(self._file)})
        self.write(self._random.randint(0, 3))
        self.spool()
        return {"do": "forget", "conversation_id": self.session}

    def _store_session(self) -> list[Command]:
        file = str(self._file)
        return [{"do": "drain"}, {"do": "watch", "file": file}, {"do": "load", "file": file}]

    def _begin_chat(self, helper: Helper) -> Command:
        self._first(helper, self.sync(3))
        return {"do": "forget", "conversation_id": self.chat}

    def _store_chat(self) -> list[Command]:
        return [self.sync(5), {"do": "append", "conversation_id": self.chat, "content": f"{self.word} in an append"}]

    def _begin_gateway(self, helper: Helper) -> Command:
        return {"do": "forget", "conversation_id": self._first(helper, self.request(1))}

    def _store_gateway(self) -> list[Command]:
        return [self.request(3)]

    def _begin_forked(self, helper: Helper) -> Command:
        self._first(helper, self.fork("other", 2))
        branch = self._first(helper, self.fork(self.word, 1))
        return {"do": "forget", "conversation_id": self.forked, "turn_id": branch}

    def _store_forked(self) -> list[Command]:
        return [self.fork(self.word, 3), self.fork("other", 2 + self._random.randint(0, 1))]

    def _first(self, helper: Helper, command: Command) -> str:
        helper.send({**command, "delay": 0})
        (answer,) = helper.answers()
        assert answer not in REFUSALS or answer == "ok", (command, answer)
        return answer

    def check_other_branch(self, helper: Helper) -> None:
        """Checks that the other branch is whole and nothing else is left, and forgets it."""
        if "forked" not in self._kinds:
            return
        texts = json.loads(self._first(helper, {"do": "texts", "conversation_id": self.forked}))
        assert texts[:4] == [f"shared {self.forked}", "too", "other 0 on a branch", "other 1 on a branch"]
        assert len(texts) <= 5
        self._first(helper, {"do": "forget", "conversation_id": self.forked})


def run_rounds(data: Path, rounds: int, seed: int) -> Counter[str]:
    """Runs so many rounds. Returns how often each answer was given beside the forgetting."""
    randomly = random.Random(seed)
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        started = [Helper(data) for _ in range(3)]
        *storing, forgetting = [stack.enter_context(helper.running()) for helper in started]
        for number in range(rounds):
            one = Round(number, data, randomly)
            for command in one.begin(storing[0]):
                forgetting.send({**command, "delay": randomly.uniform(0, DELAY_MAX)})
            answers = _all(storing, one.stores(), DELAY_MAX, randomly)
            assert forgetting.answers() == ["ok", "ok"]
            one.spool_late()
            late = _all(storing, one.stores(), 0, randomly)
            assert {*answers, *late} <= REFUSALS, (seed, number, answers, late)
            counts.update(answers)
            one.check_other_branch(storing[0])
            if number % ROUNDS_PER_SEARCH == ROUNDS_PER_SEARCH - 1 or number == rounds - 1:
                _all(storing[:1], [{"do": "drain", "wait": True}], 0, randomly)
                assert _words_in(data) == set(), (seed, number)
    return counts


def _all(helpers: Sequence[Helper], commands: Sequence[Command], delay: float, randomly: random.Random) -> list[str]:
    """Sends each command to one of these processes, with a random delay; returns the answers."""
    for command in commands:
        randomly.choice(helpers).send({**command, "delay": randomly.uniform(0, delay)})
    answers = [answer for helper in helpers for answer in helper.answers()]
    return ["ok" if _IDS.fullmatch(answer) else answer for answer in answers]


def _words_in(data: Path) -> set[str]:
    """Returns the words of any round that are in a file, and the files of conversations."""
    found: set[str] = set()
    for name, raw in raw_files(data).items():
        words = re.findall(rb"quixoplex\d+x|(?:session|chat|forked)-\d+", raw)
        found |= {f"{name}: {word.decode()}" for word in words}
        if name.endswith(".ctxmem"):
            found.add(name)
    return found


@pytest.mark.timeout(600)
def test_nothing_that_is_stored_beside_the_forgetting_stays(tmp_path: Path) -> None:
    """The short form of the test below."""
    counts = run_rounds(tmp_path / "data", 100, seed=7)
    assert counts["ok"] > 100
    assert counts["Forgotten"] + counts["ForgottenBranch"] > 20, counts


@pytest.mark.faults
@pytest.mark.timeout(3_600)
def test_nothing_stays_in_a_thousand_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(10**9)
    counts = run_rounds(tmp_path / "data", 1_000, seed)
    with capsys.disabled():
        sys.stdout.write(f"seed {seed}: {counts}\n")
