"""The values of a team store."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from enum import IntEnum

# The kinds of principals: those with a token of the team store or a token file, and those of OAuth.
TOKEN_KIND = "token:"
OAUTH_KIND = "oauth:"


class Right(IntEnum):
    """A right of a principal in a memory; each includes those before it.

    READ: see everything. CONTINUE: append, go back, write summaries. MANAGE: forget, change retention, share.
    """

    READ = 1
    CONTINUE = 2
    MANAGE = 3

    @property
    def word(self) -> str:
        """The right as users write it."""
        return self.name.lower()


RIGHT_WORDS = tuple(right.word for right in Right)


@dataclass(frozen=True, slots=True)
class Token:
    """A token. Only its hash is stored.

    Attributes:
        digest: its SHA-256.
        added: seconds since 1970.
        expires: seconds since 1970; None: never.
    """

    digest: bytes
    added: float
    expires: float | None


@dataclass(frozen=True, slots=True)
class PrincipalInfo:
    """A principal with its tokens. removed: when it was removed, in seconds since 1970; None if it was not."""

    name: str
    added: float
    removed: float | None
    tokens: tuple[Token, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """A shared space. A space that is made again under the name of a removed one has another id.

    Attributes:
        name: as users write it.
        id: random; names the space's memory.
        added: seconds since 1970.
    """

    name: str
    id: str
    added: float

    @property
    def tenant(self) -> str:
        """The key of the space's memory, beside those of principals."""
        return f"space:{self.id}"


@dataclass(frozen=True, slots=True)
class AuditLine:
    """Who did what, and when. It has ids and no words.

    Attributes:
        at: seconds since 1970.
        principal: who did it; LOCAL for a command on the server's machine.
        action: such as `read`, `forget` or `share`.
        space: the name of the shared space; None: the principal's own memory.
        conversation: its id; None if the action is about no single one.
        target: the principal or the right that it was about.
        outcome: `done` or `denied`.
    """

    at: float
    principal: str
    action: str
    space: str | None = None
    conversation: str | None = None
    target: str | None = None
    outcome: str = "done"


LOCAL = "local"
DENIED = "denied"


def make_token() -> str:
    """Returns a new random token."""
    return f"ctxmem_{secrets.token_urlsafe(32)}"


def token_digest(token: str) -> bytes:
    """Returns a token's SHA-256. Tokens are long and random, so a fast hash is enough: there is nothing to guess."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
