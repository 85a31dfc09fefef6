"""The kinds of values that settings have: which values are accepted, and how they are parsed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from ctxmem_mcp.text.tokenizer import ENCODINGS

PRICE_MAX = 1_000_000


class BrokenRule(ValueError):
    """A value is of the right kind, but breaks another rule."""

    def __init__(self, rule: str, remedy: str) -> None:
        super().__init__(rule)
        self.rule, self.remedy = rule, remedy


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value.

    accepts: completes "must be ...".
    parse: returns the value, or raises ValueError if it is not of this kind.
    choices: the accepted words, if there are only a few.
    secret: never quoted in an error, which may go to a log.
    """

    accepts: str
    parse: Callable[[object], object]
    choices: tuple[str, ...] = ()
    secret: bool = False


def choice(literal: object) -> Kind:
    choices: tuple[str, ...] = get_args(literal)

    def parse(value: object) -> str:
        word = str(value).strip().lower()
        if word not in choices:
            raise ValueError
        return word

    return Kind(f"one of {', '.join(choices)}", parse, choices)


def integer(low: int, high: int, *, or_zero: bool = False) -> Kind:
    def parse(value: object) -> int:
        if isinstance(value, bool):
            raise ValueError
        number = int(str(value).strip())
        if not low <= number <= high and not (or_zero and number == 0):
            raise ValueError
        return number

    return Kind(f"{'0 or ' if or_zero else ''}a whole number from {low} to {high}", parse)


def _parse_price(value: object) -> float:
    if isinstance(value, bool) or not 0 <= (number := float(str(value).strip())) <= PRICE_MAX:
        raise ValueError
    return number


def _parse_encoding(value: object) -> str:
    """An encoding, or the encoding of a model."""
    word = str(value).strip()
    if word.lower() in ENCODINGS:
        return word.lower()
    from tiktoken.model import encoding_name_for_model

    try:
        found = encoding_name_for_model(word)
    except KeyError:
        raise ValueError from None
    if found not in ENCODINGS:
        raise ValueError
    return found


def _parse_text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _parse_folder(value: object) -> Path:
    path = _absolute(value)
    if path.exists() and not path.is_dir():
        raise BrokenRule(f"is {str(path)!r}, which is a file", "Name a folder; it is created if missing.")
    return path


def _parse_file(value: object) -> Path:
    return _absolute(value.strip() if isinstance(value, str) else value)


def _absolute(value: object) -> Path:
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError
    try:
        return expand_home(Path(value)).absolute()
    except FileNotFoundError as error:
        raise BrokenRule(
            f"is {str(value)!r}, but the current folder no longer exists",
            "Give an absolute path, or change the folder.",
        ) from error


def expand_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise BrokenRule(
            f"is {str(path)!r}, but that home folder is not known", "Give the path without the ~."
        ) from error


def _parse_url(value: object) -> str:
    from urllib.parse import urlsplit

    text = _parse_text(value).rstrip("/")
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError
    return text


def _parse_store_url(value: object) -> str:
    text = _parse_secret(value)
    if not text.startswith(("postgresql://", "postgres://")):
        raise ValueError
    return text


def _parse_scopes(value: object) -> str:
    """Scopes as RFC 6749 spells them, because they are sent in a header."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text or not all("!" <= char <= "~" and char not in '"\\' for char in text.replace(" ", "")):
        raise ValueError
    return text


def _parse_secret(value: object) -> str:
    if not isinstance(value, str) or not value.strip().isascii() or not value.strip().isprintable():
        raise ValueError
    return value.strip()


FOLDER = Kind("the path of a folder", _parse_folder)
FILE = Kind("the path of a file", _parse_file)
TEXT = Kind("text", _parse_text)
URL = Kind("a URL such as http://localhost:11434/v1", _parse_url)
SECRET = Kind("printable ASCII on one line", _parse_secret, secret=True)
STORE_URL = Kind("a URL such as postgresql://USER:PASSWORD@HOST:5432/DATABASE", _parse_store_url, secret=True)
SCOPES = Kind("OAuth scopes separated by spaces", _parse_scopes)
ENCODING = Kind(f"{', '.join(ENCODINGS)} or a model that uses one of them", _parse_encoding)
PRICE = Kind(f"a number from 0 to {PRICE_MAX}", _parse_price)
