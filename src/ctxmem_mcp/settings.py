"""Every knob once: its unit, its default, its names. The only place that reads the environment.

A value comes from the first of these that has it:

    flag  >  environment (CTXMEM_...)  >  config file  >  default

The config file is TOML, by default `config.toml` in the platform's config folder for ctxmem; CTXMEM_CONFIG or the
flag names another. An empty value in the environment counts as not there: hosts pass unset fields that way.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import RETENTION_DAYS_DEFAULT, RETENTION_DAYS_MAX, RETENTION_DAYS_MIN
from ctxmem_mcp.text.tokenizer import DEFAULT_ENCODING, ENCODINGS

Durability = Literal["full", "normal"]
LogLevel = Literal["debug", "info", "warning", "error"]
Redaction = Literal["nothing", "secrets"]
Semantic = Literal["auto", "on", "off"]
Asking = Literal["on", "off"]

DURABILITIES: tuple[Durability, ...] = ("full", "normal")
LOG_LEVELS: tuple[LogLevel, ...] = ("debug", "info", "warning", "error")
REDACTIONS: tuple[Redaction, ...] = ("nothing", "secrets")
SEMANTICS: tuple[Semantic, ...] = ("auto", "on", "off")
ASKINGS: tuple[Asking, ...] = ("on", "off")
CONFIG_ENV = "CTXMEM_CONFIG"
PORT_MAX = 65_535
SWEEP_SECONDS_MIN, SWEEP_SECONDS_MAX = 1, 86_400
INJECT_TOKENS_MIN, INJECT_TOKENS_MAX = 700, 20_000
LLM_TOKENS_MAX = 10**12
GATEWAY_TOKENS_MIN, GATEWAY_TOKENS_MAX = 4_000, 1_000_000
UPSTREAM_SECONDS_MAX, PRICE_MAX = 3_600, 1_000_000
HTTP_MAX, HTTP_SECONDS_MAX = 2**31 - 1, 3_600


@dataclass(frozen=True, slots=True)
class Settings:
    """The knobs.

    data_dir        CTXMEM_DATA_DIR        the folder conversations are kept in; default: the platform's data folder
    durability      CTXMEM_DURABILITY      full: an acknowledged turn survives power loss; normal: a killed process
    encoding        CTXMEM_ENCODING        what tokens are counted in: o200k_base, cl100k_base, or a model that uses one
    retention_days  CTXMEM_RETENTION_DAYS  days after its last append that a new conversation is kept (1..365)
    http_host       CTXMEM_HTTP_HOST       where the HTTP transport listens
    http_port       CTXMEM_HTTP_PORT       its port (0: any free one)
    log_level       CTXMEM_LOG_LEVEL       what goes to stderr
    sweep_seconds   CTXMEM_SWEEP_SECONDS   seconds between two sweeps of what has expired
    inject_tokens   CTXMEM_INJECT_TOKENS   tokens that a session's hook puts into a new context; 0: nothing
    redact          CTXMEM_REDACT          secrets: taken out of turns before these are stored; nothing: all is kept
    semantic        CTXMEM_SEMANTIC        pieces are also found by what they mean; auto: where the extra is installed
    ask_for_summaries  CTXMEM_ASK_FOR_SUMMARIES  get_context names nodes that a better summary is wanted of

    Of the HTTP service, beside where it listens:

    tokens          CTXMEM_TOKENS          NAME:TOKEN of each principal that may ask, with commas between
    tokens_file     CTXMEM_TOKENS_FILE     a file with the hash of each principal's token
    oauth_issuer    CTXMEM_OAUTH_ISSUER    the authorization server whose JWTs are taken; all three of these, or none
    oauth_audience  CTXMEM_OAUTH_AUDIENCE  what it calls this server: the URL of the MCP endpoint
    oauth_jwks_url  CTXMEM_OAUTH_JWKS_URL  where its keys are
    oauth_scopes    CTXMEM_OAUTH_SCOPES    what such a JWT must be good for, with spaces between; none: anything
    allowed_hosts   CTXMEM_ALLOWED_HOSTS   the names that others reach this server by, with commas between
    http_requests_per_minute  CTXMEM_HTTP_REQUESTS_PER_MINUTE  of one principal; none: 600 where there are tokens
    http_body_bytes           CTXMEM_HTTP_BODY_BYTES           the largest request that is read
    http_seconds              CTXMEM_HTTP_SECONDS              after which a request that has no answer is given up
    http_shutdown_seconds     CTXMEM_HTTP_SHUTDOWN_SECONDS     that answers under way have when the server is stopped

    Summaries by a model are written only where the first two of these are set:

    llm_base_url    CTXMEM_LLM_BASE_URL    an OpenAI-compatible endpoint, up to and without /chat/completions
    llm_model       CTXMEM_LLM_MODEL       the model to ask there
    llm_api_key     CTXMEM_LLM_API_KEY     sent as a bearer token
    llm_tokens_per_day           CTXMEM_LLM_TOKENS_PER_DAY           tokens, in and out, to be spent in a day (UTC)
    llm_tokens_per_conversation  CTXMEM_LLM_TOKENS_PER_CONVERSATION  the same for one conversation, as long as it lives

    The gateway stands before the model that the user talks to, where the first or the third of these is set:

    upstream_base_url           CTXMEM_UPSTREAM_BASE_URL           an OpenAI-compatible API, up to /chat/completions
    upstream_api_key            CTXMEM_UPSTREAM_API_KEY            sent there in place of what the client sends
    upstream_anthropic_url      CTXMEM_UPSTREAM_ANTHROPIC_URL      Anthropic's API or one like it, up to /v1/messages
    upstream_anthropic_api_key  CTXMEM_UPSTREAM_ANTHROPIC_API_KEY  sent there in place of what the client sends
    upstream_seconds            CTXMEM_UPSTREAM_SECONDS            that an upstream may say nothing
    gateway_tokens              CTXMEM_GATEWAY_TOKENS              tokens that a conversation is made to fit into
    gateway_seconds             CTXMEM_GATEWAY_SECONDS             that memory may take; then it goes on as it came
    price_in                    CTXMEM_PRICE_IN                    dollars for a million tokens sent, to tell the cost
    price_cached                CTXMEM_PRICE_CACHED                the same for those that the upstream had cached
    price_out                   CTXMEM_PRICE_OUT                   the same for those it answered
    """

    data_dir: Path
    durability: Durability = "full"
    encoding: str = DEFAULT_ENCODING
    retention_days: int = RETENTION_DAYS_DEFAULT
    http_host: str = "127.0.0.1"
    http_port: int = 8765
    log_level: LogLevel = "warning"
    sweep_seconds: int = 3_600
    inject_tokens: int = 2_000
    redact: Redaction = "nothing"
    semantic: Semantic = "auto"
    ask_for_summaries: Asking = "on"
    tokens: str | None = field(default=None, repr=False)
    tokens_file: Path | None = None
    oauth_issuer: str | None = None
    oauth_audience: str | None = None
    oauth_jwks_url: str | None = None
    oauth_scopes: str | None = None
    allowed_hosts: str | None = None
    http_requests_per_minute: int | None = None
    http_body_bytes: int = 67_108_864
    http_seconds: int = 60
    http_shutdown_seconds: int = 30
    llm_base_url: str | None = None
    llm_model: str | None = None
    llm_api_key: str | None = field(default=None, repr=False)
    llm_tokens_per_day: int = 1_000_000
    llm_tokens_per_conversation: int = 300_000
    upstream_base_url: str | None = None
    upstream_api_key: str | None = field(default=None, repr=False)
    upstream_anthropic_url: str | None = None
    upstream_anthropic_api_key: str | None = field(default=None, repr=False)
    upstream_seconds: int = 600
    gateway_tokens: int = 16_000
    gateway_seconds: int = 10
    price_in: float = 5.0
    price_cached: float = 2.5
    price_out: float = 10.0

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        config_path: Path | str | None = None,
    ) -> Settings:
        """The settings for these flags (None: not given), this environment and config file.

        Raises InvalidArgument that names where the bad value came from, its rule and the remedy.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for source in (
            _from_file(config_path, environ),
            _from_environment(environ),
            _from_flags(flags or {}),
        ):
            found |= {name: _KNOBS[name](given, name, came) for name, (given, came) in source.items()}
        if "data_dir" not in found:
            import platformdirs

            found["data_dir"] = Path(platformdirs.user_data_dir("ctxmem", appauthor=False))
        return cls(**found)


def folder_named(given: str | Path, came: str) -> Path:
    """The whole path of a folder for conversations. came: where it was named. Raises InvalidArgument."""
    return _folder(given, "data_dir", came)


def environment_name(knob: str) -> str:
    return f"CTXMEM_{knob.upper()}"


# What a source has: the knob's name to the value given and where it came from, in words.
_Given = dict[str, tuple[object, str]]


def _from_flags(flags: Mapping[str, object]) -> _Given:
    for name in flags:
        if name not in _KNOBS:
            raise InvalidArgument(name, "is no setting", f"Settings are {', '.join(_KNOBS)}.")
    return {name: (given, _flag_name(name)) for name, given in flags.items() if given is not None}


def _flag_name(knob: str) -> str:
    return "--" + knob.removeprefix("http_").replace("_", "-")


def _from_environment(environ: Mapping[str, str]) -> _Given:
    names = {name: environment_name(name) for name in _KNOBS}
    return {name: (environ[env], env) for name, env in names.items() if environ.get(env, "").strip()}


def _from_file(config_path: Path | str | None, environ: Mapping[str, str]) -> _Given:
    named = config_path or environ.get(CONFIG_ENV, "").strip() or None
    path = _at_home(Path(named), "config file") if named else _default_config_path()
    if named is None and not path.is_file():
        return {}
    given: _Given = {}
    for name, value in _toml(path).items():
        if name not in _KNOBS:
            raise InvalidArgument(f"{name} in {path}", "is no setting", f"Settings are {', '.join(_KNOBS)}.")
        if name in ("data_dir", "tokens_file") and isinstance(value, str) and value.strip():
            value = str(path.parent / _at_home(Path(value), f"{name} in {path}"))
        given[name] = (value, f"{name} in {path}")
    return given


def _default_config_path() -> Path:
    import platformdirs

    return Path(platformdirs.user_config_dir("ctxmem", appauthor=False)) / "config.toml"


def _toml(path: Path) -> dict[str, Any]:
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


_Parse = Callable[[object, str, str], object]


def _one_of(choices: tuple[str, ...]) -> _Parse:
    def parse(given: object, name: str, came: str) -> str:
        word = str(given).strip()
        if word.lower() not in choices:
            raise InvalidArgument(came, f"is {word!r}; takes one of {', '.join(choices)}", _leave_out(name))
        return word.lower()

    return parse


def _encoding(given: object, name: str, came: str) -> str:
    """An encoding, or a model that uses one of them."""
    word = str(given).strip()
    if word.lower() in ENCODINGS:
        return word.lower()
    from tiktoken.model import encoding_name_for_model

    try:
        found = encoding_name_for_model(word)
    except KeyError:
        found = ""
    if found not in ENCODINGS:
        raise InvalidArgument(
            came, f"is {word!r}; takes {', '.join(ENCODINGS)} or a model that uses one of them", _leave_out(name)
        )
    return found


def _whole(low: int, high: int) -> _Parse:
    def parse(given: object, name: str, came: str) -> int:
        try:
            number = int(str(given).strip()) if not isinstance(given, bool) else None
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            raise InvalidArgument(came, f"is {given!r}; takes a whole number from {low} to {high}", _leave_out(name))
        return number

    return parse


def _price(given: object, name: str, came: str) -> float:
    try:
        number = float(str(given).strip()) if not isinstance(given, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= PRICE_MAX:
        raise InvalidArgument(
            came, f"is {given!r}; takes dollars for a million tokens, 0 to {PRICE_MAX}", _leave_out(name)
        )
    return number


def _none_or(parse: _Parse) -> _Parse:
    """Zero, or what that takes."""
    return lambda given, name, came: 0 if str(given).strip() == "0" else parse(given, name, came)


def _text(given: object, name: str, came: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise InvalidArgument(came, f"is {given!r}; takes some text", _leave_out(name))
    return given.strip()


def _folder(given: object, name: str, came: str) -> Path:
    if not isinstance(given, str | Path) or not str(given).strip():
        raise InvalidArgument(came, f"is {given!r}; takes the path of a folder", _leave_out(name))
    path = _whole_path(given, came)
    if path.exists() and not path.is_dir():
        raise InvalidArgument(came, f"is {str(path)!r}, which is a file", "Name a folder; it is made when missing.")
    return path


def _file(given: object, name: str, came: str) -> Path:
    return _whole_path(_text(given, name, came), came)


def _whole_path(given: str | Path, came: str) -> Path:
    try:
        return _at_home(Path(given), came).absolute()
    except FileNotFoundError as error:
        raise InvalidArgument(
            came, f"is {str(given)!r}, and the folder you are in is gone", "Name it from the root, or go elsewhere."
        ) from error


def _at_home(path: Path, came: str) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise InvalidArgument(came, f"is {str(path)!r}, whose home folder is not known", "Name it in full.") from error


def _address(given: object, name: str, came: str) -> str:
    from urllib.parse import urlsplit

    text = _text(given, name, came).rstrip("/")
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidArgument(came, f"is {given!r}; takes a URL such as http://localhost:11434/v1", _leave_out(name))
    return text


def _scopes(given: object, name: str, came: str) -> str:
    """Scopes as RFC 6749 spells them: they go into a header as they are."""
    text = " ".join(given.split()) if isinstance(given, str) else ""
    if not text or not all("!" <= char <= "~" and char not in '"\\' for char in text.replace(" ", "")):
        raise InvalidArgument(came, f"is {given!r}; takes names of scopes with spaces between", _leave_out(name))
    return text


def _secret(given: object, name: str, came: str) -> str:
    """Never said back: what is refused here goes to a log."""
    if not isinstance(given, str) or not given.strip().isascii() or not given.strip().isprintable():
        raise InvalidArgument(came, "is no key: takes printable ASCII on one line", _leave_out(name))
    return given.strip()


def _leave_out(name: str) -> str:
    default = {knob.name: knob.default for knob in fields(Settings)}[name]
    what = "the platform's data folder" if name == "data_dir" else "none" if default is None else str(default)
    return f"Leave it out for {what}."


_KNOBS: dict[str, _Parse] = {
    "data_dir": _folder,
    "durability": _one_of(DURABILITIES),
    "encoding": _encoding,
    "retention_days": _whole(RETENTION_DAYS_MIN, RETENTION_DAYS_MAX),
    "http_host": _text,
    "http_port": _whole(0, PORT_MAX),
    "log_level": _one_of(cast("tuple[str, ...]", LOG_LEVELS)),
    "sweep_seconds": _whole(SWEEP_SECONDS_MIN, SWEEP_SECONDS_MAX),
    "redact": _one_of(REDACTIONS),
    "semantic": _one_of(SEMANTICS),
    "ask_for_summaries": _one_of(ASKINGS),
    "inject_tokens": _none_or(_whole(INJECT_TOKENS_MIN, INJECT_TOKENS_MAX)),
    "tokens": _secret,
    "tokens_file": _file,
    "oauth_issuer": _text,
    "oauth_audience": _address,
    "oauth_jwks_url": _address,
    "oauth_scopes": _scopes,
    "allowed_hosts": _text,
    "http_requests_per_minute": _whole(1, HTTP_MAX),
    "http_body_bytes": _whole(1, HTTP_MAX),
    "http_seconds": _whole(1, HTTP_SECONDS_MAX),
    "http_shutdown_seconds": _whole(1, HTTP_SECONDS_MAX),
    "llm_base_url": _address,
    "llm_model": _text,
    "llm_api_key": _secret,
    "llm_tokens_per_day": _whole(0, LLM_TOKENS_MAX),
    "llm_tokens_per_conversation": _whole(0, LLM_TOKENS_MAX),
    "upstream_base_url": _address,
    "upstream_api_key": _secret,
    "upstream_anthropic_url": _address,
    "upstream_anthropic_api_key": _secret,
    "upstream_seconds": _whole(1, UPSTREAM_SECONDS_MAX),
    "gateway_tokens": _whole(GATEWAY_TOKENS_MIN, GATEWAY_TOKENS_MAX),
    "gateway_seconds": _whole(1, UPSTREAM_SECONDS_MAX),
    "price_in": _price,
    "price_cached": _price,
    "price_out": _price,
}
