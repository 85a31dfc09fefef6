"""Every setting once: its name, type, default, accepted values and help. The only package that reads the environment.

A value is taken from the first of these that has one:

    flag  >  environment (CTXMEM_...)  >  config file  >  default

The config file is TOML, by default `config.toml` in the platform's config folder for ctxmem; `--config` or
CTXMEM_CONFIG names another. An empty environment variable counts as unset, because hosts pass empty fields that way.

`Settings` is the table: a field states its type and default, and a `Setting` beside the type states the rest.
`SETTINGS` maps names to these for the command line's help and for `docs/settings.md`.
"""

# No `from __future__ import annotations` here: the annotations of Settings are read when the class is built.

import os
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.models import RETENTION_DAYS_DEFAULT, RETENTION_DAYS_MAX, RETENTION_DAYS_MIN
from ctxmem_mcp.settings import kinds
from ctxmem_mcp.settings.gateway import GatewaySettings
from ctxmem_mcp.settings.setting import (
    HTTP,
    MEMORY,
    MODEL,
    SECONDS,
    SERVER,
    Setting,
    environment_name,
)
from ctxmem_mcp.settings.sources import default_data_dir, read_config_file, read_environment, read_flags
from ctxmem_mcp.text.tokenizer import DEFAULT_ENCODING

Durability = Literal["full", "normal"]
LogLevel = Literal["debug", "info", "warning", "error"]
Redaction = Literal["nothing", "secrets"]
Embeddings = Literal["auto", "on", "off"]
OnOff = Literal["on", "off"]

PORT_MAX = 65_535

_COUNT = kinds.integer(1, 2**31 - 1)
_TOKEN_LIMIT = kinds.integer(0, 10**12)


@dataclass(frozen=True, slots=True)
class Settings(GatewaySettings):
    """The settings of one process; immutable. `SETTINGS` describes each of them."""

    data_dir: Annotated[Path, Setting(MEMORY, kinds.FOLDER, "Folder of the conversation files.", "--data-dir")]
    store_url: Annotated[
        str | None,
        Setting(
            MEMORY,
            kinds.STORE_URL,
            "PostgreSQL database of the conversations, in place of the folder: `postgresql://USER:PASSWORD@HOST/NAME`. "
            "Requires the extra `postgres`.",
        ),
    ] = field(default=None, repr=False, kw_only=True)
    store_connections: Annotated[
        int,
        Setting(MEMORY, kinds.integer(1, 1_000), "Most connections that a process has to the PostgreSQL database."),
    ] = field(default=8, kw_only=True)
    retention_days: Annotated[
        int,
        Setting(
            MEMORY,
            kinds.integer(RETENTION_DAYS_MIN, RETENTION_DAYS_MAX),
            "Days that a new conversation is kept after its last append.",
        ),
    ] = RETENTION_DAYS_DEFAULT
    durability: Annotated[
        Durability,
        Setting(
            MEMORY,
            kinds.choice(Durability),
            "`full`: an acknowledged turn survives a power failure. `normal`: it survives a killed process only, but "
            "appends are faster.",
        ),
    ] = "full"
    encoding: Annotated[
        str, Setting(MEMORY, kinds.ENCODING, "Encoding in which tokens are counted, or a model that uses it.")
    ] = DEFAULT_ENCODING
    redact: Annotated[
        Redaction,
        Setting(
            MEMORY,
            kinds.choice(Redaction),
            "`secrets`: keys and tokens are removed from turns before they are stored, so storage is no longer "
            "lossless. Requires the extra `redact`.",
        ),
    ] = "nothing"
    passphrase: Annotated[
        str | None,
        Setting(MEMORY, kinds.SECRET, "Passphrase of encrypted exports and of an encrypted folder for `sync`."),
    ] = None
    age_identity: Annotated[
        Path | None, Setting(MEMORY, kinds.FILE, "File with your secret key of age or SSH, to read encrypted exports.")
    ] = None
    embeddings: Annotated[
        Embeddings,
        Setting(
            MEMORY,
            kinds.choice(Embeddings),
            "Whether turns are also found by meaning, with static word vectors that are part of the installation. "
            "`auto`: if there is a wheel of them for this platform. `off`: none are loaded or stored.",
        ),
    ] = "auto"
    neural: Annotated[
        OnOff,
        Setting(
            MEMORY,
            kinds.choice(OnOff),
            "Whether English questions are also compared with what both sides wrote by a neural model, MiniLM. "
            "It runs on this machine, in the background. Requires the extra `neural`.",
        ),
    ] = "off"
    embeddings_url: Annotated[
        str | None,
        Setting(
            MEMORY,
            kinds.URL,
            "OpenAI-compatible endpoint that embeds what both sides wrote, and questions, in place of MiniLM; without "
            "`/embeddings`. Nothing is sent unless it and the model are both set.",
        ),
    ] = None
    embeddings_model: Annotated[str | None, Setting(MEMORY, kinds.TEXT, "Model to embed with there.")] = None
    embeddings_api_key: Annotated[
        str | None, Setting(MEMORY, kinds.SECRET, "Key of that endpoint, sent as a bearer token.")
    ] = field(default=None, repr=False)
    neural_chunks: Annotated[
        int,
        Setting(
            MEMORY,
            _COUNT,
            "Most parts that either model embeds of a conversation stored earlier, the newest; and what is appended.",
        ),
    ] = 5_000
    neural_seconds: Annotated[
        int, Setting(MEMORY, _COUNT, "Most seconds that a process spends on embedding one conversation.")
    ] = 600
    sweep_seconds: Annotated[
        int, Setting(MEMORY, kinds.integer(1, 86_400), "Seconds between two removals of expired conversations.")
    ] = 3_600
    inject_tokens: Annotated[
        int,
        Setting(
            MEMORY,
            kinds.integer(700, 20_000, or_zero=True),
            "Most tokens that a hook adds to the context of a new session, by an estimate; 0 adds nothing.",
        ),
    ] = 2_000
    compaction_tokens: Annotated[
        int,
        Setting(
            MEMORY,
            kinds.integer(500, 20_000, or_zero=True),
            "Most tokens that a hook adds after a compaction, by an estimate: what the agent's summary left out; 0 "
            "adds nothing.",
        ),
    ] = 1_500
    repeat_warnings: Annotated[
        OnOff,
        Setting(
            MEMORY,
            kinds.choice(OnOff),
            "Whether a hook warns the agent before a call that failed before, and names what solved it.",
        ),
    ] = "on"
    prompt_recall: Annotated[
        OnOff,
        Setting(
            MEMORY,
            kinds.choice(OnOff),
            "Whether a hook adds earlier turns of the project to a prompt, if they clearly bear on it.",
        ),
    ] = "on"
    output_tokens: Annotated[
        int,
        Setting(
            MEMORY,
            kinds.integer(200, 100_000, or_zero=True),
            "Tokens over which hooks and the gateway shorten a tool's result to its beginning, its end and the lines "
            "that report errors, with the id that returns all of it; 0 shortens none.",
        ),
    ] = 0
    ask_for_summaries: Annotated[
        OnOff,
        Setting(
            MEMORY,
            kinds.choice(OnOff),
            "Whether `get_context` names up to two nodes of a long conversation that need a better summary. Never done "
            "if a model is configured to write summaries.",
        ),
    ] = "on"

    log_level: Annotated[
        LogLevel, Setting(SERVER, kinds.choice(LogLevel), "Lowest level of the messages on stderr.", "--log-level")
    ] = "warning"
    http_host: Annotated[str, Setting(SERVER, kinds.TEXT, "Address that the HTTP server listens on.", "--host")] = (
        "127.0.0.1"
    )
    http_port: Annotated[
        int,
        Setting(
            SERVER, kinds.integer(0, PORT_MAX), "Port that the HTTP server listens on; 0 picks a free one.", "--port"
        ),
    ] = 8377
    allowed_hosts: Annotated[
        str | None,
        Setting(
            SERVER,
            kinds.TEXT,
            "Host names by which clients reach the HTTP server, without ports, separated by commas.",
            "--allowed-hosts",
        ),
    ] = None

    tokens: Annotated[
        str | None,
        Setting(
            HTTP,
            kinds.SECRET,
            "Bearer token of each principal, as `NAME:TOKEN`, separated by commas. Without tokens and OAuth, everyone "
            "who reaches the port is admitted.",
        ),
    ] = field(default=None, repr=False)
    tokens_file: Annotated[
        Path | None,
        Setting(
            HTTP, kinds.FILE, "File of principals and the hashes of their tokens; `ctxmem-mcp token` makes its lines."
        ),
    ] = None
    oauth_issuer: Annotated[
        str | None,
        Setting(
            HTTP,
            kinds.TEXT,
            "Authorization server whose JWTs are accepted. Requires the audience and the JWKS URL below.",
        ),
    ] = None
    oauth_audience: Annotated[
        str | None,
        Setting(HTTP, kinds.URL, "Audience that a JWT must name: the URL of the MCP endpoint as clients know it."),
    ] = None
    oauth_jwks_url: Annotated[str | None, Setting(HTTP, kinds.URL, "URL of the authorization server's keys.")] = None
    oauth_scopes: Annotated[
        str | None, Setting(HTTP, kinds.SCOPES, "Scopes that a JWT must have, all of them, separated by spaces.")
    ] = None
    http_requests_per_minute: Annotated[
        int | None,
        Setting(
            HTTP,
            _COUNT,
            "Requests that one principal may send in a minute. Unset: 600 with tokens or OAuth, no limit without.",
        ),
    ] = None
    http_concurrent_requests: Annotated[
        int | None,
        Setting(HTTP, _COUNT, "Requests of one principal that may be in progress, streams included. Unset: no limit."),
    ] = None
    stored_bytes_max: Annotated[
        int | None,
        Setting(
            HTTP,
            kinds.integer(1, 2**63 - 1),
            "Bytes of files that a principal's memory, or a shared space, may have before it stores no more. Unset: no "
            "limit.",
        ),
    ] = None
    stored_turns_max: Annotated[
        int | None,
        Setting(HTTP, _COUNT, "Turns that such a memory may have before it stores no more. Unset: no limit."),
    ] = None
    audit_lines: Annotated[
        int,
        Setting(
            HTTP,
            kinds.integer(1, 10**8, or_zero=True),
            "Lines that the audit of a server with principals keeps, the newest; 0 turns it off.",
        ),
    ] = 200_000
    http_body_bytes: Annotated[int, Setting(HTTP, _COUNT, "Largest request body accepted, in bytes.")] = 67_108_864
    http_seconds: Annotated[
        int, Setting(HTTP, SECONDS, "Seconds after which a request without a response is aborted.")
    ] = 60
    http_head_seconds: Annotated[
        int, Setting(HTTP, SECONDS, "Seconds that a connection may take to send the head of its next request.")
    ] = 10
    http_connections_per_address: Annotated[
        int,
        Setting(
            HTTP,
            _COUNT,
            "Connections without a request that one address may have; a further one closes the one idle longest.",
        ),
    ] = 200
    http_shutdown_seconds: Annotated[
        int, Setting(HTTP, SECONDS, "Seconds that running requests have to finish when the server is stopped.")
    ] = 30

    llm_base_url: Annotated[
        str | None,
        Setting(
            MODEL,
            kinds.URL,
            "OpenAI-compatible endpoint that writes better summaries, without `/chat/completions`. No model is called "
            "unless the endpoint and the model are both set.",
        ),
    ] = None
    llm_model: Annotated[str | None, Setting(MODEL, kinds.TEXT, "Model to call there.")] = None
    llm_api_key: Annotated[str | None, Setting(MODEL, kinds.SECRET, "Key of the endpoint, sent as a bearer token.")] = (
        field(default=None, repr=False)
    )
    llm_tokens_per_day: Annotated[
        int,
        Setting(
            MODEL,
            _TOKEN_LIMIT,
            "Most tokens, input and output, spent on summaries in a day (UTC) by all processes on the data folder.",
        ),
    ] = 1_000_000
    llm_tokens_per_conversation: Annotated[
        int,
        Setting(MODEL, _TOKEN_LIMIT, "Most tokens, input and output, spent on the summaries of one conversation."),
    ] = 300_000

    # Where each value that is no default was given, as the user spelled it.
    sources: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def load(
        cls,
        flags: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        config_path: Path | str | None = None,
    ) -> Self:
        """Loads the settings of a process.

        Args:
            flags: values by name; None counts as not given.
            environ: default: the process's environment.
            config_path: default: CTXMEM_CONFIG, or the platform's config file if there is one.

        Raises:
            InvalidArgument: a value breaks its rule, or a name is unknown. Names where the value was given.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        sources: dict[str, str] = {}
        from_file = read_config_file(SETTINGS, config_path, environ)
        for given in (from_file, read_environment(SETTINGS, environ), read_flags(SETTINGS, flags or {})):
            values |= {name: SETTINGS[name].parse(value, source) for name, (value, source) in given.items()}
            sources |= {name: source for name, (_, source) in given.items()}
        if "data_dir" not in values:
            values["data_dir"] = default_data_dir()
        return cls(**values, sources=sources)

    def spelling(self, name: str) -> str:
        """Returns the setting's name as the user gave it: a flag, an environment variable or a config file's line."""
        return self.sources.get(name, environment_name(name))

    def missing_extra(self, error: ImportError) -> InvalidArgument:
        """Returns the error for a `store_url` whose package is not installed."""
        return InvalidArgument(
            self.spelling("store_url"),
            f"names a PostgreSQL database, but {error.name or 'psycopg'} can't be imported",
            "Install the extra: pip install 'ctxmem-mcp[postgres]'.",
        )


def _described() -> dict[str, Setting]:
    hints: dict[str, Any] = Settings.__annotations__ | GatewaySettings.__annotations__
    defaults = {known.name: known.default for known in fields(Settings)}
    return {
        name: replace(hint.__metadata__[0], name=name, default=None if defaults[name] is MISSING else defaults[name])
        for name, hint in hints.items()
        if name != "sources"
    }


SETTINGS: Mapping[str, Setting] = _described()
