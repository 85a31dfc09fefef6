"""How each agent is directed to the gateway: the variables and arguments for one run, and the endpoints behind it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ctxmem_mcp.wrap.programs import DEFAULT_UPSTREAMS, NotWrappable, Start, plan_for

URL = "http://127.0.0.1:1234"


def start(home: Path, command: str, *arguments: str, **environ: str) -> Start:
    return Start(command, arguments, environ, home / "project", home)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")


def arguments_of(one: Start) -> list[str]:
    return plan_for(one).arguments(one, URL)


def test_claude_code_by_a_variable_or_by_settings(tmp_path: Path) -> None:
    one = start(tmp_path, "/usr/bin/claude", "-p", "hi", ANTHROPIC_BASE_URL="https://proxy.example")
    assert plan_for(one).upstreams == {"anthropic": "https://proxy.example"}
    assert plan_for(one).variables(one, URL)["ANTHROPIC_BASE_URL"] == URL
    assert arguments_of(one) == ["-p", "hi"]
    write(tmp_path / "project/.claude/settings.json", {"env": {"ANTHROPIC_BASE_URL": "https://team.example"}})
    assert plan_for(one).upstreams == {"anthropic": "https://team.example"}
    assert arguments_of(one) == ["--settings", f'{{"env":{{"ANTHROPIC_BASE_URL":"{URL}"}}}}', "-p", "hi"]
    with pytest.raises(NotWrappable):
        plan_for(start(tmp_path, "claude", CLAUDE_CODE_USE_BEDROCK="1"))


def test_codex_by_its_own_provider_or_a_configured_one(tmp_path: Path) -> None:
    one = start(tmp_path, "codex", "exec", "hi")
    assert plan_for(one).upstreams == {name: DEFAULT_UPSTREAMS[name] for name in ("openai", "chatgpt")}
    assert arguments_of(one) == ["-c", f'openai_base_url="{URL}/v1"', "exec", "hi"]
    write(
        tmp_path / ".codex/config.toml",
        'profile = "work"\n[profiles.work]\nmodel_provider = "corp"\n'
        '[model_providers.corp]\nbase_url = "https://corp.example/v1"\n[model_providers."a b"]\nbase_url = "https://x"\n',
    )
    assert plan_for(one).upstreams == {"openai": "https://corp.example/v1"}
    assert arguments_of(one)[:2] == ["-c", f'model_providers.corp.base_url="{URL}/v1"']
    other = start(tmp_path, "codex", "-c", 'model_provider="a b"')
    assert arguments_of(other)[1] == f'model_providers."a b".base_url="{URL}/v1"'
    for words in (["--oss"], ["--config=model_provider=ollama"]):
        with pytest.raises(NotWrappable):
            plan_for(start(tmp_path, "codex", *words))


def test_opencode_by_a_configuration_that_keeps_the_users(tmp_path: Path) -> None:
    corp = {"npm": "@ai-sdk/openai-compatible", "options": {"baseURL": "https://corp.example/v1", "apiKey": "k"}}
    write(tmp_path / ".config/opencode/opencode.json", {"model": "corp/big", "provider": {"corp": corp}})
    one = start(tmp_path, "opencode", OPENCODE_CONFIG_CONTENT='{"theme": "dark", "provider": {"corp": {"name": "C"}}}')
    plan = plan_for(one)
    assert plan.upstreams["openai"] == "https://corp.example/v1"
    content = json.loads(plan.variables(one, URL)["OPENCODE_CONFIG_CONTENT"])
    assert content["theme"] == "dark"
    assert content["provider"]["corp"] == {"name": "C", "options": {"baseURL": f"{URL}/v1"}}
    assert "openai" not in content["provider"]
    assert content["provider"]["anthropic"] == {"options": {"baseURL": f"{URL}/v1"}}
    assert content["provider"]["google"] == {"options": {"baseURL": f"{URL}/v1beta"}}


def test_gemini_qwen_and_copilot(tmp_path: Path) -> None:
    gemini = start(tmp_path, "gemini")
    assert plan_for(gemini).upstreams == {name: DEFAULT_UPSTREAMS[name] for name in ("gemini", "code_assist")}
    variables = plan_for(gemini).variables(gemini, URL)
    assert variables == {"GOOGLE_GEMINI_BASE_URL": URL, "CODE_ASSIST_ENDPOINT": URL}
    write(tmp_path / ".qwen/settings.json", {"security": {"auth": {"baseUrl": "https://qwen.example/v1"}}})
    assert plan_for(start(tmp_path, "qwen")).upstreams == {"openai": "https://qwen.example/v1"}
    assert arguments_of(start(tmp_path, "qwen", "-p", "hi")) == ["--openai-base-url", f"{URL}/v1", "-p", "hi"]
    with pytest.raises(NotWrappable):
        plan_for(start(tmp_path, "copilot"))
    own = start(tmp_path, "copilot", COPILOT_PROVIDER_BASE_URL="https://a.example", COPILOT_PROVIDER_TYPE="anthropic")
    assert plan_for(own).upstreams == {"anthropic": "https://a.example"}
    assert plan_for(own).variables(own, URL)["COPILOT_PROVIDER_BASE_URL"] == URL
