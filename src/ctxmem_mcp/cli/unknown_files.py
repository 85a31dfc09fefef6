"""Counts the files that an import left out, by what they seem to be."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ctxmem_mcp.agents import AGENTS

# Histories that nobody but their own program can read, by a part of their path.
_ENCRYPTED = {"/windsurf/cascade/": "Windsurf", "/antigravity/conversations/": "Antigravity"}
_HEAD_BYTES, _KEYS_SHOWN = 64 * 1024, 4
_OBJECT_SUFFIXES = (".json", ".jsonl", ".ndjson")


def describe(unknown: Sequence[Path], others: Sequence[Path]) -> str:
    """Returns how many files were left out, by kind.

    Args:
        unknown: files that have a transcript's suffix and are in no known format.
        others: files with other suffixes.
    """
    kinds = [(Counter(map(_unknown_kind, unknown)), " in no known format"), (Counter(map(_other_kind, others)), "")]
    return ", ".join(f"{count:,} {kind}{why}" for counts, why in kinds for kind, count in counts.most_common())


def _unknown_kind(file: Path) -> str:
    path = file.absolute().as_posix()
    for folder, title in _agent_folders():
        if folder in path:
            return f"{file.suffix} from the folder of {title}'s sessions"
    keys = _top_keys(file)
    return f"{_suffix(file)} (fields {', '.join(keys)})" if keys else _suffix(file)


def _other_kind(file: Path) -> str:
    path = file.absolute().as_posix()
    title = next((title for part, title in _ENCRYPTED.items() if part in path), None)
    return f"{_suffix(file)} of {title} (encrypted)" if title else _suffix(file)


def _suffix(file: Path) -> str:
    return file.suffix or "without a suffix"


def _agent_folders() -> list[tuple[str, str]]:
    """The end of the path of each agent's sessions, and the agent's name."""
    return [
        (f"/{sessions.home.lstrip('~/')}/{sessions.folder}/".replace("//", "/"), agent.title)
        for agent in AGENTS.values()
        for sessions in agent.sessions
    ]


def _top_keys(file: Path) -> list[str]:
    """The first fields of the first object in a JSON file; none if it has none or is too long to tell."""
    if file.suffix not in _OBJECT_SUFFIXES:
        return []
    try:
        with file.open("rb") as stream:
            head = stream.read(_HEAD_BYTES).decode("utf-8-sig", "replace")
        value = json.JSONDecoder().raw_decode(head.lstrip())[0]
    except (OSError, ValueError, RecursionError):
        return []
    while isinstance(value, list) and value:
        value = value[0]
    return [_shown(key) for key in value][:_KEYS_SHOWN] if isinstance(value, Mapping) else []


def _shown(key: str) -> str:
    return key if key.isidentifier() and len(key) <= 24 else "..."
