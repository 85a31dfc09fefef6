"""With a prompt, the hook quotes earlier turns of the project that bear on it; to most prompts it adds nothing."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp.capture import spoken_turns
from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.hooks.prompt_likelihood import PromptContext, likelihoods
from ctxmem_mcp.hooks.prompt_match import Exchange, Prompt, Utterance
from ctxmem_mcp.hooks.prompt_question import asks_how_things_are
from ctxmem_mcp.hooks.transcript_tail import read_tail
from ctxmem_mcp.redaction import redact
from ctxmem_mcp.settings import Settings
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.keywords import names_of, terms_of
from tests.capture.agents import COMMAND, Agent, drain_spool, environment, run
from tests.hooks.test_repeats import files

pytestmark = pytest.mark.anyio
Row = dict[str, Any]
ANSWER = (
    "The relay keeps its retry queue in memory. We decided on a write-ahead journal, relay.journal, because the broker "
    "restarts every night and a queue in memory is lost."
)
TALK = [
    ("user", "Where does the relay keep its retry queue? It lost the queue when the broker restarted."),
    ("assistant", ANSWER),
    ("user", "Rename the colour tokens of the landing page to semantic ones."),
    ("assistant", "The colour tokens of the landing page are semantic now: surface, accent, danger."),
]
PROMPT = "Why did we decide on a journal for the retry queue of the relay?"


def row(number: int, role: str, text: str, session: str, **more: object) -> str:
    return json.dumps({
        "type": role, "uuid": f"{session}{number}", "parentUuid": f"{session}{number - 1}" if number else None,
        "sessionId": session, "cwd": "/w", "timestamp": "2026-01-09T10:50:40Z",
        "message": {"role": role, "content": text}, **more,
    })  # fmt: skip


async def talked(tmp_path: Path, talk: list[tuple[str, str]], session: str = "s-1") -> Agent:
    """A session with these turns, stored by a drain."""
    lines = [row(number, role, text, session) for number, (role, text) in enumerate(talk)]
    agent = Agent(tmp_path / "data", tmp_path / f"{session}.jsonl", lines)
    agent.write(len(lines))
    agent.hook("SessionEnd")
    await drain_spool(agent.data)
    return agent


def added_to(agent: Agent, prompt: str, session: str = "s-2", agent_id: str = "claude-code", **settings: str) -> str:
    event = agent.event(
        "UserPromptSubmit", prompt=prompt, session_id=session,
        transcript_path=str(agent.file.with_name(f"{session}.jsonl")),
    )  # fmt: skip
    ran = run(agent.data, "hook", agent_id, given=event, **settings)
    assert (ran.returncode, ran.stderr) == (0, b"")
    if not ran.stdout:
        return ""
    output = json.loads(ran.stdout)["hookSpecificOutput"]
    assert output["hookEventName"] == "UserPromptSubmit"
    return str(output["additionalContext"])


@pytest.mark.parametrize("agent_id", ["claude-code", "codex"])
async def test_what_another_session_said_about_the_prompt_is_added_once(tmp_path: Path, agent_id: str) -> None:
    agent = await talked(tmp_path, TALK)
    text = added_to(agent, PROMPT, agent_id=agent_id)
    assert text.startswith("[ctxmem-mcp recalls] Said earlier in this project")
    assert "conversation s-1, t1-" in text
    assert "because the broker restarts every night" in text
    assert "landing page" not in text
    assert added_to(agent, PROMPT, agent_id=agent_id) == ""  # nothing is said twice in a session
    assert added_to(agent, PROMPT, "s-3", CTXMEM_PROMPT_RECALL="off") == ""
    assert added_to(agent, PROMPT, "s-3") == text


@pytest.mark.parametrize(
    "prompt", ["yes", "Commit this and push.", "Add a dark theme to the settings dialog.", "😅", ""]
)
async def test_nothing_is_added_to_other_prompts(tmp_path: Path, prompt: str) -> None:
    assert added_to(await talked(tmp_path, TALK), prompt) == ""


async def test_what_is_in_the_context_is_not_added(tmp_path: Path) -> None:
    agent = await talked(tmp_path, TALK)
    assert added_to(agent, PROMPT, "s-1") == ""  # its own session, which was not compacted
    recall = row(0, "user", f"[ctxmem-mcp recalls] {TALK[1][1]}", "s-2")
    agent.file.with_name("s-2.jsonl").write_text(recall + "\n", "utf-8")
    assert "write-ahead" not in added_to(agent, PROMPT, "s-2")


@pytest.mark.parametrize(
    ("prompt", "context", "is_added"),
    [
        ("Where does the relay keep its retry queue?", "The headings are larger.", True),
        ("Wo ist die retry queue des relay?", "The headings are larger.", True),
        ("Move the retry queue of the relay to a file.", "The headings are larger.", False),
        ("Why is the change to the retry queue of the relay needed?", "The headings are larger.", False),
        ("Wo ist die retry queue des relay?", "The relay has its retry queue in memory.", False),
    ],
)
async def test_in_a_long_context_a_question_about_other_things_is_answered(
    tmp_path: Path, prompt: str, context: str, is_added: bool
) -> None:
    others = [("user", f"Page {n}: softer shadows, larger headings and a darker palette") for n in range(8)]
    agent = await talked(tmp_path, TALK + others)
    rows = [row(0, "assistant", context, "s-2")]
    rows += [row(number, "assistant", "The palette is darker now. " * 40, "s-2") for number in range(1, 30)]
    agent.file.with_name("s-2.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    assert ("retry queue" in added_to(agent, prompt)) is is_added


async def test_a_prompt_that_the_agent_wrote_before_it_runs_the_hook_is_no_context_of_its_own(tmp_path: Path) -> None:
    agent = await talked(tmp_path, TALK + [("user", f"Page {n}: softer shadows, larger headings") for n in range(8)])
    prompt = "Where does the relay keep its retry queue?"
    rows = [row(number, "assistant", "The palette is darker now. " * 40, "s-2") for number in range(1, 30)]
    rows.append(row(30, "user", prompt, "s-2"))
    agent.file.with_name("s-2.jsonl").write_text("\n".join(rows) + "\n", "utf-8")
    assert "retry queue" in added_to(agent, prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "why is the worktree not available when we create the partial state?", "do we have a test for two sessions?",
        "Warum ist der Test so langsam?", "Pourquoi le cache est-il vide ?", "¿Por qué está vacío el caché?",
    ],
)  # fmt: skip
def test_questions_how_things_are_are_recognised(prompt: str) -> None:
    assert asks_how_things_are(prompt)
    assert not asks_how_things_are(prompt + "\n+ a line of a diff" * 60)


@pytest.mark.parametrize(
    "prompt", ["Can you add a test?", "what would you propose?", "does this mean we can remove it?", "Fix it."]
)
def test_requests_are_no_such_questions(prompt: str) -> None:
    assert not asks_how_things_are(prompt)


async def test_what_the_sessions_start_quoted_is_not_added(tmp_path: Path) -> None:
    agent = await talked(tmp_path, TALK)
    started = agent.hook("SessionStart", session_id="s-2", source="startup")
    assert b"write-ahead journal" in started.stdout
    assert "write-ahead" not in added_to(agent, PROMPT, "s-2")
    assert "write-ahead" in added_to(agent, PROMPT, "s-3")


async def test_what_was_before_the_last_compaction_is_added(tmp_path: Path) -> None:
    agent = await talked(tmp_path, TALK)
    recap = row(5, "user", "This session is being continued. The page is new.", "s-1", isCompactSummary=True)
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "s-14", "parentUuid": None,
                "logicalParentUuid": "s-13", "sessionId": "s-1", "content": "Conversation compacted"}  # fmt: skip
    agent.lines += [json.dumps(boundary), recap]
    agent.write(len(agent.lines))
    agent.hook("Stop")
    await drain_spool(agent.data, wait=True)
    assert "write-ahead journal" in added_to(agent, PROMPT, "s-1")


async def compacted(agent: Agent, *later: tuple[str, str], recap: str = "This session is being continued.") -> None:
    """Compacts the agent's session s-1, and adds turns after it."""
    last = f"s-1{len(agent.lines) - 1}"
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "s-1b", "parentUuid": None,
                "logicalParentUuid": last, "sessionId": "s-1", "content": "Conversation compacted"}  # fmt: skip
    first = len(agent.lines) + 1
    agent.lines += [json.dumps(boundary), row(first, "user", recap, "s-1", isCompactSummary=True)]
    agent.lines += [row(first + 1 + number, role, text, "s-1") for number, (role, text) in enumerate(later)]
    agent.write(len(agent.lines))
    agent.hook("Stop")
    await drain_spool(agent.data, wait=True)


OTHERS = [("user", f"Page {n}: softer shadows, larger headings and a darker palette") for n in range(8)]


@pytest.mark.parametrize("recap", ["This session is being continued.", "This session is being continued. " * 900])
async def test_the_first_prompt_after_a_compaction_gets_what_was_said_last_about_it(tmp_path: Path, recap: str) -> None:
    agent = await talked(tmp_path, OTHERS + TALK[:2])
    await compacted(agent, recap=recap)
    assert "write-ahead journal" in added_to(agent, "And the journal?", "s-1")
    assert added_to(agent, "And the journal?", "s-2") == ""  # another session has not talked about it last


async def test_later_prompts_after_a_compaction_need_more_words_in_common(tmp_path: Path) -> None:
    agent = await talked(tmp_path, OTHERS + TALK[:2])
    host = ("user", "<system-reminder>The file was changed.</system-reminder>")
    await compacted(agent, host)
    talk = [turn for n in range(4) for turn in (("user", f"Rename the colour of page {n}."), ("assistant", "Renamed."))]
    assert "write-ahead journal" in added_to(agent, "And the journal?", "s-1")
    (tmp_path / "other").mkdir()
    other = await talked(tmp_path / "other", OTHERS + TALK[:2])
    await compacted(other, *talk)
    assert added_to(other, "And the journal?", "s-1") == ""


@given(st.integers(0, 30), st.integers(0, 30), st.booleans())
def test_likelihoods_rise_with_the_words_in_common_and_fall_with_each_prompt(
    since: int, prompts: int, is_question: bool
) -> None:
    exchanges = [Exchange(0, since), Exchange(0), Exchange(0)]
    for exchange, said in zip(exchanges, (["a", "b", "c"], ["a"], ["x"]), strict=True):
        exchange.utterances.append(Utterance(said, (), False))
    matches = Prompt(["a", "b", "c"], (), exchanges).matches()
    now, later = (
        likelihoods(matches, PromptContext(is_question=is_question, prompts=n, exchanges=3))
        for n in (prompts, prompts + 1)
    )
    assert now[0] > now[1]
    assert all(0 < after < before < 1 for before, after in zip(now, later, strict=True))


async def test_a_long_record_stays_within_400_tokens(tmp_path: Path) -> None:
    for unit in ("журнал ", "日誌隊列中繼", "queue_journal.relay "):
        talk = [("user", f"The retry queue of the relay loses its journal, {unit * 90}") for _ in range(3)]
        talk += [("user", f"Landing page {n}: a darker palette, softer shadows, larger headings") for n in range(20)]
        (tmp_path / unit[:2]).mkdir()
        agent = await talked(tmp_path / unit[:2], talk)
        text = added_to(agent, "The retry queue of the relay loses its journal?")
        assert text
        assert tokenizer.count(text) <= 400


async def test_quotations_without_room_are_added_to_later_prompts(tmp_path: Path) -> None:
    talk = [("user", f"The retry queue of the relay loses its journal, {n} {'日誌隊列 中繼 ' * 60}") for n in range(4)]
    agent = await talked(tmp_path, OTHERS + talk)
    await compacted(agent)
    prompt = "The retry queue of the relay loses its journal?"
    turns = [turn for _ in range(4) for turn in quoted_turns(added_to(agent, prompt, "s-1"))]
    assert len(set(turns)) == len(turns) == 4


async def test_quotations_that_could_not_be_written_are_added_to_the_next_prompt(tmp_path: Path) -> None:
    agent = await talked(tmp_path, TALK)
    event = agent.event("UserPromptSubmit", prompt=PROMPT, session_id="s-2", transcript_path="")
    reader, writer = os.pipe()
    os.close(reader)
    command = [*COMMAND, "hook", "claude-code"]
    ran = await anyio.run_process(command, input=event, stdout=writer, env=environment(agent.data))
    os.close(writer)
    assert b"Error" in ran.stderr
    assert "write-ahead journal" in added_to(agent, PROMPT)


@pytest.mark.parametrize("agent_id", ["claude-code", "codex"])
def test_a_recap_is_neither_a_prompt_nor_new_text(agent_id: str, tmp_path: Path) -> None:
    recap: Row = {"type": "user", "isCompactSummary": True, "message": {"role": "user", "content": "Recap. " * 9_000}}
    if agent_id == "codex":
        recap = {"type": "compacted", "payload": {"message": "Recap. " * 9_000, "replacement_history": []}}
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps(recap) + "\n" + row(1, "user", "Go on.", "s-1") + "\n", "utf-8")
    tail = read_tail(str(path))
    assert (tail.is_whole, tail.chars, tail.prompts()) == (True, len("Go on."), 1)
    assert "Recap." in tail.text


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ("<div>Why is this box empty?</div>", 1),
        ([{"type": "text", "text": "See"}, {"type": "image"}, {"type": "text", "text": "this picture."}], 1),
        ([{"type": "text", "text": "<system-reminder>a</system-reminder>"}, {"type": "text", "text": "Go on."}], 1),
        ("<system-reminder>a</system-reminder>", 0),
        ("[Request interrupted by user]", 0),
        ([{"type": "tool_result", "tool_use_id": "c1", "content": "ok"}], 0),
        ("", 0),
    ],
)
def test_prompts_are_the_rows_with_words_of_the_user(content: object, count: int, tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(json.dumps({"type": "user", "message": {"role": "user", "content": content}}) + "\n", "utf-8")
    assert read_tail(str(path)).prompts() == count


def quoted_turns(text: str) -> list[str]:
    """Returns the ids of the turns that a text quotes."""
    return re.findall(r"conversation \S+, (t\S+):", text)


async def test_forgotten_and_redacted_words_are_in_no_record(tmp_path: Path) -> None:
    agent = await talked(tmp_path, TALK)
    assert [path for path in files(agent.data / "spoken_turns") if b"write-ahead" in path.read_bytes()]
    assert added_to(agent, PROMPT)
    async with open_memory(Settings(agent.data)) as memory:
        await redact(memory, agent.data, await memory.find_copies("s-1", "t1"))
    assert [path for path in files(agent.data) if b"write-ahead" in path.read_bytes()] == []
    assert "write-ahead" not in added_to(agent, PROMPT, "s-4")
    async with open_memory(Settings(agent.data)) as memory:
        await memory.forget("s-1", confirm="s-1")
    assert [path for path in files(agent.data / "spoken_turns") if b"s-1" in path.read_bytes()] == []
    assert added_to(agent, "Are the colour tokens of the landing page semantic?", "s-5") == ""


async def test_an_imported_session_is_recorded_with_its_failed_calls(tmp_path: Path) -> None:
    lines = [row(number, role, text, "s-1") for number, (role, text) in enumerate(TALK)]
    call = {"type": "tool_use", "id": "c1", "name": "Bash", "input": {"command": "staticcheck ./..."}}
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "Exit code 127\ncommand not found: staticcheck"}
    for number, (role, block) in enumerate([("assistant", call), ("user", result)], start=len(TALK)):
        lines.append(row(number, role, "", "s-1", message={"role": role, "content": [block]}))
    agent = Agent(tmp_path / "data", tmp_path / "s-1.jsonl", lines)
    agent.write(len(lines))
    assert run(agent.data, "import", str(agent.file)).returncode == 0
    assert "write-ahead journal" in added_to(agent, PROMPT)
    before = agent.event("PreToolUse", tool_name="Bash", tool_input={"command": "staticcheck ./..."}, session_id="s-2")
    assert b"command not found: staticcheck" in run(agent.data, "hook", "claude-code", given=before).stdout


def test_a_full_record_is_cut_to_the_newest(tmp_path: Path) -> None:
    hasher = spoken_turns.load_hasher(str(tmp_path), create=True)
    assert hasher is not None
    most = spoken_turns.RECORDS_MAX
    for start in range(0, most * 2, most // 2):
        turns = [
            spoken_turns.SpokenTurn("c", f"t{n}-1", n, "", "user", hasher.terms(f"relay number{n}"), '"relay"')
            for n in range(start, start + most // 2 + 1)
        ]
        spoken_turns.add(str(tmp_path), "/w", turns)
    found = [turn.index for turn in spoken_turns.read(str(tmp_path), "/w")]
    assert most <= len(found) <= most * 5 // 4
    assert found == list(range(found[0], most * 2 + 1))  # each once, the newest last
    assert all(path.stat().st_mode & 0o77 == 0 for path in files(tmp_path))


TEXTS = st.text(max_size=60)


@given(TEXTS, TEXTS)
def test_every_text_has_words_and_case_and_underscores_make_no_difference(one: str, other: str) -> None:
    assert terms_of(f"{one} \n {other}") == terms_of(one) + terms_of(other)
    assert names_of("session_id") == names_of("sessionId") == names_of("SESSION_ID") == {"=sessionid"}


@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8), st.integers(0, 5))
def test_the_same_words_score_highest_and_age_lowers_the_score(words: list[str], age: int) -> None:
    exchanges = [Exchange(age), Exchange(0), Exchange(0)]
    for exchange, said in zip(exchanges, (words, words, ["x", "y"]), strict=True):
        exchange.utterances.append(Utterance(said, (), False))
    matches = Prompt(words, (), exchanges).matches()
    assert len(matches) == 2
    assert matches[0].score >= matches[1].score
    assert all(0 <= match.best_share <= match.share <= 1.0001 for match in matches)
