"""Measures whether the quotations added to a prompt bear on it, and how often some are added without need.

    python -m bench prompts [--verbose]

Real prompts of the sessions in $CTXMEM_EVAL_DIR (people-dev, coding-dev, and transcripts of other agents), labelled
by hand in data/prompts.json: each with all turns of earlier sessions, or of its own session before the last compaction,
that bear on it; none if it does not need the past. Prompts on which two readers could differ have no label. The memory
of a prompt is the turns before it, of sessions of its project that began before its own.

Few sessions were compacted. A label with `compacted` is measured as if its session had been compacted before that turn:
its own prompt, or the first, second or fourth one before it, by a hash of its id.

An answer is *right* if a turn that it quotes is among the labelled ones. The labels of the second round whose id's hash
is a multiple of three were not looked at while the rule was made (*unseen*).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.data import native
from bench.data.models import eval_folder
from bench.repeats import row_of
from ctxmem_mcp.capture import project_files, session_files, spoken_turns
from ctxmem_mcp.capture.hook_records import find_spoken_turns
from ctxmem_mcp.capture.spoken_turns import SpokenTurn
from ctxmem_mcp.hooks import prompt_recall
from ctxmem_mcp.models import INJECTED, RECAP, Turn
from ctxmem_mcp.transcripts import registry

LABELS = Path(__file__).parent / "data" / "prompts.json"
DATA = ("people-dev", "coding-dev")
# Sessions of other projects: their project, name and file.
TRANSCRIPTS = (
    ("pi", "pi", "pi/large-session.jsonl"),
    ("specstory", "specstory-1", "specstory/2026-02-20_23-57-00Z-plan-improve-specstory-watch.md"),
    ("specstory", "specstory-2", "specstory/2026-06-29_17-56-23Z-you-are-doing-a.md"),
    ("specstory", "specstory-3", "specstory/2026-07-01_12-53-16Z-evaluate-the-cursor-ide.md"),
    ("aider", "aider", "aider/Aquaticat.aider.chat.history.md"),
)
LATEST_ROUND = 2
# coding-dev has calls as text of the agent, and recaps as text of the user.
_CALL = re.compile(r"(?:Edit|Write|Task) [/{]|[A-Z]\w+ \{|\$ |Base directory for|<task-notification")
_RECAP_START = "This session is being continued"
_QUOTED = re.compile(r"^- \w+, .*?conversation (\S+), t(\d+)", re.MULTILINE)
TIMES = 10


@dataclass(frozen=True)
class Session:
    """A session. turns: with their indexes in the file's conversation."""

    conversation: str
    name: str
    turns: list[Turn]

    @property
    def id(self) -> str:
        return f"{self.conversation}:{self.name.replace(' ', '-')}"

    @property
    def began(self) -> str:
        return max(turn.said_at or "" for turn in self.turns[:3])

    def said_by(self, index: int) -> str:
        """Returns the time of a turn."""
        return self.turns[index - self.turns[0].index].said_at or self.began


@dataclass(frozen=True)
class Label:
    """A prompt.

    Attributes:
        prompt: its conversation and index.
        bears: first and last turn of each span that bears on it, with the conversation.
        compacted: the first turn that the context still has, in its session; None if nothing is left out.
        round: the round of labelling that it is from.
    """

    prompt: str
    bears: list[tuple[str, int, int]]
    compacted: int | None
    round: int

    @property
    def is_unseen(self) -> bool:
        is_third = int(hashlib.sha256(self.prompt.encode()).hexdigest(), 16) % 3 == 0
        return self.round == LATEST_ROUND and is_third

    def has(self, conversation: str, index: int) -> bool:
        return any(name == conversation and first <= index <= last for name, first, last in self.bears)


def read_labels() -> list[Label]:
    return [
        Label(one["prompt"], [_range(text) for text in one["bears"]], one.get("compacted"), one.get("round", 1))
        for one in json.loads(LABELS.read_text())
    ]


def _range(text: str) -> tuple[str, int, int]:
    conversation, _, turns = text.partition(":")
    first, last = turns.split("-")
    return conversation, int(first), int(last)


def read_sessions() -> list[Session]:
    """Reads the sessions, the first to begin first."""
    sessions: list[Session] = []
    for name in DATA:
        with native.open_text(eval_folder() / "data" / f"{name}.jsonl.gz") as lines:
            for given in map(json.loads, lines):
                of: dict[str, list[Turn]] = {}
                for index, turn in enumerate(given["turns"]):
                    of.setdefault(turn["session"], []).append(_as_captured(index, turn))
                sessions += [Session(given["id"], label, turns) for label, turns in of.items()]
    return sorted(sessions, key=lambda session: session.began)


def read_transcripts(project: str) -> list[Session]:
    """Reads the sessions of another project, the first to begin first."""
    sessions: list[Session] = []
    for of, name, file in TRANSCRIPTS:
        path = eval_folder() / "transcripts" / file
        if of == project:
            transcript = registry.parse(path.read_text("utf-8"), registry.name_for_parser(path))
            turns = [
                Turn(at, at, at.to_bytes(16, "big"), turn.role, turn.content, turn.name, turn.said_at, turn.call_id, 0)
                for at, turn in enumerate(transcript.turns)
            ]
            sessions.append(Session(name, "session", turns))
    return sorted(sessions, key=lambda session: session.began)


def read_projects() -> list[list[Session]]:
    """Reads the sessions of all projects."""
    return [read_sessions(), *(read_transcripts(name) for name in dict.fromkeys(of for of, _, _ in TRANSCRIPTS))]


def _as_captured(index: int, given: dict[str, Any]) -> Turn:
    role, name, content = given["role"], given["name"], given["content"]
    if content.startswith(_RECAP_START):
        role, name = "system", RECAP
    elif name is None and role == "assistant" and _CALL.match(content):
        name = "call"
    elif name is None and role == "user" and _CALL.match(content):
        name = INJECTED
    digest = index.to_bytes(16, "big")
    return Turn(index, index, digest, role, content, name, given["said_at"], given.get("call_id"), 0)


class Project:
    """A project's folder, as it was when a prompt was sent."""

    def __init__(self, folder: Path, sessions: Sequence[Session]) -> None:
        folder.mkdir(exist_ok=True)
        self.data, self.cwd, self._folder, self._sessions = str(folder / "data"), str(folder), folder, sessions
        hasher = spoken_turns.load_hasher(self.data, create=True)
        assert hasher is not None
        self._lines = [list(find_spoken_turns(session.turns, session.id, hasher)) for session in sessions]

    def text_for(self, label: Label) -> str:
        """Returns what the hook adds to a labelled prompt."""
        event = self.event_for(label)
        session_files.purge(self.data, [event["session_id"]])
        return prompt_recall.text_for(event, self.data)[0]

    def event_for(self, label: Label) -> dict[str, Any]:
        """Writes the record and the transcript as they were before a labelled prompt; returns the prompt's event."""
        conversation, _, number = label.prompt.partition(":")
        index = int(number)
        at, session, prompt = next(
            (at, session, turn)
            for at, session in enumerate(self._sessions)
            if session.conversation == conversation
            for turn in session.turns
            if turn.index == index
        )
        self._record(at, prompt, label.compacted)
        transcript = self._transcript(session, index, label.compacted)
        return {"prompt": prompt.content, "cwd": self.cwd, "session_id": session.id, "transcript_path": transcript}

    def has(self, label: Label) -> bool:
        """Returns whether a labelled prompt is of this project."""
        return label.prompt.partition(":")[0] in {session.conversation for session in self._sessions}

    def _record(self, at: int, prompt: Turn, compacted: int | None) -> None:
        """Writes the record of the turns before the prompt."""
        when = prompt.said_at or ""
        path = project_files.path_of(spoken_turns.folder_in(self.data), self.cwd)
        lines = [
            line.line
            for session, found in zip(self._sessions[:at], self._lines[:at], strict=True)
            for line in found
            if session.said_by(line.index) <= when
        ]
        lines += [line.line for line in self._lines[at] if line.index < prompt.index]
        if compacted is not None:
            session = self._sessions[at].id
            lines.append(SpokenTurn(session, "", compacted - 1, "", spoken_turns.RECAP, [], '""').line)
        project_files.write_lines(path, lines[-spoken_turns.RECORDS_MAX :])

    def _transcript(self, session: Session, until: int, compacted: int | None) -> str:
        path = self._folder / "s.jsonl"
        rows = [row_of(turn) | ({"isCompactSummary": True} if turn.name == RECAP else {}) for turn in session.turns
                if (compacted or 0) <= turn.index < until]  # fmt: skip
        if compacted is not None:
            rows.insert(0, {"type": "user", "isCompactSummary": True})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        return str(path)


def measure(verbose: bool) -> None:
    totals = {name: Counter[str]() for name in ("seen", "unseen", "all")}
    with tempfile.TemporaryDirectory() as folder:
        projects = [Project(Path(folder) / str(at), sessions) for at, sessions in enumerate(read_projects())]
        for label in read_labels():
            text = next(project for project in projects if project.has(label)).text_for(label)
            quoted = [(name.partition(":")[0], int(index)) for name, index in _QUOTED.findall(text)]
            is_right = any(label.has(*one) for one in quoted)
            for key in ("all", "unseen" if label.is_unseen else "seen"):
                needs = bool(label.bears)
                totals[key].update(
                    n=1, needs=needs, said=bool(text), right=is_right, said_in_need=needs and bool(text),
                    silent=not needs and not text,
                )  # fmt: skip
            if verbose and (text or label.bears):
                mark = "right" if is_right else "WRONG" if text else "silent"
                print(f"{mark:6s} {'needs' if label.bears else '-':5s} {label.prompt}  {quoted}")
    for name, t in totals.items():
        rest = t["n"] - t["needs"]
        print(
            f"{name:7s} n={t['n']:4d}, {t['needs']} need the past: something was added to {t['said_in_need']} "
            f"({_share(t['said_in_need'], t['needs'])}), rightly to {t['right']} ({_share(t['right'], t['needs'])}); "
            f"right {t['right']} of {t['said']} times ({_share(t['right'], t['said'])}); silent for {t['silent']} of "
            f"the other {rest} ({_share(t['silent'], rest)})"
        )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / max(1, whole):.1f} %"


def processor_time() -> None:
    """Prints the processor time of the hook, with the record of all sessions and the longest context that it reads."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = read_sessions()
        project = Project(Path(folder), sessions)
        longest = max(read_labels(), key=lambda label: (label.prompt.startswith("people-d3"), bool(label.bears)))
        project.text_for(longest)
        event = {"hook_event_name": "UserPromptSubmit", "prompt": "why are the integration tests taking so long now, "
                 "and does the shadow branch of a worktree have the session metadata in entire/sessions?",
                 "cwd": project.cwd, "session_id": "s", "transcript_path": str(Path(folder) / "s.jsonl")}  # fmt: skip
        variables = {**os.environ, "CTXMEM_DATA_DIR": project.data}
        hook = ["-m", "ctxmem_mcp", "hook", "claude-code"]
        new = event | {"transcript_path": str(Path(folder) / "none.jsonl")}
        for name, command, settings, sent in (
            ("bare interpreter", ["-c", "pass"], {}, event),
            ("hook, turned off", hook, {"CTXMEM_PROMPT_RECALL": "off"}, event),
            ("hook, long context", hook, {}, event),
            ("hook, new context", hook, {}, new),
        ):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            for _ in range(TIMES):
                given = json.dumps(sent).encode()
                subprocess.run([sys.executable, *command], input=given, env=variables | settings, check=True,
                               stdout=subprocess.DEVNULL)  # fmt: skip
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(f"{name:20s} {1000 * spent / TIMES:.1f} ms of processor time")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench prompts", description=__doc__)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args(arguments)
    measure(options.verbose)
    processor_time()
