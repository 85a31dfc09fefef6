"""Which upstream a request is forwarded to: by its path, and by headers that only one API's clients send. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ctxmem_mcp.patterns import lazy_regex

if TYPE_CHECKING:
    from ctxmem_mcp.settings import Settings

Api = Literal["openai", "anthropic", "gemini"]
# Headers that only clients of one API send. Codex names the account of a ChatGPT login.
_ANTHROPIC, _GEMINI, _CHATGPT = "anthropic-version", "x-goog-api-key", "chatgpt-account-id"
_VERSION = lazy_regex(r"/(v1(?:beta\d*|alpha\d*)?)(?=/|$)")
# The beginning of the paths of Gemini CLI's Google login.
CODE_ASSIST = "/v1internal"
# The method whose response is an array that grows, unless events are requested.
STREAMED_ARRAY_METHOD = ":streamGenerateContent"
# The methods of Gemini's API follow a colon.
_GEMINI_METHOD = lazy_regex(r":(?:(?:stream)?[gG]enerateContent|countTokens|embedContent|batchEmbedContents)$")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An upstream endpoint.

    Attributes:
        url: its URL.
        key: the header with the configured key; empty to forward the client's key.
    """

    url: str
    key: Mapping[str, str]


class NotConfigured(Exception):
    """No upstream is configured for the request.

    Attributes:
        setting: the environment variable that is missing.
    """

    def __init__(self, setting: str) -> None:
        super().__init__(setting)
        self.setting = setting


def api_of(path: str, headers: Mapping[str, str], settings: Settings) -> Api:
    """Returns the API that a request uses.

    Args:
        path: its path.
        headers: its headers; names are looked up in lower case.
        settings: tell which upstreams are configured.
    """
    if path.startswith("/v1/messages"):
        return "anthropic"
    if not path.startswith("/v1/") or _GEMINI_METHOD.search(path) or _GEMINI in headers:
        return "gemini"
    if path.startswith(("/v1/chat/completions", "/v1/responses")):
        return "openai"
    only_anthropic = settings.upstream_base_url is None
    return "anthropic" if (_ANTHROPIC in headers or only_anthropic) and settings.upstream_anthropic_url else "openai"


def endpoint_of(path: str, headers: Mapping[str, str], settings: Settings) -> Endpoint:
    """Returns the endpoint for a request.

    Args:
        path: its path, percent-encoded as the client sent it.
        headers: its headers; names are looked up in lower case.
        settings: the configured upstreams.

    Raises:
        NotConfigured: there is no upstream for it.
    """
    rest = _VERSION.sub("", path, count=1)
    api = api_of(path, headers, settings)
    if api == "anthropic":
        key = settings.upstream_anthropic_api_key
        base = _configured(settings.upstream_anthropic_url, "CTXMEM_UPSTREAM_ANTHROPIC_URL").removesuffix("/v1")
        return Endpoint(f"{base}/v1{rest}", {"x-api-key": key} if key else {})
    if api == "gemini" and path.startswith(CODE_ASSIST):
        return Endpoint(
            f"{_configured(settings.upstream_code_assist_url, 'CTXMEM_UPSTREAM_CODE_ASSIST_URL')}{path}", {}
        )
    if api == "gemini":
        key = settings.upstream_gemini_api_key
        base = _configured(settings.upstream_gemini_url, "CTXMEM_UPSTREAM_GEMINI_URL").removesuffix("/v1beta")
        return Endpoint(f"{base}{path}", {"x-goog-api-key": key} if key else {})
    if settings.upstream_chatgpt_url and _CHATGPT in headers:
        return Endpoint(f"{settings.upstream_chatgpt_url}{rest}", {})
    key = settings.upstream_api_key
    base = _configured(settings.upstream_base_url, "CTXMEM_UPSTREAM_BASE_URL")
    return Endpoint(f"{base}{rest}", {"authorization": f"Bearer {key}"} if key else {})


def _configured(url: str | None, setting: str) -> str:
    if url is None:
        raise NotConfigured(setting)
    return url
