"""If redaction is on, secrets are replaced before anything is written to disk."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctxmem_mcp import NewTurn, Settings, open_memory
from ctxmem_mcp.capture import redaction, spool
from ctxmem_mcp.capture.redaction import redact, redact_event
from tests.capture.agents import Agent, load_turns, run
from tests.capture.test_spool_worker import row, text

# Assembled here, so that no scanner takes them for real secrets.
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


def test_placeholders_and_code_are_not_redacted() -> None:
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
async def test_no_secret_reaches_the_disk_and_turns_are_recognised(agent: Agent) -> None:
    agent.write(1)
    for _ in range(2):
        event = agent.event("Stop", last_assistant_message=f"Used {TOKEN}.")
        assert run(agent.data, "hook", "claude-code", given=event, CTXMEM_REDACT="secrets").returncode == 0
    assert len(spool.pending(str(agent.data))) == 2
    assert files_with(agent.data, TOKEN) == []
    agent.write(2)
    for _ in range(2):
        assert run(agent.data, "import", str(agent.file), CTXMEM_REDACT="secrets").returncode == 0
    turns, branches = await load_turns(agent.data, "s-1")
    assert [turn.content for turn in turns] == [redact(WORDS), "Used [redacted: GitHub Token]."]
    assert branches == 1
    assert [secret for secret in SECRETS if files_with(agent.data, secret)] == []


@pytest.mark.anyio
async def test_redaction_is_off_by_default(agent: Agent) -> None:
    agent.write(2)
    agent.hook("Stop", last_assistant_message=f"Used {TOKEN}.")
    assert len(files_with(agent.data, TOKEN)) == 1
    run(agent.data, "list")
    assert [turn.content for turn in (await load_turns(agent.data, "s-1"))[0]] == [WORDS, f"Used {TOKEN}."]


# ---------------------------------------------------------------- forms and places

LONG = "aB3dE5gH7jK9" * 12
BODY = [LONG[i : i + 64] for i in range(3)]
PEM = "\n".join(["-----BEGIN PRIVATE " + "KEY-----", *BODY, "-----END PRIVATE KEY-----"])
# What precedes a secret, and the secret.
FORMS = {
    "AWS Access Key": ("aws_secret_access_key = ", LONG[:40]),
    "AWS Access Key, as AWS answers": ('"SecretAccessKey": ', LONG[:40]),
    "AWS Session Token": ("AWS_SESSION_TOKEN=", "IQoJb3JpZ2lu" + LONG),
    "GitHub Token": ("", "github" + "_pat_" + LONG[:22] + "_" + LONG[:59]),
    "OpenAI Token": ("", "sk-" + "proj-" + LONG[:70] + "_-x-T3Blbk" + "FJ" + LONG[:70] + "_-"),
    "Anthropic Key": ("", "sk-" + "ant-api03-" + LONG[:95]),
    "Stripe Access Key": ("", "sk" + "_live_51" + LONG[:97]),
    "JSON Web Token": ("", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0." + LONG[:43]),
    "NPM tokens": ("", "npm" + "_" + LONG[:36]),
    "Hugging Face Token": ("", "hf" + "_" + LONG[:34]),
    "Google API Key": ("", "AI" + "za" + LONG[:35]),
    "Private Key": ("", PEM),
    "Private Key, cut off": ("", PEM.rpartition("\n")[0]),
}
PLACES = {
    "bare": "{}",
    "in a line": "KEY: {}\nNEXT=1",
    "quoted": 'key = "{}"\n',
    "on a line of its own": "first\n{}\nlast",
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("form", FORMS)
def test_secrets_are_found_everywhere_and_whole(form: str, place: str) -> None:
    before, secret = FORMS[form]
    text = PLACES[place].replace("{}", before + secret)
    parts = [secret[i : i + 12] for i in range(0, len(secret) - 12, 4) if "KEY" not in secret[i : i + 12]]
    parts = [part for part in parts if not set(part) & set("- \n")]
    for fields_of in (text, json.dumps({"command": text, "n": 1}), json.dumps({"in": json.dumps([text])})):
        kept = redact(fields_of)
        assert [part for part in parts if part in kept] == []
        assert redact(kept) == kept
        assert not fields_of.startswith("{") or json.loads(kept).keys() == json.loads(fields_of).keys()


def test_a_key_with_line_numbers_is_one_secret() -> None:
    numbered = "\n".join(f"{i:6}\t{line}" for i, line in enumerate(PEM.split("\n"), 1))
    assert redact(numbered + "\nrest") == "     1\t[redacted: Private Key]\nrest"


def test_nothing_but_the_secret_is_replaced() -> None:
    token = "npm" + "_" + LONG[:36]
    run = f'{{"command":"echo //packages.example/:_authToken={token} > .npmrc && npm publish","timeout":3}}'
    assert redact(run) == run.replace(token, "[redacted: NPM tokens]")
    assert redact(f'{{"a":"AKC{LONG[:20]}","b":1}}') == '{"a":"[redacted: Artifactory Credentials]","b":1}'
    code = 'FIRST, LAST = "-----BEGIN PRIVATE ' + 'KEY-----", "-----END"\nbody = cut(text, FIRST, LAST)\n'
    assert redact(code + "x = '-----END PRIVATE KEY-----'") == code + "x = '-----END PRIVATE KEY-----'"
    beside = '{"http://localhost":"someone@example.org"}'
    assert redact(beside) == beside


def test_a_password_that_is_a_word_is_replaced_only_in_urls() -> None:
    fields_of = "postgres://postgres:postgres@db/x needs postgres 16"
    assert redact(fields_of) == "postgres://postgres:[redacted: Basic Auth Credentials]@db/x needs postgres 16"


def test_an_event_stays_json() -> None:
    event = {"old": "-----BEGIN RSA PRIVATE " + "KEY-----", "new": "-----END RSA PRIVATE KEY-----", TOKEN: [TOKEN, 1]}
    kept = json.loads(redact_event(json.dumps(event).encode()))
    gone = "[redacted: GitHub Token]"
    assert kept == {"old": event["old"], "new": event["new"], gone: [gone, 1]}
    assert redact_event(b'{"cut": "' + TOKEN.encode()) == b'{"cut": "[redacted: GitHub Token]'


@pytest.mark.anyio
async def test_names_and_written_summaries_are_redacted_too(tmp_path: Path) -> None:
    turns = [NewTurn("user", f"step {i}: {LONG[:60]} " + "word " * 300, f"by {TOKEN}") for i in range(40)]
    async with open_memory(Settings(data_dir=tmp_path / "data", redact="secrets")) as memory:
        done = await memory.sync(turns, conversation_id="c")
        node = next(root for root in await memory.outline("c") if root.id)
        await memory.write_summary("c", f"n{node.first}-{node.last}", f"With {TOKEN}", f"Logged in by {TOKEN}.")
        assert [turn.name for turn in await memory.history("c")] == ["by [redacted: GitHub Token]"] * 40
        fields_of = next(root for root in await memory.outline("c") if root.id).summary
    assert done.appended == 40
    assert (fields_of.title, fields_of.highlights[0].text) == (
        "With [redacted: GitHub Token]",
        "Logged in by [redacted: GitHub Token].",
    )
    assert files_with(tmp_path, TOKEN) == []


PARTS = ("sk-", "eyJ", "T3BlbkFJ", "A" * 20, "a1", "-", "_", "=", ".", " ", "\\", '\\"')


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join))
def test_each_detector_finds_what_its_pattern_finds(text: str) -> None:
    for detector in redaction._detectors():
        for pattern in detector.denylist:
            found = [match.span() for match in redaction._matches(detector, pattern, text)]
            assert found == [match.span() for match in pattern.finditer(text)]


@pytest.mark.parametrize(
    "part", ["sk-", "sk-a", "eyJ", "\\", "sk-T3BlbkFJ", "glagent-", "AKIA", "://a:", "-----BEGIN ", "a"]
)
def test_the_time_grows_no_faster_than_the_text(part: str) -> None:
    """Runs of `sk-` and of backslashes took a minute for 200,000 characters."""
    began = time.process_time()
    redact(part * (100_000 // len(part)))
    assert time.process_time() - began < 10
