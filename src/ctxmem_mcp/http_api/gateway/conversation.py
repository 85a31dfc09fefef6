"""A request's conversation, independent of the provider: its messages as turns, with their facts for the cut. Pure."""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any

from ctxmem_mcp.http_api.gateway.cut_point import MessageFacts
from ctxmem_mcp.http_api.gateway.prefix import GroupCache, PrefixCache
from ctxmem_mcp.models import INJECTED, RECAP, NewTurn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text import tokenizer
from ctxmem_mcp.text.host_text import (
    RECALL_END,
    RECALL_START,
    instructions_text,
    is_host_text,
    split_host_text,
    user_text,
)
from ctxmem_mcp.transcripts.base import ParseLog, compact_json

# The cost of a message beside its text; the cost of an image or a file, whatever its size in bytes.
MESSAGE_TOKENS, MEDIA_TOKENS = 4, 1_600
MEDIA = ("image", "image_url", "input_image", "input_audio", "audio", "file", "input_file", "document", "video_url")
# Gemini's parts have no type, but one of these fields.
MEDIA_FIELDS = ("inlineData", "inline_data", "fileData", "file_data")
_MEDIA_JSON = lazy_regex(rf'"type":"(?:{"|".join(MEDIA)})"|^\{{"(?:{"|".join(MEDIA_FIELDS)})":')
_COUNTS_MAX = 50_000
# Precedes a prompt of the user that follows the view.
LATER_PROMPT = "[ctxmem-mcp: a later request of the user]"
# What differs between two requests with the same system prompt: numbers, and names of days and months.
_VOLATILE = lazy_regex(
    r"\d+|\b(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day|mon|tue|wed|thu|fri|sat|sun|january|february|march|april|may|june|july"
    r"|august|september|october|november|december|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|am|pm)\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=64)
def _without_volatile(text: str) -> bytes:
    return _VOLATILE.sub("", text).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True)
class Message:
    """A message.

    Attributes:
        turns: the turns to store.
        facts: its facts for the cut.
        prompt: the user's own text in it.
        instructions: the project's instructions in it.
        media: its images and files, as the API has them.
    """

    turns: tuple[NewTurn, ...]
    facts: MessageFacts
    prompt: str = ""
    instructions: str = ""
    media: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Added:
    """What was added to a head when its cut moved.

    Attributes:
        view: the view of the messages since the part before.
        prompts: the pinned prompts among them.
        media: their images and files.
    """

    view: str
    prompts: tuple[str, ...] = ()
    media: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """What a compacted request has in place of the messages before its cut.

    Attributes:
        opening: the project's instructions and the task.
        media: the images and files of the pinned prompts.
        view: the view of the history.
        prompts: the later prompts.
        added: what was added since the view was drawn.
    """

    opening: tuple[str, ...]
    media: tuple[dict[str, Any], ...]
    view: str
    prompts: tuple[str, ...] = ()
    added: tuple[Added, ...] = ()

    def parts(self) -> list[str | dict[str, Any]]:
        """Returns all texts, images and files in the order in which they are sent. What is added is at the end."""
        found: list[str | dict[str, Any]] = [*self.media, *self.opening]
        for part in (Added(self.view, self.prompts), *self.added):
            found += [mark_as_recalled(part.view), *(f"{LATER_PROMPT}\n{prompt}" for prompt in part.prompts)]
            found += part.media
        return found

    def blocks(self, as_text: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the parts as an API has them. as_text: returns the API's form of a text."""
        return [as_text(part) if isinstance(part, str) else part for part in self.parts()]


@dataclass(frozen=True)
class ParsedRequest:
    """The conversation of a request. What is computed of all messages is computed once: there may be thousands.

    Attributes:
        system: the system prompt before all messages. It is stored, and always sent unchanged.
        system_tokens: its size.
        messages: the other messages.
    """

    system: tuple[NewTurn, ...]
    system_tokens: int
    messages: tuple[Message, ...]

    @cached_property
    def facts(self) -> list[MessageFacts]:
        """The facts of all messages."""
        return list(map(attrgetter("facts"), self.messages))

    @cached_property
    def tokens(self) -> int:
        """The size of the conversation."""
        messages: int = sum(map(attrgetter("tokens"), self.facts))
        return self.system_tokens + messages

    @cached_property
    def _turns(self) -> tuple[NewTurn, ...]:
        """The turns of all messages."""
        return tuple(chain.from_iterable(map(attrgetter("turns"), self.messages)))

    @cached_property
    def _first_turns(self) -> list[int]:
        """How many turns are before each message, and before the end."""
        return list(accumulate(map(len, map(attrgetter("turns"), self.messages)), initial=0))

    def fingerprint(self) -> bytes:
        """Returns a hash that distinguishes conversations before they are looked up.

        It covers the system prompt, except its volatile parts, and the messages up to the first prompt.
        """
        digest = hashlib.blake2b(digest_size=16)
        for turn in self.system:
            digest.update(_without_volatile(turn.content) + b"\0")
        for message in self.messages:
            for turn in message.turns:
                digest.update(f"{turn.role}\0{turn.content}\0".encode("utf-8", "surrogatepass"))
            if message.facts.is_prompt:
                break
        return digest.digest()

    def all_turns(self, system: Sequence[NewTurn]) -> list[NewTurn]:
        """Returns all turns of the conversation, with this system prompt."""
        return [*system, *self._turns]

    def turns_from(self, message: int) -> int:
        """Returns the number of turns of the messages from one on."""
        return len(self._turns) - self._first_turns[min(message, len(self.messages))]


class TokenCounter:
    """Counts tokens and caches the counts: a client sends its whole history with every request.

    Attributes:
        messages: the messages of earlier requests, by the objects that they were parsed from.
        groups: the same for APIs whose messages are groups of items.
    """

    def __init__(self, encoding: str) -> None:
        self.messages: PrefixCache[Message] = PrefixCache()
        self.groups: GroupCache[Message] = GroupCache()
        self._encoding = encoding
        self._counts: OrderedDict[bytes, int] = OrderedDict()

    def for_one_request(self) -> TokenCounter:
        """Returns a counter with the same cache of counts, which remembers no messages."""
        counter = TokenCounter(self._encoding)
        counter._counts = self._counts
        return counter

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
            if _is_media_part(part):
                yield compact_json(part)
            yield from _media(part.get("content"))


def is_media(content: str) -> bool:
    """Returns whether a turn's content is an image or a file, as turns represent them."""
    return content.startswith('{"') and _MEDIA_JSON.search(content, 0, 4_000) is not None


def media_of(content: object) -> tuple[dict[str, Any], ...]:
    """Returns the images and files in a message's content, without those in tool results."""
    parts = content if isinstance(content, list) else ()
    return tuple(part for part in parts if isinstance(part, dict) and _is_media_part(part))


def _is_media_part(part: dict[str, Any]) -> bool:
    return part.get("type") in MEDIA or any(name in part for name in MEDIA_FIELDS)


def parse_message(
    role: str, turns: tuple[NewTurn, ...], content: object, facts: MessageFacts, tokens: TokenCounter
) -> Message:
    """Returns a message with what the user and the project say in it.

    Args:
        role: the message's role.
        turns: its turns.
        content: its content without cache marks.
        facts: its facts, without those of its texts.
        tokens: counts tokens.
    """
    if role != "user":
        return Message(turns, facts)
    media = media_of(content)
    as_json = frozenset(map(compact_json, media))
    texts = [turn.content for turn in turns if turn.role in ("user", "system") and turn.content not in as_json]
    prompt = "\n".join(filter(None, map(user_text, texts)))
    instructions = "\n".join(filter(None, map(instructions_text, texts)))
    own = replace(
        facts,
        is_prompt=bool(prompt or media),
        prompt_tokens=(tokens.count(prompt) if prompt else 0) + MEDIA_TOKENS * len(media),
        instructions_tokens=tokens.count(instructions) if instructions else 0,
    )
    return Message(turns, own, prompt, instructions, media)


def attribute_host_text(turns: Iterable[NewTurn]) -> Iterable[NewTurn]:
    """Yields the turns, each that is only the host's text as a system turn, as parsers of transcripts do."""
    for turn in turns:
        if turn.role == "user" and is_host_text(turn.content):
            kinds = {span.kind for span in split_host_text(turn.content)}
            yield replace(turn, role="system", name=RECAP if "recap" in kinds else INJECTED)
        else:
            yield turn


def sanitise(turns: Iterable[NewTurn]) -> tuple[NewTurn, ...]:
    """Returns turns as they are stored. The upstream receives the client's text unchanged.

    Lone surrogates, which can't be stored, become U+FFFD. The host's text in the user's place becomes a system turn.
    """
    return ParseLog().sanitize((0, turn) for turn in attribute_host_text(turns))


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


def join_user_messages(messages: Sequence[Any]) -> list[Any]:
    """Returns messages with neighbours of the user joined: templates of some models reject them."""
    joined: list[Any] = []
    for message in messages:
        if joined and is_user(joined[-1]) and is_user(message):
            joined[-1] = {**message, "content": _joined_content(joined[-1]["content"], message.get("content"))}
        else:
            joined.append(message)
    return joined


def is_user(message: Any) -> bool:
    """Returns whether a message is the user's."""
    return isinstance(message, dict) and message.get("role") == "user"


def _joined_content(first: Any, second: Any) -> Any:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_as_parts(first), *_as_parts(second)]


def _as_parts(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []
