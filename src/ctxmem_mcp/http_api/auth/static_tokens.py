"""Static bearer tokens, stored as hashes only.

A token file has one line per token: the principal's name and the token's SHA-256:

    # created with: ctxmem-mcp token alice
    alice sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

Tokens are long and random, so a fast hash is enough: there is nothing to guess. CTXMEM_TOKENS may hold the tokens
themselves (`alice:TOKEN,bob:TOKEN`), as containers receive secrets; they are hashed when they are read.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from pathlib import Path

from ctxmem_mcp.errors import InvalidArgument
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.team.names import check_principal
from ctxmem_mcp.team.records import make_token, token_digest

TOKEN_CHARS_MIN = 20
PREFIX = "sha256:"
_HASH = lazy_regex(r"[0-9a-f]{64}")
_CREATE_ONE = "Create one with: ctxmem-mcp token NAME"


class Tokens:
    """The accepted tokens, as pairs of a principal's name and a token's hash. A principal may have several tokens."""

    def __init__(self, known: Iterable[tuple[str, bytes]]) -> None:
        self._known = tuple(known)

    def __bool__(self) -> bool:
        return bool(self._known)

    def name_of(self, token: str) -> str | None:
        """Returns the name of the token's principal, or None for an unknown token. Runs in constant time."""
        digest = token_digest(token)
        found = None
        for name, known in self._known:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read_tokens(listed: str | None, path: Path | None) -> Tokens:
    """Returns the tokens of CTXMEM_TOKENS and of the token file.

    Args:
        listed: NAME:TOKEN pairs separated by commas.
        path: the token file.

    Raises:
        InvalidArgument: an entry is invalid or the file can't be read. The message never contains a token.
    """
    known = [_parse_entry(entry.strip()) for entry in (listed or "").split(",") if entry.strip()]
    if path is not None:
        known += _read_file(path)
        if not known:
            raise InvalidArgument(f"CTXMEM_TOKENS_FILE {path}", "has no token", _CREATE_ONE)
    return Tokens(known)


def new_token(name: str) -> tuple[str, str]:
    """Returns a new token for a principal, and its line for the token file. Raises InvalidArgument for a bad name."""
    token = make_token()
    return token, f"{check_principal(name, 'name')} {PREFIX}{token_digest(token).hex()}"


def _parse_entry(entry: str) -> tuple[str, bytes]:
    name, colon, token = entry.partition(":")
    if not colon:
        rule = "must be NAME:TOKEN, or several of them separated by commas"
        raise InvalidArgument("CTXMEM_TOKENS", rule, "Put a name before each token.")
    name, token = check_principal(name.strip(), "CTXMEM_TOKENS"), token.strip()
    if token.startswith(PREFIX):
        return name, _parse_hash(token, "CTXMEM_TOKENS")
    if len(token) < TOKEN_CHARS_MIN or not token.isascii():
        rule = f"the token of {name} is too easy to guess; it needs at least {TOKEN_CHARS_MIN} ASCII characters"
        raise InvalidArgument("CTXMEM_TOKENS", rule, _CREATE_ONE)
    return name, token_digest(token)


def _read_file(path: Path) -> list[tuple[str, bytes]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidArgument(f"CTXMEM_TOKENS_FILE {path}", f"can't be read: {reason}", "Correct the path.") from None
    known = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if words:
            source = f"CTXMEM_TOKENS_FILE {path}, line {number}"
            if len(words) != 2:
                raise InvalidArgument(source, f"must be NAME {PREFIX}HASH", _CREATE_ONE)
            known.append((check_principal(words[0], source), _parse_hash(words[1], source)))
    return known


def _parse_hash(word: str, source: str) -> bytes:
    digits = word.removeprefix(PREFIX)
    if not word.startswith(PREFIX) or not _HASH.fullmatch(digits):
        rule = f"needs {PREFIX} and 64 hexadecimal digits, not the token itself"
        raise InvalidArgument(source, rule, _CREATE_ONE)
    return bytes.fromhex(digits)
