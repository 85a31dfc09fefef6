"""Replaces secrets in text before any of it is written to disk. Off by default, because it is not lossless.

It uses those detectors of detect-secrets that recognise a secret by its form, and some patterns of its own. Detectors
that guess by entropy or by a name nearby are not used, because they report much of any code as secrets. A secret is
replaced by a placeholder that names its type, always the same one for the same secret, so that repeated text is
recognised as the same turn.
"""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

from ctxmem_mcp.capture.events import decode_event
from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.patterns import lazy_regex

_log = logging.getLogger(__name__)

PLACEHOLDER_START = "[redacted: "
_PLACEHOLDER = lazy_regex(re.escape(PLACEHOLDER_START) + r"([^]\n]+)\]")
_DETECTORS = {
    "artifactory": "ArtifactoryDetector", "aws": "AWSKeyDetector", "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector", "discord": "DiscordBotTokenDetector", "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector", "jwt": "JwtTokenDetector", "mailchimp": "MailchimpDetector",
    "openai": "OpenAIDetector", "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector", "slack": "SlackDetector", "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector", "telegram_token": "TelegramBotTokenDetector", "twilio": "TwilioKeyDetector",
}  # fmt: skip
# A key in plain text, quoted, with line numbers or as a line of JSON; but not code that mentions its first and last
# line. A truncated key matches as far as it goes; its first line alone is not secret.
_PRIVATE_KEY = lazy_regex(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----(?:"
    r"(?=(?:(?!-----(?:BEGIN|END))[^{}<>;_])*?[A-Za-z0-9+/]{16})"
    r"(?:(?!-----BEGIN)[^{}<>;_])*?-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----"
    r"|(?:[^A-Za-z+/{}<>;_]{1,24}[A-Za-z0-9+/=]{40,})+)"
)
# Forms that detect-secrets does not know, or for which it matches more than the secret. A group, if there is one, is
# the secret. A lookbehind follows the first letters instead of preceding them, which makes the search fast.
_PATTERNS = (
    ("Private Key", _PRIVATE_KEY),
    ("Anthropic Key", lazy_regex(r"sk-ant-(?<![A-Za-z0-9]sk-ant-)[A-Za-z0-9_-]{20,}")),
    ("OpenAI Token", lazy_regex(r"sk-(?<![A-Za-z0-9]sk-)[A-Za-z0-9_-]{20,200}T3BlbkFJ[A-Za-z0-9_-]{20,}")),
    (
        "AWS Access Key",
        lazy_regex(r"(?i:secret[_.-]?(?:access[_.-]?)?key)[^\w\n/+]{1,12}([0-9A-Za-z/+]{40})(?![\w/+=])"),
    ),
    ("AWS Session Token", lazy_regex(r"(?:FwoGZXIvYXdz|IQoJb3JpZ2lu)[A-Za-z0-9/+]{80,}={0,2}")),
    ("GitHub Token", lazy_regex(r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}")),
    ("Google API Key", lazy_regex(r"AIza[0-9A-Za-z_-]{35}")),
    ("Hugging Face Token", lazy_regex(r"hf_(?<![A-Za-z0-9]hf_)[A-Za-z0-9]{34,}")),
    ("NPM tokens", lazy_regex(r"npm_(?<![A-Za-z0-9]npm_)[A-Za-z0-9]{36}")),
    ("NPM tokens", lazy_regex(r":_authToken=([A-Fa-f0-9-]{36})")),
)
# Shorter groups are only parts of a secret's form.
_CHARS_MIN = 8
# The rest of a secret that is longer than its known form: vendors lengthen their keys.
_REST = lazy_regex(r"(?<=[\w.-])[\w-]+", re.ASCII)
# Characters that a pattern matches around a secret.
_AROUND = ' \t\r\n"'
# Only from the first of a run of backslashes, so that a long run takes no longer than any other text.
_ESCAPED = lazy_regex(r"(?<!\\)\\+([nrt\"'/])")
_MEANT = {"n": "\n", "r": "\n", "t": "\t"}

# Detectors whose pattern is a beginning, a run of these characters of any length, and an end. If the first beginning in
# a run matches no end, neither does a later one, and to try each would take the square of the run's length.
_RUNS = {
    "OpenAIDetector": ("sk-", lazy_regex(r"[A-Za-z0-9_-]+")),
    "JwtTokenDetector": ("eyJ", lazy_regex(r"[A-Za-z0-9_=-]+")),
}

Redact = Callable[[str], str]


def redact(text: str) -> str:
    """Returns the text with a placeholder for each secret. Needs detect-secrets; see `load_redactor`."""
    found = sorted(set(_find_secrets(text)), key=lambda pair: -len(pair[1]))
    for kind, secret in found:
        text = _replace(text, secret, f"{PLACEHOLDER_START}{kind}]")
    if found:
        counts = (f"{count} x {kind}" for kind, count in Counter(kind for kind, _ in found).items())
        _log.info("Replaced secrets: %s.", ", ".join(counts))
    return text


class CountedRedactor:
    """Redacts texts, and counts the secrets in different ones by their kinds.

    Attributes:
        counts: How many secrets of each kind there were.
    """

    def __init__(self) -> None:
        """Raises InvalidArgument if detect-secrets is not installed."""
        self._redact = load_redactor()
        self._seen: set[str] = set()
        self.counts: Counter[str] = Counter()

    def __call__(self, text: str) -> str:
        redacted = self._redact(text)
        if redacted != text and text not in self._seen:
            self._seen.add(text)
            self.counts += Counter(_PLACEHOLDER.findall(redacted)) - Counter(_PLACEHOLDER.findall(text))
        return redacted


def redact_event(raw: bytes) -> bytes:
    """Returns a hook event without secrets. JSON stays JSON: each of its strings is redacted separately."""
    text = decode_event(raw)
    try:
        return json.dumps(_map_strings(json.loads(text))).encode()
    except (ValueError, RecursionError):
        return redact(text).encode()


def load_redactor() -> Redact:
    """Returns `redact`.

    Raises:
        InvalidArgument: detect-secrets is not installed.
    """
    _detectors()
    return redact


def _map_strings(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key): _map_strings(inner) for key, inner in value.items()}
    return [_map_strings(inner) for inner in value] if isinstance(value, list) else value


def _replace(text: str, secret: str, placeholder: str) -> str:
    """Replaces every occurrence of the secret, but a password that is a plain word only in URLs."""
    if secret.isalpha():
        return text.replace(f":{secret}@", f":{placeholder}@")
    return text.replace(secret, placeholder)


def _find_secrets(text: str) -> Iterator[tuple[str, str]]:
    yield from _secrets_in(text)
    # In text that contains JSON, an escape may be next to a secret where its form requires a word's edge or a quote.
    if "\\" in text:
        yield from _secrets_in(_ESCAPED.sub(lambda escaped: _MEANT.get(escaped[1], escaped[1]), text))


def _secrets_in(text: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in _PATTERNS:
        yield from ((kind, match[match.lastindex or 0]) for match in pattern.finditer(text))
    for detector in _detectors():
        is_one = getattr(detector, "is_formally_valid", lambda _: True)
        for pattern in detector.denylist:
            for match in _matches(detector, pattern, text):
                # If a pattern also matches text around a secret, its group is the secret.
                groups = [group for group in match.groups() if group and len(group) >= _CHARS_MIN]
                for secret in filter(is_one, groups or [match[0]]):
                    rest = None if groups else _REST.match(text, match.end())
                    whole = (secret + (rest[0] if rest else "")).strip(_AROUND).lstrip("=:")
                    # A quote inside means that these are two strings side by side.
                    if '"' not in whole:
                        yield detector.secret_type, whole


def _matches(detector: Any, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Yields what `pattern.finditer` does, in a time that grows only linearly with the text."""
    beginning, run = _RUNS.get(type(detector).__name__, ("", None))
    if run is None:
        yield from pattern.finditer(text)
        return
    at = text.find(beginning)
    while at >= 0:
        if match := pattern.match(text, at):
            yield match
            end = match.end()
        else:
            found = run.match(text, at)
            end = found.end() if found else at + 1
        at = text.find(beginning, end)


@cache
def _detectors() -> tuple[Any, ...]:
    try:
        return tuple(
            getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in _DETECTORS.items()
        )
    except ImportError as error:
        raise InvalidArgument(
            "redact", "requires detect-secrets, which is not installed", "Install it: pip install 'ctxmem-mcp[redact]'."
        ) from error
