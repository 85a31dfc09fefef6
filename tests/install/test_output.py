"""What `install` prints: a line for each file, and at the end what the user has to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from ctxmem_mcp.__main__ import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / ".config"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_next_steps_come_last_and_diffs_only_on_request(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["install", "claude-code", "codex"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) < 20
    assert not any(line.startswith(("+++", "@@", "+ ")) for line in lines)
    changed = [line for line in lines if line.startswith("Created ")]
    assert changed
    assert all("(+" in line and line.endswith("lines)") for line in changed)
    steps = [number for number, line in enumerate(lines) if line.startswith(("Claude Code: ", "Codex: "))][-2:]
    assert steps == [len(lines) - 2, len(lines) - 1]
    assert "CTXMEM_RETENTION_DAYS" in lines[-3]
    assert main(["uninstall", "claude-code", "codex", "--diff"]) == 0
    assert "--- " in capsys.readouterr().out
    assert main(["install", "codex", "--diff"]) == 0
    assert "+++ " in capsys.readouterr().out
    assert main(["uninstall", "codex", "--dry-run"]) == 0
    assert "--- " in capsys.readouterr().out
