"""Where values of settings are given: flags, environment variables and the config file; and the default folders."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.home_folder import NO_HOME
from ctxmem_mcp.settings import kinds
from ctxmem_mcp.settings.kinds import BrokenRule
from ctxmem_mcp.settings.setting import Setting, environment_name

CONFIG_ENV = "CTXMEM_CONFIG"
CONFIG_HELP = "Config file to read instead of the platform's config.toml."
# The settings by name.
Table = Mapping[str, Setting]
# A value and where it was given, by the setting's name.
GivenValues = dict[str, tuple[object, str]]


def read_flags(table: Table, flags: Mapping[str, object]) -> GivenValues:
    """Returns the values of flags by name; None counts as not given."""
    for name in flags:
        _check_known(table, name, name)
    return {name: (value, table[name].flag or name) for name, value in flags.items() if value is not None}


def read_environment(table: Table, environ: Mapping[str, str]) -> GivenValues:
    """Returns the values of environment variables; an empty one counts as unset."""
    names = {name: environment_name(name) for name in table}
    return {name: (environ[env], env) for name, env in names.items() if environ.get(env, "").strip()}


def read_config_file(table: Table, config_path: Path | str | None, environ: Mapping[str, str]) -> GivenValues:
    """Returns the values in the config file; a relative path is relative to the file."""
    named = config_path or environ.get(CONFIG_ENV, "").strip() or None
    path = _config_path(Path(named), "--config" if config_path else CONFIG_ENV) if named else _default_config_path()
    if named is None and not path.is_file():
        return {}
    given: GivenValues = {}
    for name, value in _read_toml(path).items():
        source = f"{name} in {path}"
        _check_known(table, name, source)
        if table[name].kind in (kinds.FOLDER, kinds.FILE) and isinstance(value, str) and value.strip():
            value = path.parent / _config_path(Path(value), source)  # relative to the config file
        given[name] = (value, source)
    return given


def _check_known(table: Table, name: str, source: str) -> None:
    if name not in table:
        raise InvalidArgument(source, "is not a setting", f"Settings are {', '.join(table)}.")


def _config_path(path: Path, source: str) -> Path:
    try:
        return kinds.expand_home(path)
    except BrokenRule as error:
        raise InvalidArgument(source, error.rule, error.remedy) from error


def _default_config_path() -> Path:
    import platformdirs

    try:
        return Path(platformdirs.user_config_dir("ctxmem", appauthor=False)) / "config.toml"
    except RuntimeError:  # the user has no home folder
        return Path(NO_HOME) / "config.toml"


def default_data_dir() -> Path:
    """Returns the platform's data folder for ctxmem."""
    import platformdirs

    try:
        path = Path(platformdirs.user_data_dir("ctxmem", appauthor=False))
    except RuntimeError:
        path = Path("~")
    if path.parts[0] == "~":
        name = environment_name("data_dir")
        raise InvalidArgument(
            name, "is not set, and this user has no home folder", f"Set {name} to the folder for the conversations."
        )
    return path


def _read_toml(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidArgument(
            f"config file {path}", f"can't be read: {error.strerror}", f"Correct the path, or unset {CONFIG_ENV}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidArgument(
            f"config file {path}", f"is not TOML: {error}", "A line looks like: retention_days = 30"
        ) from error
