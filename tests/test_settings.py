"""Precedence of the sources of settings, and errors about bad values."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.settings import SETTINGS, Settings
from ctxmem_mcp.settings.setting import environment_name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('retention_days = 60\nlog_level = "info"\ndata_dir = "kept"\n', encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _no_config_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(*_: object, **__: object) -> str:
        return str(tmp_path / "nowhere")

    monkeypatch.setattr(platformdirs, "user_config_dir", nowhere)


def test_the_defaults_hold_if_nothing_is_given() -> None:
    settings = Settings.load({}, {})
    assert settings.data_dir == Path(platformdirs.user_data_dir("ctxmem", appauthor=False))
    assert settings == Settings(data_dir=settings.data_dir)
    assert (settings.durability, settings.encoding, settings.retention_days) == ("full", "o200k_base", 30)
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8377)


def test_a_flag_beats_the_environment_beats_the_file_beats_the_default(config: Path) -> None:
    environ = {"CTXMEM_CONFIG": str(config), "CTXMEM_LOG_LEVEL": "error", "CTXMEM_HTTP_PORT": "9000"}
    settings = Settings.load({"http_port": 9001, "log_level": None}, environ)
    assert settings.http_port == 9001
    assert settings.log_level == "error"
    assert settings.retention_days == 60
    assert settings.durability == "full"


def test_an_explicit_config_path_beats_the_environment(config: Path) -> None:
    settings = Settings.load({}, {"CTXMEM_CONFIG": "/nowhere/at/all.toml"}, config)
    assert settings.retention_days == 60


def test_a_folder_in_the_config_file_is_relative_to_it(config: Path) -> None:
    assert Settings.load({}, {}, config).data_dir == config.parent / "kept"


def test_an_empty_folder_in_the_config_file_is_refused(config: Path) -> None:
    config.write_text('data_dir = ""\n', "utf-8")
    with pytest.raises(InvalidArgument, match="must be the path of a folder"):
        Settings.load(environ={}, config_path=config)


def test_an_unknown_home_folder_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="home folder is not known"):
        Settings.load({"data_dir": "~no-such-user/x"}, environ={})


def test_a_home_folder_is_expanded_and_a_path_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert Settings.load({}, {"CTXMEM_DATA_DIR": "~/x"}).data_dir == tmp_path / "x"
    assert Settings.load({"data_dir": "y"}, {}).data_dir == tmp_path / "y"


def test_an_empty_environment_variable_counts_as_unset() -> None:
    assert Settings.load({}, {"CTXMEM_RETENTION_DAYS": "", "CTXMEM_CONFIG": " "}).retention_days == 30


def test_every_field_of_settings_is_described_with_its_default() -> None:
    assert SETTINGS.keys() == Settings.__dataclass_fields__.keys() - {"sources"}
    for name, setting in SETTINGS.items():
        assert (setting.name, setting.environment) == (name, environment_name(name))
        assert setting.help.endswith(".")
        assert setting.kind.accepts
        assert setting.default == getattr(Settings(Path("x")), name) or name == "data_dir"


@pytest.mark.parametrize("name", [name for name, setting in SETTINGS.items() if setting.default is not None])
def test_a_default_is_a_value_that_its_own_rule_accepts(name: str) -> None:
    assert SETTINGS[name].parse(SETTINGS[name].default, name) == SETTINGS[name].default


def test_a_setting_knows_how_the_user_spelled_it(config: Path) -> None:
    settings = Settings.load({"http_port": 1}, {"CTXMEM_HTTP_HOST": "::1"}, config)
    spellings = [settings.spelling(name) for name in ("http_port", "http_host", "retention_days", "redact")]
    assert spellings == ["--port", "CTXMEM_HTTP_HOST", f"retention_days in {config}", "CTXMEM_REDACT"]


BAD = [
    ("CTXMEM_RETENTION_DAYS", "400", "whole number from 1 to 365"),
    ("CTXMEM_RETENTION_DAYS", "a month", "whole number from 1 to 365"),
    ("CTXMEM_DURABILITY", "none", "one of full, normal"),
    ("CTXMEM_ENCODING", "gpt2", "must be o200k_base, cl100k_base or a model"),
    ("CTXMEM_HTTP_PORT", "70000", "from 0 to 65535"),
    ("CTXMEM_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
    ("CTXMEM_LLM_BASE_URL", "localhost:11434", "must be a URL such as http://localhost:11434/v1"),
    ("CTXMEM_LLM_BASE_URL", "http://[::1", "must be a URL such as"),
    ("CTXMEM_LLM_TOKENS_PER_DAY", "-1", "whole number from 0"),
]


@pytest.mark.parametrize(("name", "value", "rule"), BAD)
def test_a_bad_value_is_an_error_with_its_source_rule_and_remedy(name: str, value: str, rule: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Settings.load({}, {name: value})
    message = str(refused.value)
    assert message.startswith(f"{name}: must be ")
    assert f"got {value!r}" in message
    assert rule in message
    assert "Leave it out" in message


@pytest.mark.parametrize("overriding", [{}, {"CTXMEM_HTTP_PORT": "1"}])
def test_a_bad_value_is_refused_even_if_another_source_overrides_it(config: Path, overriding: dict[str, str]) -> None:
    config.write_text("http_port = -1\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="http_port in"):
        Settings.load({}, overriding, config)


@pytest.mark.parametrize(("name", "spelled"), [("http_port", "--port"), ("retention_days", "retention_days")])
def test_a_bad_flag_is_named_as_it_is_typed(name: str, spelled: str) -> None:
    with pytest.raises(InvalidArgument, match=rf"^{spelled}: must be a whole number from . to \d+; got -1"):
        Settings.load({name: -1}, {})


def test_a_bad_value_in_the_file_names_the_file(config: Path) -> None:
    config.write_text("retention_days = true\n", encoding="utf-8")
    with pytest.raises(InvalidArgument) as refused:
        Settings.load({}, {}, config)
    assert str(refused.value).startswith(f"retention_days in {config}: must be a whole number from 1 to 365; got True.")


def test_an_unknown_setting_is_refused_in_a_file_and_as_a_flag(config: Path) -> None:
    config.write_text("retention = 3\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="is not a setting"):
        Settings.load({}, {}, config)
    with pytest.raises(InvalidArgument, match="is not a setting"):
        Settings.load({"retention": 3}, {})


def test_a_named_config_file_must_exist_and_be_toml(config: Path) -> None:
    with pytest.raises(InvalidArgument, match="can't be read"):
        Settings.load({}, {"CTXMEM_CONFIG": str(config) + ".missing"})
    config.write_text("retention_days: 3\n", encoding="utf-8")
    with pytest.raises(InvalidArgument, match="is not TOML"):
        Settings.load({}, {}, config)


def test_a_data_folder_that_is_a_file_is_refused(config: Path) -> None:
    with pytest.raises(InvalidArgument, match="which is a file"):
        Settings.load({"data_dir": str(config)}, {})


@pytest.mark.parametrize(("given", "counted_in"), [("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")])
def test_an_encoding_may_be_named_by_a_model(given: str, counted_in: str, tmp_path: Path) -> None:
    assert Settings.load({"encoding": given, "data_dir": tmp_path}).encoding == counted_in


@pytest.mark.parametrize("given", ["p50k_base", "davinci", "some-model"])
def test_an_unknown_encoding_is_refused(given: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="or a model that uses one of them"):
        Settings.load({"encoding": given, "data_dir": tmp_path})


def test_no_model_is_configured_by_default_and_its_key_is_never_printed(tmp_path: Path) -> None:
    assert Settings.load({"data_dir": tmp_path}, {}).llm_base_url is None
    environ = {"BASE_URL": "http://localhost:11434/v1/", "MODEL": "m", "API_KEY": "sk-1"}
    settings = Settings.load({"data_dir": tmp_path}, {f"CTXMEM_LLM_{name}": value for name, value in environ.items()})
    assert settings.llm_base_url == "http://localhost:11434/v1"
    assert (settings.llm_model, settings.llm_api_key) == ("m", "sk-1")
    assert "sk-1" not in repr(settings)
    with pytest.raises(InvalidArgument) as refused:
        Settings.load({"data_dir": tmp_path}, {"CTXMEM_LLM_API_KEY": "sk-\n2"})
    assert "sk-" not in str(refused.value)
