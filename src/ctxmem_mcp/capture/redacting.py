"""Takes secrets out of words before anything of them touches the disk. Off unless asked for: it is not lossless.

Detectors of detect-secrets that know a secret by its form are used, and two of our own; those that guess by entropy or
by a name beside it are not, for code is full of what they take for secrets. A secret becomes a placeholder that says
of what type it was: the same secret always the same one, so that what is told again is known again.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from typing import Any

from ctxmem_mcp.errors import InvalidArgument

_log = logging.getLogger(__name__)

OPENING = "[redacted: "
_DETECTORS = {
    "artifactory": "ArtifactoryDetector", "aws": "AWSKeyDetector", "azure_storage_key": "AzureStorageKeyDetector",
    "basic_auth": "BasicAuthDetector", "discord": "DiscordBotTokenDetector", "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector", "jwt": "JwtTokenDetector", "mailchimp": "MailchimpDetector",
    "npm": "NpmDetector", "openai": "OpenAIDetector", "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector", "slack": "SlackDetector", "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector", "telegram_token": "TelegramBotTokenDetector", "twilio": "TwilioKeyDetector",
}  # fmt: skip
# A key's lines as they stand, and as a line of JSON has them. Its first line alone says nothing that is secret.
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----", re.DOTALL)
_ANTHROPIC_KEY = re.compile(r"\bsk-ant-[A-Za-z0-9_-]{20,}")
_OWN = (("Private Key", _PRIVATE_KEY), ("Anthropic Key", _ANTHROPIC_KEY))
# Shorter groups are parts of a secret's form.
_CHARS_MIN = 8

Redact = Callable[[str], str]


def redact(text: str) -> str:
    """The text with a placeholder for each secret."""
    found = sorted(set(_found(text)), key=lambda pair: -len(pair[1]))
    for kind, secret in found:
        text = text.replace(secret, f"{OPENING}{kind}]")
    if found:
        told = (f"{count} x {kind}" for kind, count in Counter(kind for kind, _ in found).items())
        _log.info("Secrets were taken out: %s.", ", ".join(told))
    return text


def redaction() -> Redact:
    """The function; raises InvalidArgument where detect-secrets is not installed."""
    _detectors()
    return redact


def _found(text: str) -> Iterator[tuple[str, str]]:
    for kind, pattern in _OWN:
        yield from ((kind, match) for match in pattern.findall(text))
    for detector in _detectors():
        is_one = getattr(detector, "is_formally_valid", lambda _: True)
        for pattern in detector.denylist:
            for match in pattern.finditer(text):
                # Where a pattern knows what stands around a secret, a group of it is the secret.
                groups = [group for group in match.groups() if group and len(group) >= _CHARS_MIN]
                yield from ((detector.secret_type, secret) for secret in groups or [match[0]] if is_one(secret))


@cache
def _detectors() -> tuple[Any, ...]:
    try:
        return tuple(
            getattr(import_module(f"detect_secrets.plugins.{module}"), name)() for module, name in _DETECTORS.items()
        )
    except ImportError as error:
        raise InvalidArgument(
            "redact", "needs detect-secrets, which is not installed", "Install it: pip install 'ctxmem-mcp[redact]'."
        ) from error
