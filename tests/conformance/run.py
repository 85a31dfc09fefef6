"""Runs MCP's own conformance suite and the Inspector's strict schema check against this server.

    python tests/conformance/run.py

It needs npx and the network (they are npm packages), so it is not part of `pytest`. Only the scenarios that need no
fixture are run: the others call tools named test_..., which a server would have to offer for the suite alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

SUITE = ["npx", "-y", "-p", "node@22", "-p", "@modelcontextprotocol/conformance@0.2.0-alpha.12", "conformance"]
INSPECTOR = ["npx", "-y", "@modelcontextprotocol/inspector@2.12.0", "--cli"]
REVISIONS = ("2025-11-25", "2026-07-28")
SCENARIOS = (
    "server-initialize",
    "server-session-lifecycle",
    "ping",
    "tools-list",
    "resources-list",
    "prompts-list",
    "completion-complete",
    "dns-rebinding-protection",
    "server-sse-multiple-streams",
    "caching",
    "http-header-validation",
    "sep-2164-resource-not-found",
    "input-required-result-unsupported-methods",
    "input-required-result-ignore-extra-params",
)
# The Inspector starts the server with a nearly empty environment, so the module path is passed here.
SERVE = f"""
import sys
sys.path[:0] = {sys.path!r}
from ctxmem_mcp.serve.run import serve
from ctxmem_mcp.settings import Settings
transport = "http" if len(sys.argv) > 2 else "stdio"
serve(Settings.load({{"data_dir": sys.argv[1], "log_level": "info"}}, {{}}), transport, "127.0.0.1", 0)
"""

# With tokens required. The suite can't send one, so this adds it to each request, as a proxy would.
SERVE_WITH_TOKENS = f"""
import sys
sys.path[:0] = {sys.path!r}
import logging, uvicorn
from ctxmem_mcp.serve.run import http_app
from ctxmem_mcp.settings import Settings
app = http_app(Settings.load({{"data_dir": sys.argv[1], "tokens": "suite:" + "0123456789" * 3}}, {{}}), "127.0.0.1")

async def with_token(scope, receive, send):
    if scope["type"] == "http":
        scope["headers"] = [*scope["headers"], (b"x-ctxmem-token", b"0123456789" * 3)]
    await app(scope, receive, send)

server = uvicorn.Server(uvicorn.Config(with_token, host="127.0.0.1", port=0, log_config=None))
listening = server.config.bind_socket()
print(f"http://127.0.0.1:{{listening.getsockname()[1]}}/mcp", file=sys.stderr, flush=True)
server.run(sockets=[listening])
"""


@contextmanager
def served(data: str, serve: str = SERVE) -> Iterator[str]:
    with subprocess.Popen([sys.executable, "-c", serve, data, "http"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        address = re.search(r"http://\S+", process.stderr.readline())
        assert address is not None
        try:
            yield address[0]
        finally:
            process.terminate()


def print_line(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def passes_scenario(url: str, scenario: str, revision: str) -> bool:
    with tempfile.TemporaryDirectory() as results:
        done = subprocess.run(
            [*SUITE, "server", "--url", url, "--scenario", scenario, "--spec-version", revision, "-o", results],
            capture_output=True,
            text=True,
            check=False,
        )
    outcome = [line for line in done.stdout.splitlines() if line.startswith(("Passed:", "SKIPPED"))] or ["no result"]
    print_line(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {scenario} {revision}: {outcome[-1][:60]}")
    return done.returncode == 0


def passes_inspector(data: str, era: str) -> bool:
    serve = [sys.executable, "-c", SERVE, data]
    done = subprocess.run(
        [*INSPECTOR, *serve, "--method", "tools/list", "--strict", "--format", "json", "--protocol-era", era],
        capture_output=True,
        text=True,
        check=False,
    )
    print_line(f"{'ok  ' if done.returncode == 0 else 'FAIL'} inspector --strict {era}")
    if done.returncode or "Warning:" in done.stderr:
        print_line(done.stderr)
    return done.returncode == 0


def main() -> int:
    with tempfile.TemporaryDirectory() as data:
        passed = [passes_inspector(data, era) for era in ("legacy", "modern")]
        for serve in (SERVE, SERVE_WITH_TOKENS):
            print_line("with tokens" if serve is SERVE_WITH_TOKENS else "without tokens")
            with served(data, serve) as url:
                passed += [passes_scenario(url, scenario, revision) for scenario in SCENARIOS for revision in REVISIONS]
    return 0 if all(passed) else 1


if __name__ == "__main__":
    raise SystemExit(main())
