"""The names of principals and spaces, as users write them."""

from __future__ import annotations

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.team.records import OAUTH_KIND, RIGHT_WORDS, TOKEN_KIND, Right

_PRINCIPAL = lazy_regex(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SPACE = lazy_regex(r"[a-z0-9][a-z0-9._-]{0,63}")


def check_principal(name: str, source: str) -> str:
    """Returns the name of a principal. Raises InvalidArgument, which names the source, if it is none."""
    if not _PRINCIPAL.fullmatch(name):
        rule = "the name must be 1 to 64 letters, digits and . _ @ -, and start with a letter or digit"
        raise InvalidArgument(source, rule, "For example: alice.")
    return name


def check_space(name: str, source: str) -> str:
    """Returns the name of a space, which is a part of URLs. Raises InvalidArgument if it is none."""
    if not _SPACE.fullmatch(name):
        rule = "must be 1 to 64 lower-case letters, digits and . _ -, starting with a letter or digit"
        raise InvalidArgument(source, rule, "For example: web-shop.")
    return name


def principal_key(name: str, source: str) -> str:
    """Returns the key of a principal: `token:NAME` for a name. `token:NAME` and `oauth:ISSUER SUBJECT` are keys.

    Raises:
        InvalidArgument: it is neither.
    """
    if name.startswith(OAUTH_KIND):
        if " " not in name:
            raise InvalidArgument(source, "must be oauth:ISSUER SUBJECT", "Separate both by a space.")
        return name
    return TOKEN_KIND + check_principal(name.removeprefix(TOKEN_KIND), source)


def principal_name(key: str) -> str:
    """Returns a principal's key as users write it."""
    return key.removeprefix(TOKEN_KIND)


def parse_right(word: object, source: str) -> Right:
    """Returns the right that a word names. Raises InvalidArgument if it names none."""
    if word not in RIGHT_WORDS:
        raise InvalidArgument(source, f"must be one of {', '.join(RIGHT_WORDS)}", "Each includes those before it.")
    return Right[str(word).upper()]
