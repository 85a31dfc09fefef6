"""The settings of the gateway: where it forwards, what memory adds, and the prices of tokens."""

# No `from __future__ import annotations` here: the annotations are read when the class is built.

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ctxmem_mcp.settings import kinds
from ctxmem_mcp.settings.setting import GATEWAY, SECONDS, Setting

GatewayMemory = Literal["request", "always"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """The part of `Settings` that is about the gateway."""

    upstream_base_url: Annotated[
        str | None,
        Setting(
            GATEWAY, kinds.URL, "OpenAI-compatible API to which the gateway forwards, without `/chat/completions`."
        ),
    ] = None
    upstream_api_key: Annotated[
        str | None, Setting(GATEWAY, kinds.SECRET, "Key sent to it instead of the client's own.")
    ] = field(default=None, repr=False)
    upstream_anthropic_url: Annotated[
        str | None,
        Setting(GATEWAY, kinds.URL, "Anthropic-compatible API to which the gateway forwards, without `/v1/messages`."),
    ] = None
    upstream_anthropic_api_key: Annotated[
        str | None, Setting(GATEWAY, kinds.SECRET, "Key sent to it instead of the client's own.")
    ] = field(default=None, repr=False)
    upstream_gemini_url: Annotated[
        str | None,
        Setting(GATEWAY, kinds.URL, "Gemini-compatible API to which the gateway forwards, without `/v1beta`."),
    ] = None
    upstream_gemini_api_key: Annotated[
        str | None, Setting(GATEWAY, kinds.SECRET, "Key sent to it instead of the client's own.")
    ] = field(default=None, repr=False)
    upstream_code_assist_url: Annotated[
        str | None,
        Setting(GATEWAY, kinds.URL, "API for requests of Gemini CLI's Google login, without `/v1internal`."),
    ] = None
    upstream_chatgpt_url: Annotated[
        str | None,
        Setting(GATEWAY, kinds.URL, "API for requests of Codex's ChatGPT login, without `/responses`."),
    ] = None
    upstream_seconds: Annotated[
        int, Setting(GATEWAY, SECONDS, "Seconds that an upstream may send nothing before the request fails.")
    ] = 600
    gateway_memory: Annotated[
        GatewayMemory,
        Setting(
            GATEWAY,
            kinds.choice(GatewayMemory),
            "`request`: a request has memory if it asks for it. `always`: every request has, unless it declines it.",
        ),
    ] = "request"
    gateway_tokens: Annotated[
        int, Setting(GATEWAY, kinds.integer(4_000, 1_000_000), "Tokens to which the gateway compacts a conversation.")
    ] = 16_000
    gateway_seconds: Annotated[
        int,
        Setting(
            GATEWAY,
            SECONDS,
            "Seconds that memory may take per request; after that the request is forwarded unchanged.",
        ),
    ] = 10
    price_in: Annotated[
        float,
        Setting(GATEWAY, kinds.PRICE, "Dollars per million input tokens, for `/v1/usage` and the resource `usage`."),
    ] = 5.0
    price_cached: Annotated[
        float, Setting(GATEWAY, kinds.PRICE, "Dollars per million input tokens read from a cache.")
    ] = 2.5
    price_out: Annotated[float, Setting(GATEWAY, kinds.PRICE, "Dollars per million output tokens.")] = 10.0
