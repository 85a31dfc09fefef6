"""Static bearer tokens: who may ask, kept as hashes only.

A file of tokens has a line for each principal, its name and the SHA-256 of its token:

    # made by: ctxmem-mcp token alice
    alice sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08

Tokens are random and long, so a fast hash keeps them: there is nothing to guess. The environment may name tokens
themselves (`alice:TOKEN,bob:TOKEN`), as secrets are handed to containers; they are hashed when read.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from ctxmem_mcp.errors import InvalidArgument

TOKEN_CHARS_MIN = 20
PREFIX = "sha256:"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")


class Tokens:
    """The tokens there are: pairs of a principal's name and its token's hash. One may have several."""

    def __init__(self, known: Iterable[tuple[str, bytes]]) -> None:
        self._known = tuple(known)

    def __bool__(self) -> bool:
        return bool(self._known)

    def name_of(self, token: str) -> str | None:
        """Whose token it is. Takes the same time wherever it differs and whoever's it is."""
        digest = _digest(token)
        found = None
        for name, known in self._known:
            if hmac.compare_digest(known, digest):
                found = name
        return found


def read_tokens(listed: str | None, path: Path | None) -> Tokens:
    """The tokens of the environment's list and of the file. Raises InvalidArgument that never says a token back."""
    known = [_listed(entry.strip()) for entry in (listed or "").split(",") if entry.strip()]
    if path is not None:
        known += _in_file(path)
        if not known:
            raise InvalidArgument(f"CTXMEM_TOKENS_FILE {path}", "holds no token", "Make one: ctxmem-mcp token NAME")
    return Tokens(known)


def new_token(name: str) -> tuple[str, str]:
    """A token for this principal, and the line that goes into the file."""
    token = f"ctxmem_{secrets.token_urlsafe(32)}"
    return token, f"{_checked_name(name, 'name')} {PREFIX}{_digest(token).hex()}"


def _listed(entry: str) -> tuple[str, bytes]:
    name, colon, token = entry.partition(":")
    if not colon:
        raise InvalidArgument("CTXMEM_TOKENS", "takes NAME:TOKEN, several with a comma between", "Name each token.")
    name, token = _checked_name(name.strip(), "CTXMEM_TOKENS"), token.strip()
    if token.startswith(PREFIX):
        return name, _hash(token, "CTXMEM_TOKENS")
    if len(token) < TOKEN_CHARS_MIN or not token.isascii():
        rule = f"{name}'s token is too easy to guess; takes {TOKEN_CHARS_MIN} characters of ASCII or more"
        raise InvalidArgument("CTXMEM_TOKENS", rule, "Make one: ctxmem-mcp token NAME")
    return name, _digest(token)


def _in_file(path: Path) -> list[tuple[str, bytes]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not UTF-8"
        raise InvalidArgument(f"CTXMEM_TOKENS_FILE {path}", f"can't be read: {why}", "Correct the path.") from None
    known = []
    for number, line in enumerate(lines, 1):
        words = line.split("#")[0].split()
        if words:
            where = f"CTXMEM_TOKENS_FILE {path}, line {number}"
            if len(words) != 2:
                raise InvalidArgument(where, f"takes NAME {PREFIX}HASH", "Make one: ctxmem-mcp token NAME")
            known.append((_checked_name(words[0], where), _hash(words[1], where)))
    return known


def _hash(word: str, where: str) -> bytes:
    digits = word.removeprefix(PREFIX)
    if not word.startswith(PREFIX) or not _HASH.fullmatch(digits):
        rule = f"takes {PREFIX} and 64 hexadecimal digits; a token itself is not kept in a file"
        raise InvalidArgument(where, rule, "Make one: ctxmem-mcp token NAME")
    return bytes.fromhex(digits)


def _checked_name(name: str, where: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(where, "takes a name of letters, digits and . _ @ -, up to 64", "For example alice.")
    return name


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
