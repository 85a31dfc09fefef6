"""`ctxmem-mcp wrap` with real processes: the program, the gateway beside it, and a stub of the model's API."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

from tests.gateway.harness import UpstreamStub, answers_with, upstream_stub
from tests.wrap.harness import ANSWER, Machine, ask, history, hook

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program is a script with a first line for Unix")
LINE = re.compile(r"^ctxmem: (\d+)k → (\d+)k tokens · \d+% from cache · nothing lost$", re.MULTILINE)


@pytest.fixture
def stub() -> Iterator[UpstreamStub]:
    with upstream_stub(answers_with(ANSWER)) as found:
        yield found


@pytest.fixture
def machine(tmp_path: Path, stub: UpstreamStub) -> Machine:
    return Machine(tmp_path / "home", {"ANTHROPIC_BASE_URL": stub.url})


def test_a_long_conversation_is_compacted_stored_and_reported(machine: Machine, stub: UpstreamStub) -> None:
    longer = [*history(40), {"role": "assistant", "content": ANSWER}, {"role": "user", "content": "Thanks."}]
    run = machine.wrap([ask(*history(40)), ask(*longer), {"exit": 7}], "--budget", "4000")
    assert run.code == 7
    assert [(status, memory) for status, memory, _ in run.values] == [(200, "folded")] * 2
    assert [body["model"] for body in stub.bodies] == ["m", "m"]
    assert all(headers["x-api-key"] == "sk-own" for headers in stub.headers)
    (line,) = LINE.finditer(run.stderr)
    assert int(line[1]) > int(line[2]) <= 4
    (listed,) = machine.ctxmem("list")
    report = machine.ctxmem("usage")
    assert report["total"]["requests"] == 2
    assert report["data"][0]["conversation_id"] == listed["conversation_id"]
    assert machine.ctxmem("usage", listed["conversation_id"])["total"] == report["total"]


@pytest.mark.parametrize("answers", [1, 2])
def test_the_only_request_before_the_first_hook_is_the_sessions_at_the_end(machine: Machine, answers: int) -> None:
    prompt = hook("claude-code", "UserPromptSubmit", prompt=history(1, words=3)[0]["content"])
    stop = hook("claude-code", "Stop", last_assistant_message=ANSWER)
    run = machine.wrap([*[ask(*history(1, words=3))] * answers, prompt, stop])
    assert [(status, memory) for status, memory, _ in run.values] == [(200, "whole")] * answers
    (listed,) = machine.ctxmem("list")
    assert listed["conversation_id"] == "s-1"
    assert machine.ctxmem("usage", "s-1")["total"]["requests"] == answers
    assert not list(machine.path.glob("**/runs/*"))


def test_a_killed_gateway_is_replaced_and_no_request_is_lost(machine: Machine) -> None:
    run = machine.wrap([ask(*history(1)), {"kill": True}, ask(*history(2))])
    assert [(status, memory) for status, memory, _ in run.values] == [(200, "whole")] * 2
    assert len(machine.ctxmem("list")) == 1


def test_a_gateway_that_ends_again_and_again_is_replaced_by_plain_forwarding(
    machine: Machine, stub: UpstreamStub
) -> None:
    steps = [ask(*history(1)), {"kill": True}, ask(*history(2)), {"kill": True}, ask(*history(3)), {"kill": True}]
    run = machine.wrap([*steps, ask(*history(4))])
    assert [(status, memory) for status, memory, _ in run.values] == [(200, "whole")] * 3 + [(200, None)]
    assert "the agent goes on without memory" in run.stderr
    assert stub.headers[-1]["x-api-key"] == "sk-own"
    assert stub.bodies[-1]["messages"] == history(4)


@pytest.mark.parametrize("variable", ["CTXMEM_GATEWAY_TOKENS", "CTXMEM_DATA_DIR"])
def test_without_a_gateway_the_program_runs_as_it_is(machine: Machine, stub: UpstreamStub, variable: str) -> None:
    (machine.path / "a-file").touch()
    machine.variables[variable] = str(machine.path / "a-file")
    run = machine.wrap([{"environment": ["ANTHROPIC_BASE_URL", "OPENAI_BASE_URL"]}, ask(*history(1)), {"exit": 3}])
    assert run.code == 3
    assert run.values[0] == {"ANTHROPIC_BASE_URL": stub.url, "OPENAI_BASE_URL": None}
    assert run.values[1][0] == 200
    assert run.stderr.startswith(f"ctxmem: {variable}")
    assert run.stderr.count("\n") == 1


def test_a_memory_that_fails_lets_requests_through(machine: Machine) -> None:
    folder = machine.path / "data"
    folder.mkdir()
    (folder / "catalog.sqlite3").mkdir()
    machine.variables["CTXMEM_DATA_DIR"] = str(folder)
    run = machine.wrap([ask(*history(1))])
    assert run.values[0][0] == 200


def test_any_program_gets_all_variables_and_its_own_arguments(machine: Machine) -> None:
    names = ["ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "OPENAI_API_BASE", "GOOGLE_GEMINI_BASE_URL", "NO_PROXY"]
    machine.variables |= {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "intranet"}
    run = machine.wrap([{"environment": names}, {"arguments": True}], "--", arguments=("--help", "-b", "--", "x"))
    found = run.values[0]
    url = found["ANTHROPIC_BASE_URL"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", url)
    assert [found[name] for name in names[1:]] == [f"{url}/v1", f"{url}/v1", url, "intranet,127.0.0.1,localhost"]
    assert run.values[1] == ["--help", "-b", "--", "x"]


def test_the_exit_code_tells_of_a_signal_and_of_a_missing_program(machine: Machine) -> None:
    assert machine.wrap([{"signal": int(signal.SIGKILL)}]).code == 128 + signal.SIGKILL
    missing = machine.wrap([], program="not-installed")
    assert (missing.code, missing.stderr) == (
        127,
        "ctxmem-mcp: 'not-installed' is not installed, or not on PATH. Install it, or give its path.\n",
    )


def test_the_gateway_ends_with_a_killed_wrapper(machine: Machine) -> None:
    script = "import os, sys, time; print(os.environ['ANTHROPIC_BASE_URL'], flush=True); time.sleep(60)"
    command = machine.command([])
    with subprocess.Popen(
        [*command[:2], sys.executable, "-c", script], env=machine.environment, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    ) as wrapper:  # fmt: skip
        assert wrapper.stdout is not None
        assert wrapper.stdout.readline().startswith("http://127.0.0.1:")
        children = psutil.Process(wrapper.pid).children()
        (program,) = [child for child in children if "time.sleep" in " ".join(child.cmdline())]
        (gateway,) = [child for child in children if "gateway_process" in " ".join(child.cmdline())]
        wrapper.kill()
        program.kill()
    psutil.wait_procs([gateway], timeout=60)
    assert not gateway.is_running()
