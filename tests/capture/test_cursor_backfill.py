"""Sessions that have both events and a transcript become one conversation, with each turn stored once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.cursor_backfill import turns_before
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import UnknownConversation
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.transcripts import cline
from tests.capture.agents import drain_spool, fields_of, load_turns, run
from tests.capture.test_spool_worker import age_events
from tests.transcripts.test_cline import MESSAGES, NAME, TASK, message
from tests.transcripts.test_cursor import file as lines
from tests.transcripts.test_cursor import row, use

pytestmark = pytest.mark.anyio


def write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


# ---------------------------------------------------------------- Cline: stored from the transcript


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of a task's file, where Cline's CLI keeps it. The file does not exist yet."""
    monkeypatch.setenv("CLINE_DIR", str(tmp_path / ".cline"))
    path = tmp_path / ".cline" / "data" / "tasks" / NAME
    path.parent.mkdir(parents=True)
    return path


def leave_cline(data: Path, name: str, **about: Any) -> None:
    key = name[:1].lower() + name[1:]
    given = {"taskId": NAME.partition("/")[0], "hookName": name, "workspaceRoots": ["/home/me/relay"], key: about}
    spool.put(str(data), "cline", json.dumps(given).encode())


async def test_a_tasks_events_and_transcript_become_one_conversation(tmp_path: Path, task: Path) -> None:
    data = tmp_path / "data"
    leave_cline(data, "UserPromptSubmit", prompt="Name the port.")
    age_events(data)
    await drain_spool(data)  # stored before the file exists
    write(task, json.dumps(MESSAGES))
    leave_cline(data, "PostToolUse", toolName="read_file", parameters={"path": "relay.toml"}, result="port = 7412")
    leave_cline(data, "UserPromptSubmit", prompt="Shorter.")
    leave_cline(data, "PostToolUse", toolName="attempt_completion", parameters={"result": "It is 7412."})
    age_events(data)
    await drain_spool(data)
    turns, branches = await load_turns(data, "1769053680585")
    assert (fields_of(turns), branches) == (fields_of(cline.parse(json.dumps(MESSAGES), NAME).turns), 1)
    assert spool.pending(str(data)) == []


async def test_a_rewound_task_follows_its_transcript(tmp_path: Path, task: Path) -> None:
    data = tmp_path / "data"
    for messages in (MESSAGES, [TASK, message("assistant", "Which one?")]):
        write(task, json.dumps(messages))
        leave_cline(data, "TaskResume")
        await drain_spool(data)
    turns, branches = await load_turns(data, "1769053680585")
    assert (turns[-1].content, branches) == ("Which one?", 2)


async def test_a_task_without_a_transcript_is_stored_from_its_events(tmp_path: Path, task: Path) -> None:
    leave_cline(tmp_path / "data", "UserPromptSubmit", prompt="Name the port.")
    leave_cline(tmp_path / "data", "PostToolUse", toolName="read_file", parameters={"path": "a"}, result="1")
    await drain_spool(tmp_path / "data")
    turns, _ = await load_turns(tmp_path / "data", "1769053680585")
    assert [turn.content for turn in turns] == ["Name the port.", '{"path":"a"}', "1"]


# ---------------------------------------------------------------- Cursor: stored from the events


SAID = [("beforeSubmitPrompt", {"prompt": "Name the port."}),
        ("afterShellExecution", {"command": "cat relay.toml", "output": "port = 7412"}),
        ("afterAgentResponse", {"text": "It is 7412."})]  # fmt: skip
TOLD = ["Name the port.", "cat relay.toml", "port = 7412", "It is 7412."]
EARLIER = [row("user", "<user_query>\nhi\n</user_query>"), row("assistant", "Hello.")]
THEN = [
    row("user", "<open_files>\na\n</open_files>", "<user_query>\nName the port.\n</user_query>"),
    row("assistant", use("Shell", command="cat relay.toml")),
    row("assistant", "It is 7412."),
]


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "home" / ".cursor" / "projects" / "w" / "agent-transcripts" / "c-1" / "c-1.jsonl"
    path.parent.mkdir(parents=True)
    return path


def leave_cursor(data: Path, name: str, path: Path | None, **said: Any) -> None:
    given = {"conversation_id": "c-1", "hook_event_name": name, "workspace_roots": ["/w"], **said}
    given["transcript_path"] = path and str(path)
    spool.put(str(data), "cursor", json.dumps(given).encode())


def import_all(data: Path) -> dict[str, tuple[int, bool]]:
    ran = run(data, "import", "--all", "--json")
    assert ran.returncode == 0, ran.stderr
    return {caught["conversation_id"]: (caught["new"], caught["gone"]) for caught in json.loads(ran.stdout)}


async def test_the_first_events_follow_the_turns_before_them(
    tmp_path: Path, session: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    monkeypatch.setenv("CURSOR_DATA_DIR", str(tmp_path / "home" / ".cursor"))  # the first event names no file
    write(session, lines(*EARLIER, *THEN))
    for i, (name, said) in enumerate(SAID):
        leave_cursor(data, name, session if i else None, **said)
    age_events(data)
    await drain_spool(data)
    turns, branches = await load_turns(data, "c-1")
    assert ([turn.content for turn in turns], branches) == (["hi", "Hello.", *TOLD], 1)


async def test_a_synced_transcript_is_ignored_once_events_arrive_and_no_turn_is_stored_twice(
    tmp_path: Path, session: Path
) -> None:
    data = tmp_path / "data"
    write(session, lines(*EARLIER))
    assert import_all(data) == {"c-1": (2, False)}
    write(session, lines(*EARLIER, THEN[0]))
    assert import_all(data) == {"c-1": (2, False)}  # the prompt is in the file before its event is drained
    for name, said in SAID:
        leave_cursor(data, name, session, **said)
    await drain_spool(data)
    write(session, lines(*EARLIER, *THEN))
    assert import_all(data) == {"c-1": (0, False)}
    turns, branches = await load_turns(data, "c-1")
    assert ([turn.content for turn in turns], branches) == (["hi", "Hello.", *TOLD], 2)


async def test_a_forgotten_session_does_not_come_back_from_its_transcript(tmp_path: Path, session: Path) -> None:
    data = tmp_path / "data"
    write(session, lines(*EARLIER, *THEN))
    leave_cursor(data, SAID[0][0], session, **SAID[0][1])
    await drain_spool(data)
    async with open_memory(Settings(data, durability="normal")) as memory:
        await memory.forget("c-1", "c-1")
    assert import_all(data) == {"c-1": (0, True)}
    with pytest.raises(UnknownConversation):
        await load_turns(data, "c-1")
    assert run(data, "import", "--again", str(session)).returncode == 0
    assert import_all(data) == {"c-1": (0, False)}
    assert len((await load_turns(data, "c-1"))[0]) == 6


YES, NO, OK = NewTurn("user", "yes"), NewTurn("user", "no"), NewTurn("assistant", "ok")
HOST = NewTurn("system", "open files", "injected")


@pytest.mark.parametrize(
    ("turns", "words", "earlier"),
    [
        ([], [YES], 0),
        ([YES, OK], [NO], 2),  # not written yet
        ([YES, OK, HOST, NO], [NO, OK], 2),
        ([YES, OK, YES, OK], [YES], 2),  # the same message earlier
        ([NO, OK, YES, OK, NO], [YES, OK, NO, OK, NO], 2),  # the last is not written yet
        ([NO, OK, YES, OK, NO], [YES], 2),  # the event of the last has not arrived yet
        ([YES, OK], [OK], 2),
        ([HOST, YES], [YES], 0),
    ],
)
def test_turns_before_the_first_event(turns: list[NewTurn], words: list[NewTurn], earlier: int) -> None:
    assert turns_before(turns, words) == tuple(turns[:earlier])
