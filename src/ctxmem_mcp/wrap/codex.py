"""How Codex is directed to the gateway: by `-c`, which comes before its config file."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctxmem_mcp.home_folder import expand_user
from ctxmem_mcp.wrap.agent_config import read_toml
from ctxmem_mcp.wrap.programs import CHATGPT, DEFAULT_UPSTREAMS, OPENAI, NotWrappable, Plan, Start

_BUILT_IN = "openai"
_SET, _PROFILE = ("-c", "--config"), ("-p", "--profile")


def plan(start: Start) -> Plan:
    """Returns how to direct Codex: the provider that it would use, with the gateway's URL instead of its own."""
    named = start.variable("CODEX_HOME")
    config = read_toml((Path(expand_user(named)) if named else start.home / ".codex") / "config.toml")
    given = _given(start.arguments)
    profile = next(_values(start.arguments, _PROFILE), None) or config.get("profile")
    of_profile = _table(_table(config, "profiles"), str(profile))
    provider = next(
        (one["model_provider"] for one in (given, of_profile, config) if "model_provider" in one), _BUILT_IN
    )
    if "--oss" in start.arguments:
        raise NotWrappable("Codex uses a local model (--oss)")
    if provider == _BUILT_IN:
        return _built_in(start, given.get("openai_base_url") or config.get("openai_base_url"))
    key = (
        f"model_providers.{json.dumps(provider)}"
        if not str(provider).replace("-", "_").isidentifier()
        else (f"model_providers.{provider}")
    )
    url = given.get(f"{key}.base_url") or _table(_table(config, "model_providers"), str(provider)).get("base_url")
    if not isinstance(url, str):
        raise NotWrappable(f"Codex's provider {provider!r} has no base_url in its config.toml")
    return Plan({OPENAI: url}, after=(), before=("-c", f'{key}.base_url="{{url}}/v1"'))


def _built_in(start: Start, configured: object) -> Plan:
    """OpenAI's own provider. A ChatGPT login has another endpoint than a key, unless one is configured for both."""
    own = configured if isinstance(configured, str) else start.variable("OPENAI_BASE_URL")
    upstreams = {OPENAI: own} if own else {api: DEFAULT_UPSTREAMS[api] for api in (OPENAI, CHATGPT)}
    return Plan(upstreams, before=("-c", 'openai_base_url="{url}/v1"'))


def _given(arguments: Sequence[str]) -> dict[str, Any]:
    """Returns what the user's own `-c NAME=VALUE` set, by the dotted name."""
    found: dict[str, Any] = {}
    for word in _values(arguments, _SET):
        name, _, value = word.partition("=")
        try:
            found[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:  # Codex takes what is not TOML for a text
            found[name.strip()] = value.strip()
    return found


def _values(arguments: Sequence[str], options: Sequence[str]) -> Iterator[str]:
    """Yields the values of an option."""
    for at, word in enumerate(arguments):
        if word in options and at + 1 < len(arguments):
            yield arguments[at + 1]
        elif (name := word.partition("=")[0]) in options and "=" in word and name.startswith("--"):
            yield word.partition("=")[2]


def _table(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}
