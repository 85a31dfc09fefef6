"""A hook shortens a command's long output, if it is turned on, and the agent can open the whole."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.composition import open_memory
from ctxmem_mcp.errors import InvalidArgument, UnknownConversation
from ctxmem_mcp.hooks import entry
from ctxmem_mcp.settings import SETTINGS, Settings
from ctxmem_mcp.settings.sources import CONFIG_ENV
from ctxmem_mcp.text.long_output import is_shortened
from tests.capture.agents import run
from tests.hooks.test_repeats import files
from tests.text.test_long_output import FAILURES, OUTPUTS

pytestmark = pytest.mark.anyio
OUTPUT = (OUTPUTS / "pytest.txt").read_text("utf-8")
AGENTS = ["claude-code", "copilot-cli"]
NO_SETTINGS = Path(__file__).parents[1] / "data" / "empty.toml"


def after_call(
    data: Path,
    agent: str,
    output: str = OUTPUT,
    tokens: str = "1000",
    waits: Sequence[str] | None = None,
    **fields: Any,
) -> str:
    """Returns the output that the model gets after a call. waits: the hook's options, by default `install`'s."""
    if waits is None:
        waits = ["--wait"] if agent == "claude-code" else []
    if agent == "copilot-cli":
        result: dict[str, Any] = {"tool_result": {"result_type": "success", "text_result_for_llm": output}}
    else:
        result = {"tool_response": {"stdout": output, "stderr": "", "interrupted": False, "isImage": False}}
    event = {
        "session_id": "s-1", "cwd": "/w", "hook_event_name": "PostToolUse", "tool_name": "Bash",
        "tool_input": {"command": "make"}, "transcript_path": str(data / "none.jsonl"), **result, **fields,
    }  # fmt: skip
    ran = run(data, "hook", agent, *waits, given=json.dumps(event).encode(), CTXMEM_OUTPUT_TOKENS=tokens)
    assert (ran.returncode, ran.stderr) == (0, b"")
    if not ran.stdout:
        return output
    reply = json.loads(ran.stdout)
    if agent == "copilot-cli":
        assert reply["modifiedResult"]["resultType"] == "success"
        return str(reply["modifiedResult"]["textResultForLlm"])
    replaced = reply["hookSpecificOutput"]["updatedToolOutput"]
    assert list(replaced) == list(result["tool_response"])  # Claude Code rejects another form
    return str(replaced["stdout"])


def place_in(short: str) -> tuple[str, str]:
    """Returns the conversation and the id that a shortened output names."""
    match = re.search(r"expand_node with conversation (\S+) and id (t\d+) returns all of it\.\]$", short)
    assert match
    return match[1], match[2]


@pytest.mark.parametrize("agent", AGENTS)
async def test_no_failure_of_a_build_is_hidden_and_the_whole_can_be_opened(tmp_path: Path, agent: str) -> None:
    shorts: dict[str, str] = {}
    for tool in FAILURES:
        text = (OUTPUTS / f"{tool}.txt").read_text("utf-8")
        shorts[text] = after_call(
            tmp_path / "data", agent, text, str(max(200, len(text) // 16)), tool_input={"command": tool}
        )
        assert len(shorts[text]) < len(text) * 0.6
        assert all(failure in shorts[text] for failure in FAILURES[tool])
    async with open_memory(Settings(tmp_path / "data")) as memory:
        for text, short in shorts.items():
            assert is_shortened(short)
            conversation, turn = place_in(short)
            assert text in (await memory.expand(conversation, turn, token_budget=50_000)).text
            assert (await memory.turn(conversation, turn)).content == text


@pytest.mark.parametrize("agent", AGENTS)
def test_what_was_asked_for_stays_whole(tmp_path: Path, agent: str) -> None:
    data = tmp_path / "data"
    assert after_call(data, agent, tokens="0") == OUTPUT
    assert after_call(data, agent, tokens="") == OUTPUT
    assert after_call(data, agent, tokens="50000") == OUTPUT
    assert after_call(data, agent, tool_input={"command": "sed -n 1,400p log.txt"}) == OUTPUT
    assert after_call(data, agent, tool_name="Read", tool_input={"file_path": "/w/log.txt"}) == OUTPUT
    assert after_call(data, agent, tool_name="mcp__ctxmem__expand_node") == OUTPUT
    assert after_call(data, agent) != OUTPUT
    assert after_call(data, agent) == OUTPUT  # the same call again
    assert after_call(data, agent, session_id="s-2") != OUTPUT


def test_an_output_is_neither_shortened_nor_stored_twice_if_the_agent_does_not_wait(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    assert after_call(data, "claude-code", waits=[]) == OUTPUT
    assert len(list((data / "spool").iterdir())) == 1
    assert after_call(data, "claude-code", waits=["--wait", "--data-dir", str(data)]) != OUTPUT


@pytest.mark.parametrize(
    "value", ["0", "1", "199", "200", "1000", "100000", "100001", "-5", "1_000", "+500", "²", "٥٠٠", "many", "9" * 5000]
)
def test_a_hook_reads_the_setting_as_the_settings_do_and_a_refused_value_is_off(
    value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = SETTINGS["output_tokens"].environment
    try:
        expected = Settings.load({}, {name: value}, NO_SETTINGS).output_tokens
    except InvalidArgument:
        expected = 0
    monkeypatch.setenv(name, value)
    monkeypatch.setenv(CONFIG_ENV, str(NO_SETTINGS))
    assert entry._output_tokens() == expected


def test_an_output_stays_whole_if_the_whole_cannot_be_stored(tmp_path: Path) -> None:
    event = {
        "session_id": "s-1", "hook_event_name": "PostToolUse", "tool_name": "Bash", "tool_input": {"command": "make"},
        "tool_response": {"stdout": OUTPUT},
    }  # fmt: skip
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "spool").write_text("no folder")
    ran = run(
        tmp_path / "data", "hook", "claude-code", "--wait",
        given=json.dumps(event).encode(), CTXMEM_OUTPUT_TOKENS="1000",
    )  # fmt: skip
    assert (ran.returncode, ran.stdout) == (0, b"")


async def test_an_output_with_half_a_surrogate_pair_can_be_opened(tmp_path: Path) -> None:
    conversation, turn = place_in(after_call(tmp_path, "claude-code", f"{OUTPUT}\ud83d"))
    async with open_memory(Settings(tmp_path)) as memory:
        assert (await memory.turn(conversation, turn)).content == f"{OUTPUT}\ufffd"


async def test_the_whole_is_forgotten_with_its_session(tmp_path: Path) -> None:
    data = tmp_path / "data"
    prompt = {"session_id": "s-1", "cwd": "/w", "hook_event_name": "UserPromptSubmit", "prompt": "Run the tests."}
    run(data, "hook", "claude-code", given=json.dumps(prompt).encode())
    stored, _ = place_in(after_call(data, "claude-code"))
    async with open_memory(Settings(data)) as memory:
        assert (await memory.info(stored)).turns == 2
        after_call(data, "claude-code", tool_input={"command": "make again"})  # stays in the spool
        receipt = await memory.forget("s-1", confirm="s-1")
        assert receipt.others == []
        with pytest.raises(UnknownConversation):
            await memory.info(stored)
    assert [path for path in files(data) if b"test_frames" in path.read_bytes()] == []


async def test_secrets_in_the_whole_are_redacted_before_it_is_spooled(tmp_path: Path) -> None:
    event = {
        "session_id": "s-1", "cwd": "/w", "hook_event_name": "PostToolUse", "tool_name": "Bash",
        "tool_input": {"command": "make"}, "tool_response": {"stdout": f"{OUTPUT}\nkey AKIAIOSFODNN7EXAMPLE\n"},
    }  # fmt: skip
    ran = run(tmp_path, "hook", "claude-code", "--wait", given=json.dumps(event).encode(), CTXMEM_OUTPUT_TOKENS="1000",
              CTXMEM_REDACT="secrets")  # fmt: skip
    assert b"updatedToolOutput" in ran.stdout
    assert [path for path in files(tmp_path) if b"AKIAIOSFODNN7EXAMPLE" in path.read_bytes()] == []
