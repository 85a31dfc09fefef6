"""Flags of a chunk: properties of its text that matter to questions, and the terms that state them in the index.

Pure, and fast, because it runs at every append.
"""

from __future__ import annotations

import re
from enum import IntFlag

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text import cues, stemmer


class Flag(IntFlag):
    """Properties of a chunk, detected by cheap heuristics."""

    PROSE = 1  # sentences of a user or an agent: neither output nor code
    QUESTION = 2  # contains a question mark
    NUMBER = 4
    TIME = 8  # a date, a day, a time, how long
    MONEY = 16
    PLACE = 32  # a name after in, at, to, from, near
    NAMES = 64  # capitalised words within sentences
    CODE = 128
    ERROR = 256
    REASON = 512  # because, so that, due to, in order to
    LIKING = 1024  # likes, prefers, wants, hates
    FIRST_PERSON = 2048
    LIST = 4096  # several lines that begin like list items
    CALL = 8192  # a tool call's arguments
    EDIT = 16384  # changes a file
    DECISION = 32768  # decided, agreed, instead, let's
    COMMAND = 65536  # runs a command
    STANDING = 262144  # contains an instruction that holds from then on
    HOST = 131072  # mostly written by the host, in the place of user or system


# The beginning of a chunk that flags are detected in.
_FLAG_CHARS = 1_200
# Splitting bytes into words is many times faster than matching a pattern.
_LETTERS = bytes(c if chr(c) in "abcdefghijklmnopqrstuvwxyz'" else 32 for c in range(256))


def _word_set(words: str) -> frozenset[bytes]:
    return frozenset(words.encode().split())


_TIME_WORDS = _word_set(
    """january february march april june july august september october november december monday tuesday wednesday
    thursday friday saturday sunday today yesterday tomorrow tonight morning afternoon evening weekend week weeks
    month months year years ago day days hour hours minute minutes pm am o'clock recently soon summer winter spring
    autumn fall last next christmas easter thanksgiving birthday anniversary since until deadline"""
)
_ERROR_WORDS = _word_set(
    """error errors fail failed fails failing failure failures exception exceptions traceback panic fatal crash
    crashed crashes undefined cannot broken denied refused timeout invalid unexpected aborted segfault conflict
    warning stacktrace unresolved nameerror typeerror valueerror keyerror"""
)
_REASON_WORDS = _word_set("because since due reason cause caused causes therefore why so")
_LIKING_WORDS = _word_set(
    """like likes liked love loves loved prefer prefers preferred favorite favourite enjoy enjoys enjoyed hate hates
    want wants wanted wish hope interested fan dislike rather"""
)
_FIRST_WORDS = _word_set("i i'm i've i'll i'd my me mine we we're we've our us")
_DECISION_WORDS = _word_set(
    """decided decide decision agreed agree instead let's lets chose choose chosen going plan settled switch
    approach"""
)
_NUMBER_WORDS = _word_set(
    """two three four five six seven eight nine ten eleven twelve dozen twenty thirty forty fifty hundred thousand
    million couple several twice once first second third half"""
)
_DIGIT = lazy_regex(r"\d")
# Shorter ones are not dates.
_FIGURE = lazy_regex(r"\d[\d:/-]{2,}")
_CLOCK = lazy_regex(r"\d{4}-\d\d-\d\d|\d\d?:\d\d|\d\d?/\d\d?(?:/\d\d(?:\d\d)?)?|(?:19|20)\d\d")
_MONEY = lazy_regex(r"[$€£¥]\s?\d")
_MONEY_WORDS = _word_set("dollars euros pounds usd eur bucks")
# Begins with the space, so that the search skips from space to space. The word before it is checked afterwards.
_CAPITAL = lazy_regex(r" (?:the )?[A-Z][a-z]")
_TO_PLACE = lazy_regex(r"\b(?:in|at|to|from|near|visit(?:ed|ing)?)\Z")
_TO_PLACE_CHARS = 8
_NAME = lazy_regex(r"[a-z,] [A-Z][a-z]+")
# Not \s before the mark: from each of many empty lines it would go on to the end of them.
_LIST_ITEM = lazy_regex(r"^[^\S\n]*(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
_CALL = lazy_regex(r"\s*(?:[\w.:-]{1,64}\s?)?\{\s*(?:\"|\})")
_EDIT = lazy_regex(
    r"\s*(?:Edit|MultiEdit|Write|Update|NotebookEdit|apply_patch|str_replace\w*)\b ?[/{\n\w]*[/.{]"
    r"|.{0,200}\"(?:old_str|new_str|file_text|old_string|new_string|patch)|\s*\*\*\* Begin Patch|\s*diff --git"
)
_COMMAND = lazy_regex(
    r"\s*(?:\$ \S|(?:Bash|bash|shell|exec|execute_command|run_in_terminal|run_terminal_cmd|terminal)\b)"
    r"|\s*(?:[\w.-]{1,40}\s?)?\{\s*\"(?:command|cmd|script)\""
)
_PROSE, _QUESTION = int(Flag.PROSE), int(Flag.QUESTION)
_FLAG_WORDS: tuple[tuple[frozenset[bytes], int], ...] = (
    (_TIME_WORDS, int(Flag.TIME)),
    (_ERROR_WORDS, int(Flag.ERROR)),
    (_REASON_WORDS, int(Flag.REASON)),
    (_LIKING_WORDS, int(Flag.LIKING)),
    (_FIRST_WORDS, int(Flag.FIRST_PERSON)),
    (_DECISION_WORDS, int(Flag.DECISION)),
    (_NUMBER_WORDS, int(Flag.NUMBER)),
    (_MONEY_WORDS, int(Flag.MONEY)),
)
# The same for other languages, whose words are in `cues`.
_CUE_FLAGS = (
    ("time", int(Flag.TIME)),
    ("error", int(Flag.ERROR)),
    ("reason", int(Flag.REASON)),
    ("liking", int(Flag.LIKING)),
    ("first_person", int(Flag.FIRST_PERSON)),
    ("decision", int(Flag.DECISION)),
)
_SYMBOLS = b'{}[]()<>=;/\\_|"+*&%$#@^~`'
# Prose is mostly words; symbols of code are rare in it.
_SYMBOL_SHARE_MAX = 0.05
_SYMBOL_SHARE_CODE = 0.04


def is_call(text: str) -> bool:
    """Returns whether a text begins like a tool call: JSON, optionally after a tool name."""
    return _CALL.match(text) is not None


def is_prose(text: str, role: str) -> bool:
    """Returns whether a text is prose of a user or an agent. The output of a tool never is."""
    if role == "tool" or is_call(text) or _COMMAND.match(text) or _EDIT.match(text):
        return False
    return _symbol_share(text) <= _SYMBOL_SHARE_MAX * (2 if role == "user" else 1)


def _symbol_share(text: str) -> float:
    raw = text.encode("ascii", "replace")
    return (len(raw) - len(raw.translate(None, _SYMBOLS))) / max(1, len(raw))


def flags(text: str, role: str, language: str | None = None) -> Flag:
    """Detects the properties of a chunk.

    Args:
        text: The chunk.
        role: The role of its turn.
        language: The language of its turn, if known.
    """
    asks = _QUESTION if "?" in text or "？" in text else 0
    text = text[:_FLAG_CHARS]
    prose = is_prose(text, role)
    found = asks | _word_flags(text)
    if language not in (None, "en"):
        for kind, flag in _CUE_FLAGS:
            found |= flag if cues.states(kind, text, language) else 0
    if _DIGIT.search(text):
        found |= _number_flags(text)
    return Flag(found | (_PROSE | _prose_flags(text) if prose else _output_flags(text, role)))


def _word_flags(text: str) -> int:
    found, words = 0, set(text.lower().encode("ascii", "replace").translate(_LETTERS).split())
    for known, flag in _FLAG_WORDS:
        if not known.isdisjoint(words):
            found |= flag
    return found


def _number_flags(text: str) -> int:
    found = int(Flag.NUMBER)
    if any(map(_CLOCK.fullmatch, _FIGURE.findall(text))):
        found |= Flag.TIME
    if _MONEY.search(text):
        found |= Flag.MONEY
    return found


def _prose_flags(text: str) -> int:
    found = int(Flag.PLACE) if _names_place(text) else 0
    if _NAME.search(text):
        found |= Flag.NAMES
    if "\n" in text and len(_LIST_ITEM.findall(text)) >= 3:
        found |= Flag.LIST
    return found | Flag.CODE if "```" in text else found


def _names_place(text: str) -> bool:
    """Whether a capitalised word follows one of in, at, to, from, near, visit."""
    for capital in _CAPITAL.finditer(text):
        at = capital.start()
        if _TO_PLACE.search(text, max(0, at - _TO_PLACE_CHARS), at):
            return True
    return False


def _output_flags(text: str, role: str) -> int:
    found = int(Flag.CODE) if _symbol_share(text) >= _SYMBOL_SHARE_CODE else 0
    if role == "tool":
        return found
    if is_call(text):
        found |= Flag.CALL
    if _COMMAND.match(text):
        found |= Flag.COMMAND
    return found | Flag.EDIT if _EDIT.match(text) else found


# Indexed in addition to a chunk's own terms, so that the prose of each side can be listed without reading any text.
SAID_BY_USER, SAID_BY_AGENT = "@user", "@agent"
# The same for the chunks with a standing instruction.
STANDING_TERM = "@standing"
# The same for the chunks in a language other than English, so that a query is analysed in it too.
LANGUAGE_TERMS = {language: f"@{language}" for language in sorted(stemmer.LATIN - {"en"})}


def speaker_terms(piece_flags: int, role: str) -> tuple[str, ...]:
    """Returns the terms that state who said a chunk, to be indexed after the chunk's own terms."""
    if not piece_flags & _PROSE:
        return ()
    return (SAID_BY_USER,) if role == "user" else (SAID_BY_AGENT,) if role == "assistant" else ()


def mark_terms(piece_flags: int, role: str, language: str | None) -> tuple[str, ...]:
    """Returns all the terms that state something about a chunk: who said it, its language, a standing instruction."""
    spoken = LANGUAGE_TERMS.get(language or "en")
    return (
        *speaker_terms(piece_flags, role),
        *((spoken,) if spoken else ()),
        *((STANDING_TERM,) if piece_flags & Flag.STANDING else ()),
    )
