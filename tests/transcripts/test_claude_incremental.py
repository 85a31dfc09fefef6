"""Going on in a grown file gives what reading the whole file gives, or nothing."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.transcripts import claude_code


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def said(uuid: str, parent: str | None, role: str, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": role, "content": content}
    return {"type": role, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "message": message, **more}


CALL = [{"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "ls"}}]
RESULT = [{"type": "tool_result", "tool_use_id": "c1", "content": "a.py"}]
BEGUN = lines(said("1", None, "user", "list the files"), said("2", "1", "assistant", CALL))


def grown(begun: str, more: str) -> tuple[NewTurn, ...] | None:
    """What the further lines add, which must be what the whole file has behind what it had."""
    transcript, growth = claude_code.parse_resumable(begun, "s.jsonl")
    found = claude_code.resume(json.loads(json.dumps(growth)), more)
    if found is None:
        return None
    assert transcript.turns + found[0] == claude_code.parse(begun + more, "s.jsonl").turns
    return found[0]


def test_a_result_knows_the_call_that_stands_before_the_growth() -> None:
    turns = grown(BEGUN, lines(said("3", "2", "user", RESULT), said("4", "3", "assistant", "One file.")))
    assert turns is not None
    assert [(turn.role, turn.name, turn.content) for turn in turns] == [
        ("tool", "Bash", "a.py"),
        ("assistant", None, "One file."),
    ]


def test_a_rewind_a_repeated_row_and_a_row_of_another_session_need_the_whole_file() -> None:
    assert grown(BEGUN, lines(said("1", None, "user", "list the files"))) is None
    assert grown(BEGUN, lines(said("9", "0", "user", "from elsewhere"))) is None
    assert grown(BEGUN, lines(said("3", "2", "user", "go on", sessionId="t"))) is None
    rewound = BEGUN + lines(said("3", "2", "user", "first way"), said("4", "3", "assistant", "done"))
    assert grown(rewound, lines(said("5", "2", "user", "second way"))) is None


def test_a_queue_and_words_that_left_it_need_the_whole_file() -> None:
    enqueued = {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "content": "stop please"}
    removed = {"type": "queue-operation", "operation": "remove", "sessionId": "s"}
    assert grown(BEGUN, lines(enqueued)) is None
    assert grown(BEGUN + lines(enqueued, removed), lines(said("3", "2", "user", "stop please"))) is None


def test_what_is_kept_holds_no_words() -> None:
    enqueued = {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "content": "stop please"}
    removed = {"type": "queue-operation", "operation": "remove", "sessionId": "s"}
    kept = json.dumps(claude_code.parse_resumable(BEGUN + lines(enqueued, removed), "s.jsonl")[1])
    assert not any(words in kept for words in ("list the files", "stop please", "command"))


def test_queued_words_stand_where_they_were_taken_off_so_that_a_growing_file_keeps_its_beginning() -> None:
    enqueued = {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "content": "and the tests?"}
    removed = {"type": "queue-operation", "operation": "remove", "sessionId": "s"}
    rows = [said("1", None, "user", "list"), enqueued, said("2", "1", "assistant", "busy"), removed]
    rows.append(said("3", "2", "assistant", "tests are in tests/"))
    turns = [claude_code.parse(lines(*rows[:n]), "s.jsonl").turns for n in range(1, len(rows) + 1)]
    assert all(turns[-1][: len(before)] == before for before in turns)
    assert [turn.content for turn in turns[-1]] == ["list", "busy", "and the tests?", "tests are in tests/"]


def test_real_files_go_on_as_they_read_whole(eval_dir: Path) -> None:
    random_cuts, went_on, times = random.Random(7), 0, 0
    files = sorted((eval_dir / "transcripts" / "claude-code").rglob("*.jsonl"))
    for file in files:
        text = file.read_text("utf-8").splitlines(keepends=True)
        if len(text) < 40:
            continue
        cuts = sorted(random_cuts.sample(range(10, len(text)), 5))
        for a, b in itertools.pairwise(cuts):
            transcript, growth = claude_code.parse_resumable("".join(text[:a]), file.name)
            found = claude_code.resume(growth, "".join(text[a:b])) if transcript.turns else None
            times += 1
            if found is not None:
                went_on += 1
                whole = claude_code.parse("".join(text[:b]), file.name)
                assert transcript.turns + found[0] == whole.turns, (file.name, a, b)
    assert went_on > times / 2
