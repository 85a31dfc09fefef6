"""Turns text into index terms and flags. Pure, and fast, because it runs at every append.

    analyze("Fixed the crash in parseConfig (setup.go:42)")
        -> ['fix', 'crash', 'pars', 'config', '=parseconfig', 'setup', 'go', '=setup.go', '42']

Terms are lower case, stemmed, without accents and without stop words. Identifiers are split into their words and also
kept whole, marked by '=', so that a query can match the exact name. Numbers are kept. Scripts written without spaces
become single characters and pairs of adjacent ones. Text is analysed in its own language and a query in every language
of the conversation, so equal words match.

    flags(text, role)      properties of a chunk that matter to questions (see Flag)
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from enum import IntFlag
from itertools import chain

from ctxmem_mcp.lru import WordCache
from ctxmem_mcp.text import cues, stemmer, unspaced
from ctxmem_mcp.text.stop_words import fold_accents, stop_words

EXACT = "="
TERM_CHARS_MAX = 40
# Words per generation of the term cache; both generations together take a few megabytes at most.
_WORDS_CACHED = 12_000

# A word, or words joined by dots. Combining marks of Indic and other scripts are part of their word, but \w excludes
# them.
_MARKS = (
    "\u0300-\u036f\u0591-\u05c7\u064b-\u0670\u0900-\u0963\u0970-\u0a75\u0a81-\u0df3\u0e31-\u0e4e\u0eb1-\u0ece"
    "\u0f18-\u0fbc\u102b-\u109d\u1712-\u17d3\u200c\u200d"
)
_WORD_ASCII = re.compile(r"\w+(?:\.\w+)*")
_WORD_ANY = re.compile(rf"[\w{_MARKS}]+(?:\.[\w{_MARKS}]+)*")
_NAME_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_COMPOUND = re.compile(r"[a-z\d][A-Z]|[A-Z]{2}[a-z]|[A-Za-z]_+[A-Za-z\d]|[A-Za-z]\d|\d[A-Za-z]")
_SEAM = re.compile(r"[\d_.]|[a-z][A-Z]")
# Binary data written as text, such as an image in base64: nobody searches for one of its thousand words.
_BLOB_CHARS_MIN = 300
_BLOB = re.compile(r"[A-Za-z0-9+/_-]{300,}={0,2}")
_ORDINAL = re.compile(r"(\d+)(?:st|nd|rd|th)", re.IGNORECASE)
_HASHLIKE = re.compile(r"(?=.*\d)(?=.*[a-fA-F])[0-9a-fA-F]{7,64}")
STOP_WORDS = stop_words("en")

# Words that the stemmer keeps apart although people use one for the other: irregular forms, written numbers,
# abbreviated months and days, and programmers' abbreviations. Form -> the word that it stands for.
_SYNONYMS = """ate:eat eaten:eat became:become began:begin begun:begin bent:bend bit:bite bitten:bite blew:blow
    blown:blow bought:buy broke:break broken:break brought:bring built:build came:come caught:catch chose:choose
    chosen:choose drank:drink drunk:drink drawn:draw drew:draw driven:drive drove:drive fallen:fall fed:feed
    fell:fall felt:feel flew:fly flown:fly forgot:forget forgotten:forget fought:fight found:find froze:freeze
    frozen:freeze gave:give given:give grew:grow grown:grow heard:hear held:hold hid:hide hidden:hide kept:keep
    knew:know known:know laid:lay led:lead left:leave lent:lend lost:lose made:make meant:mean met:meet paid:pay
    ran:run rang:ring ridden:ride risen:rise rode:ride rose:rise sang:sing sent:send shaken:shake shook:shake
    shot:shoot shown:show slept:sleep slid:slide sold:sell spent:spend spoke:speak spoken:speak stole:steal
    stolen:steal stood:stand stuck:stick sung:sing swam:swim swum:swim taken:take taught:teach thought:think
    threw:throw thrown:throw told:tell took:take tore:tear torn:tear understood:understand woke:wake
    won:win saw:see seen:see wore:wear worn:wear written:write wrote:write
    children:child feet:foot geese:goose knives:knife men:man mice:mouse people:person
    shelves:shelf teeth:tooth wives:wife wolves:wolf women:woman indices:index matrices:matrix
    two:2 three:3 four:4 five:5 six:6 seven:7 eight:8 nine:9 ten:10 eleven:11 twelve:12 twenty:20 thirty:30
    jan:january feb:february mar:march apr:april jun:june jul:july aug:august sept:september sep:september
    oct:october nov:november dec:december mon:monday tue:tuesday tues:tuesday wed:wednesday thu:thursday
    thurs:thursday fri:friday mom:mother mum:mother dad:father tv:television
    arg:argument args:argument auth:authentication cfg:config cmd:command cmds:command config:configuration
    configs:configuration conv:conversation ctx:context db:database deps:dependency dep:dependency dest:destination
    dir:directory dirs:directory doc:document docs:document documentation:document env:environment err:error
    errs:error exec:execute func:function funcs:function fn:function impl:implementation info:information
    init:initialize lib:library libs:library msg:message msgs:message num:number obj:object param:parameter
    params:parameter perf:performance pkg:package pkgs:package prev:previous ref:reference refs:reference
    repo:repository repos:repository req:request resp:response src:source str:string tmp:temporary
    util:utility utils:utility val:value vals:value vars:variable var:variable ver:version"""
_SYNONYM_OF = {form: word for form, _, word in (pair.partition(":") for pair in _SYNONYMS.split())}


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


@functools.cache
def _term_cache(language: str | None) -> WordCache[tuple[str, ...]]:
    """Returns the terms of words in a language; in English for one without a stemmer of its own."""
    if language != "en" and language not in stemmer.LATIN:
        return _term_cache("en")
    return WordCache(functools.partial(_terms_of, language=language), _WORDS_CACHED, TERM_CHARS_MAX)


def analyze(text: str, language: str | None = None) -> list[str]:
    """Returns the index terms of a text, in order. The same text always gives the same terms.

    Args:
        text: The text.
        language: Its language (`language.detect`), which decides for words in Latin letters; None: English.
    """
    return list(chain.from_iterable(map(_term_cache(language).__getitem__, _words(text))))


def analyze_query(text: str, languages: Sequence[str]) -> list[tuple[str, ...]]:
    """Returns the terms of a query in order, each with its other forms.

    Args:
        text: The query.
        languages: The query's own language first, then those of the text it is about: each may stem a word differently.

    Returns:
        For each term: the form in the first of the languages, then the different forms in the others. A word that is a
        stop word in the query's own language has no terms.
    """
    caches = [_term_cache(language) for language in dict.fromkeys(languages or (None,))]
    found: list[tuple[str, ...]] = []
    for word in _words(text):
        forms = [cache[word] for cache in caches]
        same = [other for other in forms if len(other) == len(forms[0])]
        found += [tuple(dict.fromkeys(group)) for group in zip(*same, strict=True)]
    return [forms for forms in found if not unspaced.says_little(forms[0])]


def _words(text: str) -> list[str]:
    if "\\" in text and '"' in text:
        # Code inside JSON: an escaped line end must not become part of the next word.
        text = text.replace("\\\\", " ").replace("\\n", " ").replace("\\t", " ").replace("\\r", " ")
    if len(text) > _BLOB_CHARS_MIN and text.count(" ") * _BLOB_CHARS_MIN < len(text):
        text = _BLOB.sub(" ", text)
    return (_WORD_ASCII if text.isascii() else _WORD_ANY).findall(text)


def _terms_of(word: str, language: str) -> tuple[str, ...]:
    """The terms of one word, or of one name that contains dots."""
    if not word.isascii():
        word = unicodedata.normalize("NFKC", word)
        if run := unspaced.RUN.search(word):
            return _terms_around(word, run, language)
    if _is_plain(word):
        return _plain_terms(word, language)
    if "." not in word:
        return tuple(_identifier_terms(word, language))
    terms = list(chain.from_iterable(_identifier_terms(part, language) for part in word.split(".")[:16] if part))
    terms.append(EXACT + fold_accents(word.lower())[: TERM_CHARS_MAX - 1])
    return tuple(terms)


def _is_plain(word: str) -> bool:
    """Whether a word has no inner boundary: no capital after a small letter, no digit, underscore or dot."""
    if word.isascii():
        return word.isalpha() and word[1:] in (word[1:].lower(), word[1:].upper())
    return not _SEAM.search(word)


def _plain_terms(word: str, language: str) -> tuple[str, ...]:
    word = word.lower()
    if len(word) == 1 and word.isascii():
        return ()
    if language == "en" and word not in STOP_WORDS:
        word = _SYNONYM_OF.get(word, word)
    found = stemmer.stem(word[:TERM_CHARS_MAX], language) if word else ""
    return (found,) if found else ()


def _terms_around(word: str, run: re.Match[str], language: str) -> tuple[str, ...]:
    """The terms of a run in a script without spaces, and of the text before and after it."""
    before, after = word[: run.start()], word[run.end() :]
    return (
        *(_terms_of(before, language) if before else ()),
        *unspaced.terms(run.group()),
        *(_terms_of(after, language) if after else ()),
    )


def _identifier_terms(part: str, language: str) -> list[str]:
    """The words of one name, then the name itself if it consists of several words."""
    if len(part) > 2 * TERM_CHARS_MAX:
        return [fold_accents(part.lower())[:TERM_CHARS_MAX]]
    if not part.isalpha():
        if ordinal := _ORDINAL.fullmatch(part):
            return [ordinal.group(1)[:TERM_CHARS_MAX]]
        if _HASHLIKE.fullmatch(part):
            return [part.lower()[:TERM_CHARS_MAX]]
        if part.isdigit():
            return [part[:TERM_CHARS_MAX]]
    terms: list[str] = []
    for word in _NAME_PART.findall(part if part.isascii() else fold_accents(part)):
        if word[0].isdigit():
            terms.append(word[:TERM_CHARS_MAX])
        else:
            terms += _plain_terms(word, language)
    if _COMPOUND.search(part):
        terms.append(EXACT + fold_accents(part.lower())[: TERM_CHARS_MAX - 1])
    return terms


# ------------------------------------------------------------------------------------------------- flags

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
_DIGIT = re.compile(r"\d")
# Shorter ones are not dates.
_FIGURE = re.compile(r"\d[\d:/-]{2,}")
_CLOCK = re.compile(r"\d{4}-\d\d-\d\d|\d\d?:\d\d|\d\d?/\d\d?(?:/\d\d(?:\d\d)?)?|(?:19|20)\d\d")
_MONEY = re.compile(r"[$€£¥]\s?\d")
_MONEY_WORDS = _word_set("dollars euros pounds usd eur bucks")
# Begins with the space, so that the search skips from space to space. The word before it is checked afterwards.
_CAPITAL = re.compile(r" (?:the )?[A-Z][a-z]")
_TO_PLACE = re.compile(r"\b(?:in|at|to|from|near|visit(?:ed|ing)?)\Z")
_TO_PLACE_CHARS = 8
_NAME = re.compile(r"[a-z,] [A-Z][a-z]+")
# Not \s before the mark: from each of many empty lines it would go on to the end of them.
_LIST_ITEM = re.compile(r"^[^\S\n]*(?:[-*•]|\d{1,2}[.)])\s", re.MULTILINE)
_CALL = re.compile(r"\s*(?:[\w.:-]{1,64}\s?)?\{\s*(?:\"|\})")
_EDIT = re.compile(
    r"\s*(?:Edit|MultiEdit|Write|Update|NotebookEdit|apply_patch|str_replace\w*)\b ?[/{\n\w]*[/.{]"
    r"|.{0,200}\"(?:old_str|new_str|file_text|old_string|new_string|patch)|\s*\*\*\* Begin Patch|\s*diff --git"
)
_COMMAND = re.compile(
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
