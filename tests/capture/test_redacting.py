"""Secrets are taken out before anything touches the disk, if that is asked for; else everything is kept."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp.capture import spool
from ctxmem_mcp.capture.redacting import redact
from tests.capture.agents import Agent, run, stored
from tests.capture.test_draining import row, text

# Put together here, so that no scanner takes them for real ones.
TOKEN = "ghp" + "_" + "a1B2" * 9
AWS = "AKIA" + "IOSFODNN7EXAMPLE"
KEY = "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIEowIBAAKCAQEA\n-----END RSA PRIVATE KEY-----"
PASSWORD = "hunter2hunter2"
SECRETS = {TOKEN: "GitHub Token", AWS: "AWS Access Key", KEY: "Private Key", PASSWORD: "Basic Auth Credentials"}
WORDS = f"Use {TOKEN} and {AWS}, see https://bob:{PASSWORD}@host/x\n{KEY}\nfor the relay."


def test_a_secret_becomes_a_placeholder_of_its_type() -> None:
    kept = redact(WORDS)
    assert not any(secret in kept for secret in SECRETS)
    assert all(f"[redacted: {kind}]" in kept for kind in SECRETS.values())
    assert kept.startswith("Use [redacted: GitHub Token] and")
    assert kept.endswith("for the relay.")


def test_what_was_redacted_stays_as_it_is_and_code_is_no_secret() -> None:
    assert redact(redact(WORDS)) == redact(WORDS)
    code = Path(spool.__file__).read_text("utf-8") + 'password = "changeme"; digest = "9f86d081884c7d659a2feaa0c55ad0"'
    assert redact(code) == code


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    lines = [row(0, "user", WORDS), row(1, "assistant", text(f"Used {TOKEN}."))]
    return Agent(tmp_path / "data", tmp_path / "s-1.jsonl", lines)


def files_with(data: Path, words: str) -> list[Path]:
    return [file for file in data.rglob("*") if file.is_file() and words.encode() in file.read_bytes()]


@pytest.mark.anyio
async def test_no_secret_reaches_the_disk_and_turns_are_known_again(agent: Agent) -> None:
    agent.write(1)
    for _ in range(2):
        event = agent.event("Stop", last_assistant_message=f"Used {TOKEN}.")
        assert run(agent.data, "hook", "claude-code", given=event, CTXMEM_REDACT="secrets").returncode == 0
    assert len(spool.waiting(str(agent.data))) == 2
    assert files_with(agent.data, TOKEN) == []
    agent.write(2)
    for _ in range(2):
        assert run(agent.data, "import", str(agent.file), CTXMEM_REDACT="secrets").returncode == 0
    turns, branches = await stored(agent.data, "s-1")
    assert [turn.content for turn in turns] == [redact(WORDS), "Used [redacted: GitHub Token]."]
    assert branches == 1
    assert [secret for secret in SECRETS if files_with(agent.data, secret)] == []


@pytest.mark.anyio
async def test_without_being_asked_everything_is_kept(agent: Agent) -> None:
    agent.write(2)
    agent.hook("Stop", last_assistant_message=f"Used {TOKEN}.")
    assert len(files_with(agent.data, TOKEN)) == 1
    run(agent.data, "list")
    assert [turn.content for turn in (await stored(agent.data, "s-1"))[0]] == [WORDS, f"Used {TOKEN}."]
