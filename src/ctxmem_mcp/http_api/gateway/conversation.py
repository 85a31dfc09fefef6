"""A request's conversation, independent of the provider: its messages as turns, with their facts for the cut. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ctxmem_mcp.http_api.gateway.cut_point import MessageFacts
from ctxmem_mcp.models import NewTurn
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.host_text import RECALL_END, RECALL_START
from ctxmem_mcp.transcripts.base import ParseLog, compact_json

# The cost of a message beside its text; the cost of an image or a file, whatever its size in bytes.
MESSAGE_TOKENS, MEDIA_TOKENS = 4, 1_600
MEDIA = ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url")
_COUNTS_MAX = 50_000
# What differs between two requests with the same system prompt: numbers, and names of days and months.
_VOLATILE = re.compile(
    r"\d+|\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun|january|february|march|april|may|june|july"
    r"|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|am|pm)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Message:
    """A message: the turns to store, and its facts for the cut."""

    turns: tuple[NewTurn, ...]
    facts: MessageFacts


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """The conversation of a request.

    Attributes:
        system: the system prompt before all messages. It is stored, and always sent unchanged.
        system_tokens: its size.
        messages: the other messages.
    """

    system: tuple[NewTurn, ...]
    system_tokens: int
    messages: tuple[Message, ...]

    @property
    def facts(self) -> list[MessageFacts]:
        """The facts of all messages."""
        return [message.facts for message in self.messages]

    @property
    def tokens(self) -> int:
        """The size of the conversation."""
        return self.system_tokens + sum(message.facts.tokens for message in self.messages)

    def fingerprint(self) -> bytes:
        """Returns a hash that distinguishes conversations before they are looked up.

        It covers the system prompt, except its volatile parts, and the messages up to the first prompt.
        """
        digest = hashlib.blake2b(digest_size=16)
        for turn in self.system:
            digest.update(_VOLATILE.sub("", turn.content).encode("utf-8", "surrogatepass") + b"\0")
        for message in self.messages:
            for turn in message.turns:
                digest.update(f"{turn.role}\0{turn.content}\0".encode("utf-8", "surrogatepass"))
            if message.facts.is_prompt:
                break
        return digest.digest()

    def user_text(self, index: int) -> str:
        """Returns the user's text in a message."""
        return "\n".join(turn.content for turn in self.messages[index].turns if turn.role == "user")

    def all_turns(self, system: Sequence[NewTurn]) -> list[NewTurn]:
        """Returns all turns of the conversation, with this system prompt."""
        return [*system, *(turn for message in self.messages for turn in message.turns)]


class TokenCounter:
    """Counts tokens and caches the counts: a client sends its whole history with every request."""

    def __init__(self, encoding: str) -> None:
        self._encoding = encoding
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    def count(self, text: str) -> int:
        """Returns the tokens of a text."""
        if len(text) < 64:
            return tokenizer.count(text, self._encoding)
        key = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
        found = self._counts.get(key)
        if found is None:
            found = self._counts[key] = tokenizer.count(text, self._encoding)
            while len(self._counts) > _COUNTS_MAX:
                self._counts.popitem(last=False)
        else:
            self._counts.move_to_end(key)
        return found

    def count_message(self, turns: Iterable[NewTurn], content: object = None) -> int:
        """Returns the tokens of a message.

        Args:
            turns: its turns.
            content: its content without cache marks, which tells media from text.
        """
        media = frozenset(_media(content))
        sizes = (MEDIA_TOKENS if turn.content in media else self.count(turn.content) for turn in turns)
        return MESSAGE_TOKENS + sum(sizes)


def _media(content: object) -> Iterable[str]:
    """Yields the images and files in a content, as turns represent them."""
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict):
            if part.get("type") in MEDIA:
                yield compact_json(part)
            yield from _media(part.get("content"))


def sanitise(turns: Iterable[NewTurn]) -> tuple[NewTurn, ...]:
    """Replaces lone surrogates, which can't be stored, by U+FFFD. The upstream receives them unchanged."""
    return ParseLog().sanitize((0, turn) for turn in turns)


def without_cache_marks(content: Any) -> Any:
    """Returns a content without `cache_control`, which clients move from message to message."""
    if isinstance(content, list):
        return [without_cache_marks(part) for part in content]
    if isinstance(content, dict) and ("cache_control" in content or isinstance(content.get("content"), list)):
        left = {name: value for name, value in content.items() if name != "cache_control"}
        return left | {"content": without_cache_marks(left["content"])} if "content" in left else left
    return content


def mark_as_recalled(view: str) -> str:
    """Encloses a view in markers, so that it is not mistaken for the user's words."""
    return f"{RECALL_START}\n{view.rstrip()}\n{RECALL_END}"
