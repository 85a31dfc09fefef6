"""How each agent is directed to the gateway for one run: by environment variables, arguments or both.

Nothing is written to an agent's files. An agent keeps its own login: its key or its OAuth token is in its requests,
which the gateway forwards to the endpoint that the agent would have used without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ctxmem_mcp.wrap.agent_config import claude_settings, read_json

ANTHROPIC, OPENAI, GEMINI = "anthropic", "openai", "gemini"
# The endpoints of two logins: Codex's by ChatGPT, Gemini CLI's by Google.
CHATGPT, CODE_ASSIST = "chatgpt", "code_assist"
# Where agents send their requests if nothing else is configured.
DEFAULT_UPSTREAMS: Mapping[str, str] = {
    ANTHROPIC: "https://api.anthropic.com",
    OPENAI: "https://api.openai.com/v1",
    GEMINI: "https://generativelanguage.googleapis.com",
    CHATGPT: "https://chatgpt.com/backend-api/codex",
    CODE_ASSIST: "https://cloudcode-pa.googleapis.com",
}
# Claude Code's clouds, which have APIs of their own.
_CLOUDS = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX", "CLAUDE_CODE_USE_FOUNDRY", "CLAUDE_CODE_USE_MANTLE")
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")
_NO_PROXY = ("NO_PROXY", "no_proxy")
_LOOPBACK = "127.0.0.1,localhost"


class NotWrappable(Exception):
    """The agent's API can't be replaced by the gateway. The message says why, for the user."""


@dataclass(frozen=True, slots=True)
class Start:
    """What the user starts.

    Attributes:
        command: the program's name or path.
        arguments: its arguments.
        environ: the environment.
        folder: the current folder.
        home: the user's home folder.
    """

    command: str
    arguments: Sequence[str]
    environ: Mapping[str, str]
    folder: Path
    home: Path

    def variable(self, *names: str) -> str:
        """Returns the first of these environment variables that is not blank."""
        return next((value for name in names if (value := self.environ.get(name, "").strip())), "")


@dataclass(frozen=True, slots=True)
class Plan:
    """How a program is directed to the gateway.

    Attributes:
        upstreams: the API's endpoints without the gateway, by API.
        environment: the variables to set. `{url}` is the gateway's URL.
        before, after: arguments to add before or after the user's own, with `{url}` too.
    """

    upstreams: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Sequence[str] = ()
    after: Sequence[str] = ()

    def arguments(self, start: Start, url: str) -> list[str]:
        """Returns the program's arguments."""
        return [*(_filled(word, url) for word in self.before), *start.arguments, *(_filled(w, url) for w in self.after)]

    def variables(self, start: Start, url: str) -> dict[str, str]:
        """Returns the program's environment."""
        added = {name: _filled(value, url) for name, value in self.environment.items()}
        if any(start.variable(name) for name in _PROXIES):  # a proxy must not be asked for this machine
            added |= {name: ",".join(filter(None, (start.variable(name), _LOOPBACK))) for name in _NO_PROXY}
        return {**start.environ, **added}


def _filled(template: str, url: str) -> str:
    return template.replace("{url}", url)


def plan_for(start: Start) -> Plan:
    """Returns how to direct a program to the gateway.

    Raises:
        NotWrappable: it can't be directed.
    """
    name = Path(start.command).name.lower().removesuffix(".exe").removesuffix(".cmd")
    return _PROGRAMS.get(name, _any_program)(start)


def _claude(start: Start) -> Plan:
    """Claude Code: variables in its settings files come before those of the process, and `--settings` before both."""
    files = claude_settings(start.home, start.folder, start.environ)
    cloud = next(
        (name for name in _CLOUDS if (files.get(name) or start.variable(name)) not in ("", "0", "false")), None
    )
    if cloud is not None:
        raise NotWrappable(f"Claude Code uses another cloud's API ({cloud})")
    in_files = files.get("ANTHROPIC_BASE_URL", "")
    upstream = in_files or start.variable("ANTHROPIC_BASE_URL") or DEFAULT_UPSTREAMS[ANTHROPIC]
    before = ("--settings", '{"env":{"ANTHROPIC_BASE_URL":"{url}"}}') if in_files else ()
    return Plan({ANTHROPIC: upstream}, {"ANTHROPIC_BASE_URL": "{url}"}, before)


def _codex(start: Start) -> Plan:
    from ctxmem_mcp.wrap.codex import plan

    return plan(start)


def _opencode(start: Start) -> Plan:
    from ctxmem_mcp.wrap.opencode import plan

    return plan(start)


def _gemini(start: Start) -> Plan:
    """Gemini CLI: by an API key, or by a Google login, which has an endpoint of its own."""
    names = {GEMINI: "GOOGLE_GEMINI_BASE_URL", CODE_ASSIST: "CODE_ASSIST_ENDPOINT"}
    upstreams = {api: start.variable(name) or DEFAULT_UPSTREAMS[api] for api, name in names.items()}
    return Plan(upstreams, dict.fromkeys(names.values(), "{url}"))


def _qwen(start: Start) -> Plan:
    """Qwen Code: its argument comes before its settings file and the variable."""
    settings = read_json(start.home / ".qwen" / "settings.json")
    security = settings.get("security")
    auth = security.get("auth") if isinstance(security, dict) else None
    named = auth.get("baseUrl") if isinstance(auth, dict) else None
    upstream = start.variable("OPENAI_BASE_URL") or (named if isinstance(named, str) else "")
    return Plan(
        {OPENAI: upstream or DEFAULT_UPSTREAMS[OPENAI]},
        {"OPENAI_BASE_URL": "{url}/v1"},
        ("--openai-base-url", "{url}/v1"),
    )


def _copilot(start: Start) -> Plan:
    """GitHub Copilot CLI: only with a model of the user's own. With a GitHub login it has no other endpoint."""
    upstream = start.variable("COPILOT_PROVIDER_BASE_URL")
    if not upstream:
        raise NotWrappable(
            "GitHub Copilot CLI has no COPILOT_PROVIDER_BASE_URL, and its GitHub login no other endpoint"
        )
    if start.variable("COPILOT_PROVIDER_TYPE").lower() == "anthropic":
        return Plan({ANTHROPIC: upstream}, {"COPILOT_PROVIDER_BASE_URL": "{url}"})
    return Plan({OPENAI: upstream}, {"COPILOT_PROVIDER_BASE_URL": "{url}/v1"})


def _any_program(start: Start) -> Plan:
    """Any other program: all variables that libraries and agents read."""
    own = {
        ANTHROPIC: start.variable("ANTHROPIC_BASE_URL"),
        OPENAI: start.variable("OPENAI_BASE_URL", "OPENAI_API_BASE"),
        GEMINI: start.variable("GOOGLE_GEMINI_BASE_URL"),
    }
    return Plan(
        {api: url or DEFAULT_UPSTREAMS[api] for api, url in own.items()},
        {
            "ANTHROPIC_BASE_URL": "{url}",
            "OPENAI_BASE_URL": "{url}/v1",
            "OPENAI_API_BASE": "{url}/v1",
            "GOOGLE_GEMINI_BASE_URL": "{url}",
        },
    )


_PROGRAMS: Mapping[str, Callable[[Start], Plan]] = {
    "claude": _claude,
    "codex": _codex,
    "copilot": _copilot,
    "gemini": _gemini,
    "opencode": _opencode,
    "qwen": _qwen,
}
