"""Only the user's own rewind or edit makes a branch of a Claude Code session; a compaction takes nothing back."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.transcripts import claude_code
from ctxmem_mcp.transcripts.base import Transcript

PROMPT, ANSWER = "prompt", "answer"


@dataclass
class Session:
    """A session as Claude Code writes it, and the branches that its user made.

    Attributes:
        rows: the rows in file order.
        contents: the words in each exchange, with the number of their row. The host's rows between a rewind and its
            prompt are an exchange too.
        line: the exchanges of the current branch.
        left: the exchanges of each branch that was rewound away.
        tip: the uuid of the row that the next one follows.
        asked_after: the parent of each exchange's prompt.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    contents: list[list[tuple[int, str]]] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    left: list[list[int]] = field(default_factory=list)
    tip: str | None = None
    asked_after: list[str | None] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)

    def write(self, kind: str, parent: str | None, words: str | None = None, **more: Any) -> str:
        uuid = f"r{len(self.rows)}"
        message = {} if words is None else {"message": {"role": kind, "content": [{"type": "text", "text": words}]}}
        self.rows.append({"type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s", **message, **more})
        return uuid

    def put(self, exchange: int, words: str) -> None:
        self.contents[exchange].append((len(self.rows), words))

    def exchange(self, parent: str | None, *, is_answered: bool) -> None:
        self.contents.append([])
        self.asked_after.append(parent)
        self.line.append(len(self.contents) - 1)
        self.put(self.line[-1], f"prompt {len(self.rows)}")
        self.tip = self.write("user", parent, f"prompt {len(self.rows)}")
        if is_answered:
            self.tip = self.write("attachment", self.tip, attachment={"type": "total_tokens_reminder"})
            self.answer(self.tip, self.line[-1])
            self.tip = self.rows[-1]["uuid"]

    def answer(self, parent: str, exchange: int) -> None:
        self.put(exchange, f"answer {len(self.rows)}")
        self.answers[self.write("assistant", parent, f"answer {len(self.rows)}")] = exchange

    def rewind(self, to: int, *, through_attachment: bool) -> None:
        """The user goes back to before the prompt of the exchange at this place of the line."""
        self.left.append(list(self.line))
        parent = self.asked_after[self.line[to]]
        del self.line[to:]
        if through_attachment:
            words = f"attached {len(self.rows)}"
            self.contents.append([(len(self.rows), words)])
            self.asked_after.append(parent)
            self.line.append(len(self.contents) - 1)
            parent = self.write("attachment", parent, attachment={"type": "hook_additional_context", "content": words})
        self.exchange(parent, is_answered=True)

    def host(self, kind: str, parent: str | None) -> None:
        """The host writes a row with an old parent, which nothing follows."""
        words = f"host {len(self.rows)}"
        if kind == "attachment":
            self.put(self.line[-1], words)
            self.write(kind, parent, attachment={"type": "hook_additional_context", "content": words})
        elif kind == "meta":
            self.put(self.line[-1], words)
            self.write("user", parent, words, isMeta=True)
        elif kind == "notification":
            self.put(self.line[-1], words)
            self.write("user", parent, words, origin={"kind": "task-notification"})
        elif kind == "synthetic":
            self.put(self.line[-1], words)
            self.write("assistant", parent, words)
            self.rows[-1]["message"]["model"] = "<synthetic>"
        else:
            self.write("system", parent, subtype="turn_duration")

    def compact(self, parent: str | None, logical: str | None, recap_parent: str | None) -> None:
        boundary = self.write("system", parent, subtype="compact_boundary", logicalParentUuid=logical)
        self.put(self.line[-1], f"recap {len(self.rows)}")
        self.tip = self.write("user", recap_parent or boundary, f"recap {len(self.rows)}", isCompactSummary=True)

    def words(self, exchanges: list[int]) -> list[str]:
        return [words for _, words in sorted(pair for exchange in exchanges for pair in self.contents[exchange])]


@st.composite
def sessions(draw: st.DrawFn) -> Session:
    """Draws a session of prompts, compactions, rewinds, late answers and host's rows with any parents."""
    session = Session()
    session.tip = session.write("attachment", None, attachment={"type": "hook_success"})
    session.exchange(session.tip, is_answered=True)
    for step in draw(st.lists(st.sampled_from(["ask", "ask", "compact", "rewind", "host", "late"]), max_size=14)):
        any_parent = st.none() | st.sampled_from([row["uuid"] for row in session.rows])
        if step == "ask":
            session.exchange(session.tip, is_answered=draw(st.booleans()))
        elif step == "compact":
            session.compact(draw(any_parent), draw(any_parent), draw(any_parent))
        elif step == "rewind":
            session.rewind(draw(st.integers(0, len(session.line) - 1)), through_attachment=draw(st.booleans()))
        elif step == "host":
            kind = draw(st.sampled_from(["attachment", "system", "meta", "notification", "synthetic"]))
            session.host(kind, draw(any_parent))
        else:
            parent = draw(st.sampled_from(sorted(session.answers)))
            session.answer(parent, session.answers[parent])
    return session


def read(rows: list[dict[str, Any]]) -> Transcript:
    return claude_code.parse("".join(json.dumps(row) + "\n" for row in rows), "s.jsonl")


@given(sessions())
def test_a_compaction_takes_nothing_back(session: Session) -> None:
    """Law 13: everything is on the head's line except what the user rewound, once, in the order of the file."""
    found = read(session.rows)
    assert [turn.content for turn in found.turns] == session.words(session.line)
    left = [[turn.content for turn in branch] for branch in found.abandoned_branches]
    assert sorted(left) == sorted(session.words(line) for line in session.left)


@given(sessions(), st.data())
def test_resuming_agrees_with_reading_the_whole_file(session: Session, data: st.DataObject) -> None:
    lines = [json.dumps(row) + "\n" for row in session.rows]
    cut = data.draw(st.integers(2, len(lines)))
    until = data.draw(st.integers(cut, len(lines)))
    before, state = claude_code.parse_resumable("".join(lines[:cut]), "s.jsonl")
    resumed = claude_code.resume(json.loads(json.dumps(state)), "".join(lines[cut:until]))
    if resumed is not None:
        assert before.turns + resumed[0] == claude_code.parse("".join(lines[:until]), "s.jsonl").turns


@pytest.mark.parametrize(
    ("name", "rewound"),
    [("cc-two-compactions", ""), ("cc-summarize-from-here", ""), ("cc-summarize-up-to-here", "To be rewound")],
)
def test_a_real_compaction_leaves_every_row_on_the_line(eval_dir: Path, name: str, rewound: str) -> None:
    text = (eval_dir / "inputs" / "agents" / f"{name}.jsonl").read_text("utf-8")
    found = claude_code.parse(text, f"{name}.jsonl")
    rows = [row for line in text.splitlines() if "uuid" in (row := json.loads(line)) and "message" in row]
    prompts = [row for row in rows if isinstance(row["message"]["content"], str)]
    asked = Counter(row["message"]["content"] for row in prompts)
    on_line = Counter(turn.content for turn in found.turns)
    gone = [words for words in asked if on_line[words] != asked[words]]
    assert [words[: len(rewound)] for words in gone] == ([rewound] if rewound else [])
    assert len(found.abandoned_branches) == bool(rewound)
    answers = [row["uuid"] for row in rows if row["type"] == "assistant"]
    assert sum(turn.role == "assistant" for turn in found.turns) >= len(answers) - 4 * bool(rewound) - 1


def test_a_prompt_that_follows_a_rewound_branch_goes_on_with_it() -> None:
    session = Session()
    session.exchange(None, is_answered=True)
    session.exchange(session.tip, is_answered=True)
    end_of_first = session.tip
    session.rewind(1, through_attachment=False)
    session.exchange(end_of_first, is_answered=True)
    contents = [turn.content for turn in read(session.rows).turns]
    assert contents == session.words([0, 1, 3])


def test_contents_that_a_failed_compaction_blanked_are_not_on_the_line() -> None:
    session = Session()
    session.exchange(None, is_answered=True)
    session.exchange(session.tip, is_answered=True)
    whole = read(session.rows)
    for row in list(session.rows):
        if "message" in row:
            session.rows.append({**row, "message": {"role": row["type"], "content": ""}})
    assert read(session.rows) == whole
    session.exchange(session.tip, is_answered=True)
    found = read(session.rows)
    assert found.turns[: len(whole.turns)] == whole.turns
    assert (len(found.turns), found.abandoned_branches) == (len(whole.turns) + 2, ())
