"""Codex in exec mode, captured by its hooks."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from ctxmem_mcp.text.host_text import RECALL_START
from tests.agents import codex
from tests.agents.gateway import Gateway
from tests.agents.home import Home, assert_in_order, wait_for
from tests.agents.model import Model, call, hold, say
from tests.agents.packages import CODEX, installed
from tests.agents.test_wrap import TASK, rounds, texts

pytestmark = pytest.mark.anyio
# The requests of a session through the gateway, and its budget in tokens.
STEPS, TOKENS = 15, 8_000
# The hooks are run without a trust that only a person can give.
OPTIONS = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "--dangerously-bypass-hook-trust"]


def command(*words: str) -> list[str | Path]:
    return [installed(CODEX), "exec", *words[:-1], *OPTIONS, words[-1]]


async def check_capture(home: Home, session: str) -> None:
    """Asserts that the session is stored once, and nothing else."""
    assert await home.conversations() == [session]
    file = codex.transcripts(home)[-1]
    words = [word for item in codex.rows_of(file) for word in codex.words_of(item)]
    # What a killed agent has received or begun to say may be an event only, or in its hook's hands only.
    assert_in_order(words, await home.turns(session), also={"And again.", "Half an answer.", *codex.announced(file)})


async def test_tools_an_error_a_resume_and_a_kill_are_captured(tmp_path: Path, model: Model) -> None:
    home = codex.set_up(tmp_path / "home", model)
    model.replies.extend([
        [say("I look first."), call("shell", command="echo hi; ls /nonexist")],
        [call("list_conversations")],
        [say("ENOENT seen. äöü 🎉")],
    ])  # fmt: skip
    home.run(command("Look around."))
    (request, *_) = model.main_requests
    session = request.headers["session-id"]
    assert '"conversations"' in str(model.main_requests[-1].body["input"])  # what our tool returned
    await check_capture(home, session)
    model.replies.extend([[call("shell", command="echo again")], [say("Seen again.")]])
    home.run(command("resume", session, "Look again."))
    await check_capture(home, session)
    model.replies.append([say("Half an answer."), hold()])
    running = home.start(command("resume", session, "And again."))
    wait_for("an answer in progress", model.holding.is_set)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    model.release.set()
    model.replies.append([say("Seen at last.")])
    home.run(command("resume", session, "Once more."))
    await check_capture(home, session)
    assert home.doctor_faults("codex") == []


async def test_what_the_recap_left_out_is_in_the_request_after_a_compaction(tmp_path: Path, model: Model) -> None:
    home = codex.set_up(tmp_path / "home", model)
    config = home.path / ".codex" / "config.toml"
    config.write_text("model_auto_compact_token_limit = 2000\n" + config.read_text("utf-8"), "utf-8")
    looks = [say("I look first. " + "word " * 3_000), call("shell", command="echo hi; nosuchprogram --all")]
    model.replies.extend([looks, [say("Seen.")]])
    home.run(command("Look around."))
    after = str(model.main_requests[-1].body["input"])
    assert after.count("what the summary of this session leaves out") == 1
    added = after.split("what the summary of this session leaves out")[1]
    assert "word word word" in added
    assert "Look around." not in added  # Codex keeps what the user said


async def test_the_documented_provider_is_compacted_three_times_and_stored_once(tmp_path: Path, model: Model) -> None:
    home = codex.set_up(tmp_path / "home", model)
    page = (Path(__file__).parents[2] / "docs" / "gateway.md").read_text("utf-8")
    (provider,) = re.findall(r"```toml\n(model_provider.*?)```", page, re.DOTALL)
    config = home.path / ".codex" / "config.toml"
    plain = config.read_text("utf-8").replace('model_provider = "stub"\n', "")
    home.variables["OPENAI_API_KEY"] = "not-a-real-key"
    model.replies.extend(rounds()[-STEPS:])
    with Gateway(home, model, TOKENS) as gateway:
        config.write_text(
            provider.replace("http://127.0.0.1:8377", gateway.url).replace("\n\n", f"\n{plain}\n", 1), "utf-8"
        )
        assert "All lines were seen." in home.run(command(TASK))
    requests = model.main_requests
    assert len(requests) == STEPS
    assert all(TASK in texts(request.body["input"]) for request in requests)
    items = [item for request in requests for item in request.body["input"]]
    assert len({json.dumps(item) for item in items if RECALL_START in texts(item)}) >= 3
    await check_capture(home, requests[0].headers["session-id"])
