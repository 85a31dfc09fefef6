"""How opencode is directed to the gateway: by a configuration in a variable, which comes before its files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ctxmem_mcp.home_folder import expand_user
from ctxmem_mcp.wrap.agent_config import read_json
from ctxmem_mcp.wrap.programs import ANTHROPIC, DEFAULT_UPSTREAMS, GEMINI, OPENAI, Plan, Start

_CONTENT = "OPENCODE_CONFIG_CONTENT"
_FILES = ("opencode.json", "opencode.jsonc")
# The API of a provider by its package, and what follows the gateway's URL there.
_PACKAGES = {
    "@ai-sdk/anthropic": (ANTHROPIC, "/v1"),
    "@ai-sdk/google": (GEMINI, "/v1beta"),
    "@ai-sdk/openai": (OPENAI, "/v1"),
    "@ai-sdk/openai-compatible": (OPENAI, "/v1"),
}
_BUILT_IN = {"anthropic": "@ai-sdk/anthropic", "google": "@ai-sdk/google", "openai": "@ai-sdk/openai"}


def plan(start: Start) -> Plan:
    """Returns how to direct opencode: the providers that its configuration names, and the three most usual ones.

    Of several providers with the same API and different endpoints, only the one of the chosen model is directed.
    """
    content = _content(start)
    config: dict[str, Any] = {}
    for one in (*map(read_json, _paths(start)), content):
        config = _merged(config, one)
    found = config.get("provider")
    providers = {name: one for name, one in found.items() if isinstance(one, dict)} if isinstance(found, dict) else {}
    model = str(config.get("model") or "")
    chosen = (_model_argument(start) or model).partition("/")[0]
    names = sorted({*providers, *_BUILT_IN}, key=lambda name: (name != chosen, name not in providers))
    upstreams: dict[str, str] = {}
    directed: dict[str, Any] = {}
    for name in names:
        own = providers.get(name, {})
        package = own.get("npm") or _BUILT_IN.get(name)
        if package not in _PACKAGES:
            continue
        api, suffix = _PACKAGES[package]
        options = own.get("options")
        url = (options.get("baseURL") if isinstance(options, dict) else None) or DEFAULT_UPSTREAMS[api]
        if upstreams.setdefault(api, str(url)) == str(url):
            directed[name] = {"options": {"baseURL": f"{{url}}{suffix}"}}
    return Plan(upstreams, {_CONTENT: json.dumps(_merged(content, {"provider": directed}))})


def _content(start: Start) -> dict[str, Any]:
    try:
        found = json.loads(start.variable(_CONTENT) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _paths(start: Start) -> Iterator[Path]:
    config = start.variable("XDG_CONFIG_HOME")
    folder = (Path(expand_user(config)) if config else start.home / ".config") / "opencode"
    yield from (folder / name for name in _FILES)
    if named := start.variable("OPENCODE_CONFIG"):
        yield Path(expand_user(named))
    yield from (start.folder / name for name in _FILES)


def _model_argument(start: Start) -> str:
    words = [*start.arguments, ""]
    return next((words[at + 1] for at, word in enumerate(words) if word in ("-m", "--model")), "")


def _merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an object with the members of both; objects are merged, of others the second's are taken."""
    result = dict(first)
    for name, value in second.items():
        own = result.get(name)
        result[name] = _merged(own, value) if isinstance(own, dict) and isinstance(value, dict) else value
    return result
