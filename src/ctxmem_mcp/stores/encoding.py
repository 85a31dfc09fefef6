"""How values are written by every store that has a disk or a server: summaries, terms, roles, lists of numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from ctxmem_mcp.errors import BrokenHistory
from ctxmem_mcp.models import ROLES, Highlight, Role, Summary

# The fields of a state that are columns of their own.
STATE_COLUMNS = (
    "version", "head", "next_seq", "next_piece", "turns", "tokens", "words", "nodes", "title", "space", "salt",
    "encoding", "retention_days", "created", "updated", "expires", "frontier",
)  # fmt: skip

# Chunks are indexed this many at a time: each insertion into the index writes several pages, and few more per chunk.
WAITING_MAX = 32

# Codecs of bodies: uncompressed; Zstandard without a dictionary; from 2 on, Zstandard with dictionary number codec - 1.
RAW, ZSTD = 0, 1
# Shorter texts gain nothing without a dictionary.
COMPRESSED_BYTES_MIN = 64

ROLE_NUMBER = {role: number for number, role in enumerate(ROLES)}

# ASCII characters that FTS5's tokenizer keeps in a token unchanged; it also keeps everything that is not ASCII.
_KEPT_BY_TOKENIZER = "abcdefghijklmnopqrstuvwxyz0123456789=@._-/"
# All other ASCII characters are replaced by letters of the private use area.
_ESCAPES = {code: 0xE000 + code for code in range(128) if chr(code) not in _KEPT_BY_TOKENIZER}
_EMPTY_TERM = chr(0xE080)
_DECODER = json.JSONDecoder()
# Deleting the usual bytes and looking for a rest is many times faster than a regular expression.
_UNESCAPED_BYTES = f"{_KEPT_BY_TOKENIZER} ".encode() + bytes(range(0x80, 0x100))


def role_of(number: int, name: str) -> Role:
    """Returns a role by its number. name: what has it, for the error's message.

    Raises:
        BrokenHistory: There is no such role.
    """
    try:
        return ROLES[number]
    except (IndexError, TypeError):
        raise BrokenHistory(f"{name.capitalize()} has no role.") from None


def encode_terms(terms: Sequence[str]) -> str:
    """Joins terms into one text that the index's tokenizer splits into exactly these terms."""
    joined = " ".join(terms)
    to_escape = joined.encode("utf-8", "surrogatepass").translate(None, _UNESCAPED_BYTES)
    if to_escape or joined.count(" ") != max(0, len(terms) - 1) or not all(terms):
        return " ".join(map(encode_term, terms))
    return joined


def encode_term(term: str) -> str:
    """Returns the term as an index stores it: characters that would end a token, or be changed in it, are escaped."""
    return term.translate(_ESCAPES) if term else _EMPTY_TERM


def is_word(token: str) -> bool:
    """Returns whether an encoded term consists of letters only. An escape contains a digit; letters have none."""
    return token.isalpha() and encode_term(token) == token


def serialize_summary(summary: Summary) -> str:
    """Returns a summary without its author, as JSON: title, highlights, identifiers, open_for."""
    highlights = [[h.kind, h.index, h.role, h.text] for h in summary.highlights]
    return json.dumps(
        [summary.title, highlights, list(summary.identifiers), summary.open_for],
        ensure_ascii=False,
        separators=(",", ":"),
    )


def parse_summary(author: str, text: str) -> Summary:
    """Raises BrokenHistory if the text is not what serialize_summary wrote."""
    try:
        title, highlights, identifiers, open_for = json.loads(text)
        summary = Summary(author, title, tuple(Highlight(*h) for h in highlights), tuple(identifiers), open_for)
    except (ValueError, TypeError, RecursionError) as error:
        raise BrokenHistory(f"A summary has the wrong shape ({type(error).__name__}).") from error
    strings = [
        title,
        open_for,
        *summary.identifiers,
        *(t for h in summary.highlights for t in (h.kind, h.role, h.text)),
    ]
    if not all(isinstance(s, str) for s in strings) or not all(type(h.index) is int for h in summary.highlights):
        raise BrokenHistory("A summary has the wrong shape.")
    return summary


def parse_title(text: str) -> str:
    """Returns the title of a summary, its first field, without parsing the rest of it: a view shows many titles.

    Raises:
        BrokenHistory: The text does not begin as what serialize_summary wrote.
    """
    try:
        title = _DECODER.raw_decode(text, 1)[0]
    except ValueError as error:
        raise BrokenHistory("A summary's title has the wrong shape.") from error
    if not isinstance(title, str):
        raise BrokenHistory("A summary has no title.")
    return title


class NodeSummaries:
    """The summaries of one node as (place, author, text), parsed on first use."""

    __slots__ = ("_parsed", "_rows")

    def __init__(self) -> None:
        self._rows: list[tuple[int, str, str]] = []
        self._parsed: list[Summary] | None = None

    def add(self, place: int, author: str, text: str) -> None:
        self._rows.append((place, author, text))

    def only_title(self) -> str | None:
        """Returns the title of the node's only summary; None if there are several."""
        return parse_title(self._rows[0][2]) if len(self._rows) == 1 else None

    def parse(self) -> list[Summary]:
        if self._parsed is None:
            self._parsed = [parse_summary(author, text) for _, author, text in sorted(self._rows)]
        return self._parsed


class LazySummaries(Mapping[bytes, list[Summary]]):
    """Summaries by node, parsed when they are looked up: an outline shows few of the hundreds that it could."""

    def __init__(self, by_node: Mapping[bytes, NodeSummaries]) -> None:
        self._by_node = by_node

    def __getitem__(self, digest: bytes) -> list[Summary]:
        return self._by_node[digest].parse()

    def only_title(self, digest: bytes) -> str | None:
        """Returns the title of a node's only summary; None if there are several, or none."""
        return found.only_title() if (found := self._by_node.get(digest)) else None

    def __contains__(self, digest: object) -> bool:
        return digest in self._by_node

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._by_node)

    def __len__(self) -> int:
        return len(self._by_node)
