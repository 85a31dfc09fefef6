"""Resuming in a file that has grown gives the turns that parsing it whole gives, or None."""

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


def message_row(uuid: str, parent: str | None, role: str, content: Any, **more: Any) -> dict[str, Any]:
    message = {"role": role, "content": content}
    return {"type": role, "uuid": uuid, "parentUuid": parent, "sessionId": "s", "message": message, **more}


CALL = [{"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "ls"}}]
RESULT = [{"type": "tool_result", "tool_use_id": "c1", "content": "a.py"}]
START = lines(message_row("1", None, "user", "list the files"), message_row("2", "1", "assistant", CALL))


def appended_turns(start: str, more: str) -> tuple[NewTurn, ...] | None:
    """Returns the turns of the appended lines; asserts that parsing the whole file gives the same ones."""
    transcript, state = claude_code.parse_resumable(start, "s.jsonl")
    found = claude_code.resume(json.loads(json.dumps(state)), more)
    if found is None:
        return None
    assert transcript.turns + found[0] == claude_code.parse(start + more, "s.jsonl").turns
    return found[0]


def test_an_appended_result_has_the_name_of_its_earlier_call() -> None:
    turns = appended_turns(
        START, lines(message_row("3", "2", "user", RESULT), message_row("4", "3", "assistant", "One file."))
    )
    assert turns is not None
    assert [(turn.role, turn.name, turn.content) for turn in turns] == [
        ("tool", "Bash", "a.py"),
        ("assistant", None, "One file."),
    ]


def test_a_rewind_a_repeated_row_and_a_row_of_another_session_need_the_whole_file() -> None:
    assert appended_turns(START, lines(message_row("1", None, "user", "list the files"))) is None
    assert appended_turns(START, lines(message_row("9", "0", "user", "from elsewhere"))) is None
    assert appended_turns(START, lines(message_row("3", "2", "user", "go on", sessionId="t"))) is None
    rewound = START + lines(message_row("3", "2", "user", "first way"), message_row("4", "3", "assistant", "done"))
    assert appended_turns(rewound, lines(message_row("5", "2", "user", "second way"))) is None


def test_queue_operations_and_dequeued_prompts_need_the_whole_file() -> None:
    enqueued = {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "content": "stop please"}
    removed = {"type": "queue-operation", "operation": "remove", "sessionId": "s"}
    assert appended_turns(START, lines(enqueued)) is None
    assert appended_turns(START + lines(enqueued, removed), lines(message_row("3", "2", "user", "stop please"))) is None


def test_the_state_holds_none_of_the_text() -> None:
    enqueued = {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "content": "stop please"}
    removed = {"type": "queue-operation", "operation": "remove", "sessionId": "s"}
    state = json.dumps(claude_code.parse_resumable(START + lines(enqueued, removed), "s.jsonl")[1])
    assert not any(words in state for words in ("list the files", "stop please", "command"))


def test_a_queued_prompt_is_where_it_was_dequeued_so_that_a_growing_file_keeps_its_turns() -> None:
    enqueued = {"type": "queue-operation", "operation": "enqueue", "sessionId": "s", "content": "and the tests?"}
    removed = {"type": "queue-operation", "operation": "remove", "sessionId": "s"}
    rows = [message_row("1", None, "user", "list"), enqueued, message_row("2", "1", "assistant", "busy"), removed]
    rows.append(message_row("3", "2", "assistant", "tests are in tests/"))
    turns = [claude_code.parse(lines(*rows[:n]), "s.jsonl").turns for n in range(1, len(rows) + 1)]
    assert all(turns[-1][: len(before)] == before for before in turns)
    assert [turn.content for turn in turns[-1]] == ["list", "busy", "and the tests?", "tests are in tests/"]


def test_resuming_a_real_file_gives_what_parsing_it_whole_gives(eval_dir: Path) -> None:
    random_cuts, resumed, attempts = random.Random(7), 0, 0
    files = sorted((eval_dir / "transcripts" / "claude-code").rglob("*.jsonl"))
    for file in files:
        text = file.read_text("utf-8").splitlines(keepends=True)
        if len(text) < 40:
            continue
        cuts = sorted(random_cuts.sample(range(10, len(text)), 5))
        for a, b in itertools.pairwise(cuts):
            transcript, state = claude_code.parse_resumable("".join(text[:a]), file.name)
            found = claude_code.resume(state, "".join(text[a:b])) if transcript.turns else None
            attempts += 1
            if found is not None:
                resumed += 1
                whole = claude_code.parse("".join(text[:b]), file.name)
                assert transcript.turns + found[0] == whole.turns, (file.name, a, b)
    assert resumed > attempts / 2
