"""The packages, checked by the programs that install them; the plugin of Claude Code captures a session."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from ctxmem_mcp.install.probe import probe_server
from tests.agents import claude_code
from tests.agents.claude_code import rows_of, words_of
from tests.agents.home import SECONDS, Home, assert_in_order
from tests.agents.model import Model, call, say
from tests.agents.packages import CLAUDE_CODE, CODEX, GEMINI, MCPB, installed, uv, wheels

pytestmark = pytest.mark.anyio
PACKAGES = Path(__file__).parents[2] / "packages"
SESSION = "22222222-2222-4333-8444-555555555555"


async def test_the_plugin_of_claude_code_is_valid_and_captures_a_session(tmp_path: Path, model: Model) -> None:
    home = claude_code.set_up(tmp_path / "home", model)
    home.ctxmem("uninstall", "claude-code")
    claude, plugin = installed(CLAUDE_CODE), PACKAGES / "claude-code"
    home.run([claude, "plugin", "validate", "--profile", "directory", plugin])
    home.run([claude, "plugin", "validate", PACKAGES])
    model.replies.extend([[say("I look first."), call("shell", command="echo hi; ls /nonexist")], [say("Seen.")]])
    home.run([claude, "--plugin-dir", plugin, "-p", "--session-id", SESSION, "Look around."])
    assert "ctxmem:recall" in str([request.body["messages"] for request in model.main_requests])
    rows = rows_of(claude_code.transcript_of(home, SESSION))
    assert await home.conversations() == [SESSION]
    assert_in_order([word for row in rows for word in words_of(row)], await home.turns(SESSION))


def test_codex_installs_the_plugin_from_the_marketplace(tmp_path: Path) -> None:
    home, codex = Home(tmp_path / "home"), installed(CODEX)
    home.run([codex, "plugin", "marketplace", "add", PACKAGES])
    home.run([codex, "plugin", "add", "ctxmem@ctxmem"])
    listed = home.run([codex, "plugin", "list", "--json"])
    assert '"enabled": true' in listed


def test_gemini_cli_accepts_the_extension(tmp_path: Path) -> None:
    Home(tmp_path / "home").run([installed(GEMINI), "extensions", "validate", PACKAGES / "gemini"])


def test_the_bundle_is_valid_and_can_be_packed(tmp_path: Path) -> None:
    home, mcpb = Home(tmp_path / "home"), installed(MCPB)
    bundle = shutil.copytree(PACKAGES / "mcpb", tmp_path / "bundle")
    home.run([mcpb, "validate", bundle / "manifest.json"])
    home.run([mcpb, "pack", bundle, tmp_path / "ctxmem.mcpb"])
    home.run([mcpb, "unpack", tmp_path / "ctxmem.mcpb", tmp_path / "unpacked"])
    names = sorted(file.name for file in (tmp_path / "unpacked").iterdir())
    assert names == ["icon.png", "main.py", "manifest.json", "pyproject.toml"]


def test_the_bundle_with_wheels_installs_in_an_empty_folder_without_a_network(tmp_path: Path) -> None:
    home, mcpb = Home(tmp_path / "home"), installed(MCPB)
    home.run([sys.executable, PACKAGES / "offline_bundle.py", tmp_path / "bundle", "--wheels", wheels()])
    home.run([mcpb, "validate", tmp_path / "bundle" / "manifest.json"])
    home.run([mcpb, "pack", tmp_path / "bundle", tmp_path / "ctxmem.mcpb"])
    shutil.rmtree(tmp_path / "bundle")
    home.run([mcpb, "unpack", tmp_path / "ctxmem.mcpb", tmp_path / "unpacked"])
    server = json.loads((tmp_path / "unpacked" / "manifest.json").read_text("utf-8"))["server"]["mcp_config"]
    arguments = [word.replace("${__dirname}", str(tmp_path / "unpacked")) for word in server["args"]]
    dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")
    environment = home.environment | dead | {"UV_PYTHON": sys.executable}
    found = probe_server([str(uv()), *arguments], environment, seconds=SECONDS)
    assert (found.name, found.fault) == ("ctxmem", "")
