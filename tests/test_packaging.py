"""The package and the documents agree with the code and with each other, and a start loads no more than it needs."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

import ctxmem_mcp
from ctxmem_mcp.mcp_server.tools import TOOLS
from ctxmem_mcp.settings import SETTINGS, Settings
from ctxmem_mcp.settings.setting import environment_name
from ctxmem_mcp.settings.sources import CONFIG_ENV
from ctxmem_mcp.transcripts import registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SERVER: dict[str, Any] = json.loads((ROOT / "server.json").read_text(encoding="utf-8"))
PACKAGE: dict[str, Any] = SERVER["packages"][0]
COMMAND = PROJECT["project"]["name"]
CLIENTS = ROOT / "examples" / "clients"
NO_SETTINGS = ROOT / "tests" / "data" / "empty.toml"
SHOW, TEST = "pip install . && ctxmem-mcp demo", 'pip install -e ".[dev]" && pytest'
# A stdio server listens on no port.
HTTP_SETTINGS = {"allowed_hosts", "tokens", "tokens_file"} | {
    name
    for name in SETTINGS
    if name.startswith(("http_", "oauth_", "upstream_", "gateway_", "price_", "audit_", "stored_"))
}

INITIALIZE = {
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}  # fmt: skip

# The libraries of the command line, the store and the tokenizer, which a start must not load.
HEAVY = {"rich", "typer", "splintr", "tiktoken", "zstandard", "aiosqlite", "sqlite3", "Stemmer", "numpy"}
# What only a call loads.
SDK = {"mcp", "mcp_types", "pydantic", "anyio", "asyncio"}


def run_server(arguments: list[str], folder: Path) -> tuple[dict[str, Any], str]:
    """The response of a server process to `initialize`, and its stderr until its stdin ended."""
    environment = {**os.environ, "CTXMEM_DATA_DIR": str(folder), CONFIG_ENV: str(NO_SETTINGS)}
    process = subprocess.Popen(
        [sys.executable, *arguments, "-m", "ctxmem_mcp"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(INITIALIZE) + "\n")
    process.stdin.flush()
    response = json.loads(process.stdout.readline())
    _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    return response["result"], stderr


# ---------------------------------------------------------------- server.json, versions


def test_server_json_conforms_to_the_registrys_schema() -> None:
    schema = json.loads((ROOT / "tests" / "data" / "server.schema.json").read_text(encoding="utf-8"))
    faults = [f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(SERVER)]
    assert faults == []
    assert SERVER["$schema"] == schema["$id"]


def test_versions_agree_and_a_start_loads_nothing_heavy(tmp_path: Path) -> None:
    result, stderr = run_server(["-X", "importtime"], tmp_path)
    assert {
        "initialize": result["serverInfo"]["version"],
        "__version__": ctxmem_mcp.__version__,
        "server.json": SERVER["version"],
        "server.json, package": PACKAGE["version"],
    } == dict.fromkeys(
        ("initialize", "__version__", "server.json", "server.json, package"), PROJECT["project"]["version"]
    )
    imported = {name.split(".")[0] for name in re.findall(r"^import time:.*\|\s*(\S+)$", stderr, re.MULTILINE)}
    assert "ctxmem_mcp" in imported
    assert imported & (HEAVY | SDK) == set()
    assert list(tmp_path.iterdir()) == []


def test_the_entry_point_loads_only_itself() -> None:
    code = "import sys, ctxmem_mcp.__main__; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = set(loaded.stdout.split())
    assert "ctxmem_mcp" in names
    assert names & (HEAVY | {"mcp", "pydantic", "anyio", "asyncio", "platformdirs", "click", "argparse"}) == set()


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["-h"], ["context", "--help"], ["hook", "-h"]], ids=" ".join
)
def test_the_version_and_the_help_load_no_library(words: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "ctxmem_mcp", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    imported = set(re.findall(r"^import time:.*\|\s*(\S+)$", done.stderr, re.MULTILINE))
    assert imported & (HEAVY | SDK | {"argparse", "platformdirs", "ctxmem_mcp.settings", "ctxmem_mcp.models"}) == set()
    assert (ctxmem_mcp.__version__ if words == ["--version"] else "Usage: ctxmem-mcp") in done.stdout


def test_the_help_fits_a_narrow_terminal_and_names_every_command() -> None:
    from ctxmem_mcp.cli.commands import app

    environment = {**os.environ, "COLUMNS": "60"}
    command = [sys.executable, "-m", "ctxmem_mcp", "--help"]
    page = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    names = [known.name or known.callback.__name__ for known in app.registered_commands if known.callback]
    assert [name for name in names if not re.search(rf"^  {name}( |$)", page, re.MULTILINE)] == []
    assert max(map(len, page.splitlines())) <= 60


def test_server_json_and_readme_name_each_other() -> None:
    assert PACKAGE["identifier"] == COMMAND
    assert PACKAGE["transport"] == {"type": "stdio"}
    assert f"<!-- mcp-name: {SERVER['name']} -->" in README
    assert SERVER["description"] == PROJECT["project"]["description"]


def test_server_json_has_every_setting_of_a_stdio_server_with_its_default() -> None:
    declared = {variable["name"]: variable for variable in PACKAGE["environmentVariables"]}
    settings = {setting.environment: setting for setting in SETTINGS.values() if setting.name not in HTTP_SETTINGS}
    assert declared.keys() == {*settings, CONFIG_ENV}
    for name, setting in settings.items():
        default = declared[name].get("default")
        assert default == (None if setting.default is None else str(setting.default)), name
        for given in [*declared[name].get("choices", ()), *([default] if default else [])]:
            Settings.load({}, {name: given}, NO_SETTINGS)


def test_the_installed_command_is_an_existing_function() -> None:
    module, _, function = PROJECT["project"]["scripts"][COMMAND].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


# ---------------------------------------------------------------- README


def test_readme_contains_its_two_commands_and_ci_runs_them() -> None:
    lines = [line.strip() for line in README.splitlines()]
    assert SHOW in lines
    assert TEST in lines
    ran = [line.strip() for line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()]
    install = next(i for i, line in enumerate(ran) if line.startswith("pip install") and line.endswith('-e ".[dev]"'))
    assert "pytest" in ran[install:]
    assert any(line.startswith("ctxmem-mcp demo") for line in ran)


def test_the_readme_lists_every_tool_and_the_docs_every_command_and_setting() -> None:
    from ctxmem_mcp.cli.commands import app

    commands, settings = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("commands.md", "settings.md"))
    names = [known.name or known.callback.__name__ for known in app.registered_commands if known.callback]
    assert [tool.name for tool in TOOLS if f"| `{tool.name}` |" not in README] == []
    assert [name for name in names if f"### {name}\n" not in commands] == []
    assert [setting.name for setting in SETTINGS.values() if f"| `{setting.environment}`" not in settings] == []


@pytest.mark.anyio
async def test_the_python_example_of_the_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(environment_name("data_dir"), str(tmp_path))
    monkeypatch.setenv(CONFIG_ENV, str(NO_SETTINGS))
    (source,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    await eval(compile(source, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), {})
    header, *lines = capsys.readouterr().out.splitlines()
    assert json.loads(header)["turns"] == 1
    assert "The build fails with E0308." in lines


# What docs/formats.md calls the formats whose modules have another name.
FORMAT_NAMES = {
    "claude_code_web": "sessions on the web", "copilot_chat": "github copilot chat", "gemini_contents": "gemini api",
    "oobabooga": "text-generation-webui", "continue_dev": "| continue |", "responses": "responses items",
    "message_lists": "fine-tuning lines", "jsonl": "json lines", "claude_ai": "claude.ai", "swe_agent": "swe-agent",
}  # fmt: skip


def test_the_page_of_formats_names_every_format_that_can_be_imported() -> None:
    page = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").lower()
    names = [FORMAT_NAMES.get(known, known.replace("_", " ")) for known in registry.FORMATS]
    assert [name for name in names if name not in page] == []
    assert "(docs/formats.md)" in README


@pytest.mark.parametrize(
    "page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "examples/README.md", *DOCS]
)
def test_the_links_of_a_page_resolve(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = [target.split("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert [target for target in targets if target and not (ROOT / page).parent.joinpath(target).exists()] == []


# ---------------------------------------------------------------- docs


def test_the_generated_files_match_the_code() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}Run: python docs/generate.py"


def test_the_packages_match_the_code() -> None:
    done = subprocess.run([sys.executable, "packages/build.py", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}Run: python packages/build.py"


def test_no_package_registers_an_event_that_only_some_versions_of_the_agent_have() -> None:
    from ctxmem_mcp.agents import CLAUDE_CODE, CODEX, GEMINI

    for agent in (CLAUDE_CODE, CODEX, GEMINI):
        hooks = json.loads((ROOT / "packages" / agent.id / "hooks" / "hooks.json").read_text(encoding="utf-8"))["hooks"]
        assert hooks.keys() == {event for event, hook in agent.events.items() if not hook.since}, agent.id


# ---------------------------------------------------------------- examples/clients


def client_configs() -> list[Path]:
    return sorted(path for path in CLIENTS.rglob("*") if path.is_file())


@pytest.mark.parametrize("path", client_configs(), ids=lambda path: str(path.relative_to(CLIENTS)))
def test_a_clients_config_is_valid_and_names_the_command(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    config = tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)
    (servers,) = config.values()
    assert list(servers) == ["ctxmem"]
    entry = servers["ctxmem"]
    assert [entry["command"], *entry["args"]] == [COMMAND]
    assert set(entry.get("env", ())) <= {setting.environment for setting in SETTINGS.values()}
    only_read = {tool.name for tool in TOOLS if tool.read_only}
    assert set(entry.get("autoApprove", ())) <= only_read


def test_every_agent_has_a_config_in_its_own_format_and_a_place_on_the_page() -> None:
    keys = {
        "claude-desktop/claude_desktop_config.json": "mcpServers",
        "claude-code/.mcp.json": "mcpServers",
        "cursor/mcp.json": "mcpServers",
        "cline/cline_mcp_settings.json": "mcpServers",
        "vscode/mcp.json": "servers",
        "codex/config.toml": "mcp_servers",
    }
    assert {str(path.relative_to(CLIENTS)) for path in client_configs()} == keys.keys()
    page = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    for name, key in keys.items():
        assert key in (CLIENTS / name).read_text(encoding="utf-8")
        assert f"](clients/{name})" in page
    vscode = json.loads((CLIENTS / "vscode" / "mcp.json").read_text(encoding="utf-8"))
    assert vscode["servers"]["ctxmem"]["type"] == "stdio"
    assert f"claude mcp add --transport stdio --scope user ctxmem -- {COMMAND}" in page


# ---------------------------------------------------------------- forbidden words


def our_files() -> list[Path]:
    """The files of the project: those that git tracks, or all if this is not a checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode == 0:
        return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]
    tops = (".ci/run", "src", "tests", "bench", "docs", "examples", "*.md", "*.toml", "*.json")
    found = [path for top in tops for start in ROOT.glob(top) for path in (start, *start.rglob("*"))]
    return [path for path in found if path.is_file() and "__pycache__" not in path.parts]


def test_no_file_names_a_package_registrys_host_or_a_path_of_one_machine() -> None:
    # Joined here, so that this file does not contain them either.
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("npmjs", "com"), ("deb", "debian", "org"),
            ("crates", "io"), ("rubygems", "org"), ("proxy", "golang", "org"), ("anaconda", "org"),
            ("repo", "maven", "apache", "org"),
        )
    ]  # fmt: skip
    places = ["/".join(("", "work", folder)) for folder in ("main", "shared", ".library")]
    forbidden = [word.encode() for word in (*hosts, *places)]
    found = [
        f"{path.relative_to(ROOT)}: {word.decode()}"
        for path in our_files()
        for word in forbidden
        if word in path.read_bytes()
    ]
    assert found == []
