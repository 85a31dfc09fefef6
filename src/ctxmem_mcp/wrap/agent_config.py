"""Reads what agents' own files say about their endpoints. A file that can't be read says nothing."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxmem_mcp.home_folder import expand_user
from ctxmem_mcp.install.jsonc import read as read_jsonc

# Claude Code's settings of the user, the project, and the user in the project: the later come before the earlier.
_CLAUDE_FILES = (".claude/settings.json", ".claude/settings.local.json")


def read_json(path: Path) -> dict[str, Any]:
    """Returns the object in a JSON file, which may have comments; an empty one if there is none."""
    try:
        found = read_jsonc(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def read_toml(path: Path) -> dict[str, Any]:
    """Returns the table in a TOML file; an empty one if there is none."""
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def claude_settings(home: Path, folder: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment variables that Claude Code's settings files set."""
    named = environ.get("CLAUDE_CONFIG_DIR", "").strip()
    user = Path(expand_user(named)) if named else home / ".claude"
    variables: dict[str, str] = {}
    for path in (user / "settings.json", *(folder / name for name in _CLAUDE_FILES)):
        found = read_json(path).get("env")
        if isinstance(found, dict):
            variables |= {name: str(value).strip() for name, value in found.items()}
    return variables
