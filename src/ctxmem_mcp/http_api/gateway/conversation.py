"""A request's conversation in no program's shape: messages as turns, with what a cut needs to know of them. Pure."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.http_api.gateway.cut_point import Block
from ctxmem_mcp.lru import LRU
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.transcripts.base import RECALL_END, RECALL_START, ParseLog, compact_json

# What a message costs beside its words; what a picture or a file costs, whatever its bytes.
MESSAGE_TOKENS, MEDIA_TOKENS = 4, 1_600
MEDIA = ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url")
_COUNTS_KEPT = 50_000
# What changes in a system prompt from one request to the next though it is the same prompt.
_VOLATILE = re.compile(
    r"\d+|\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun|january|february|march|april|may|june|july"
    r"|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|am|pm)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Message:
    """turns: what is kept of it; block: what a cut needs to know."""

    turns: tuple[NewTurn, ...]
    block: Block


@dataclass(frozen=True, slots=True)
class Said:
    """lead: the system prompt before everything, which is kept and always sent as it came."""

    lead: tuple[NewTurn, ...]
    lead_tokens: int
    messages: tuple[Message, ...]

    @property
    def blocks(self) -> list[Block]:
        return [message.block for message in self.messages]

    @property
    def tokens(self) -> int:
        return self.lead_tokens + sum(message.block.tokens for message in self.messages)

    def lane(self) -> bytes:
        """Tells conversations apart before they are looked for: the system prompt without what changes in it by
        itself, and all up to the first request."""
        digest = hashlib.blake2b(digest_size=16)
        for turn in self.lead:
            digest.update(_VOLATILE.sub("", turn.content).encode("utf-8", "surrogatepass") + b"\0")
        for message in self.messages:
            for turn in message.turns:
                digest.update(f"{turn.role}\0{turn.content}\0".encode("utf-8", "surrogatepass"))
            if message.block.asks:
                break
        return digest.digest()

    def words(self, index: int) -> str:
        """What was asked in a message."""
        return "\n".join(turn.content for turn in self.messages[index].turns if turn.role == "user")


class Sizes:
    """Counts texts, each once: a client sends its whole history with every request."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._known: LRU[bytes, int] = LRU(_COUNTS_KEPT)

    def __call__(self, text: str) -> int:
        if len(text) < 64:
            return tokenizer.count(text, self._encoding)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = tokenizer.count(text, self._encoding)
        return found

    def of(self, turns: Iterable[NewTurn], content: object = None) -> int:
        """The tokens of a message with this (unmarked) content."""
        media = frozenset(_media(content))
        return MESSAGE_TOKENS + sum(MEDIA_TOKENS if turn.content in media else self(turn.content) for turn in turns)


def _media(content: object) -> Iterable[str]:
    """The pictures and files in it, as the turns say them."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            if part.get("type") in MEDIA:
                yield compact_json(part)
            yield from _media(part.get("content"))


def mended(turns: Iterable[NewTurn]) -> tuple[NewTurn, ...]:
    """Half a surrogate pair is no text that can be kept: U+FFFD stands for it. Upstream goes what came."""
    return ParseLog().sanitize((0, turn) for turn in turns)


def unmarked(content: Any) -> Any:
    """The content without the marks that a client puts on it for the upstream's cache: they move."""
    if isinstance(content, list):
        return [unmarked(part) for part in content]
    if isinstance(content, dict) and ("cache_control" in content or isinstance(content.get("content"), list)):
        left = {name: value for name, value in content.items() if name != "cache_control"}
        return left | {"content": unmarked(left["content"])} if "content" in left else left
    return content


def quoted(view: str) -> str:
    """The view between marks of ours, so that nobody takes it for what the user said."""
    return f"{RECALL_START}\n{view.rstrip()}\n{RECALL_END}"


def turns_of(said: Said, lead: Sequence[NewTurn]) -> list[NewTurn]:
    """All turns of the conversation, after this system prompt."""
    return [*lead, *(turn for message in said.messages for turn in message.turns)]
