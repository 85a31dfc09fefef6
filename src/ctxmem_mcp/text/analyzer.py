"""Turns text into index terms. Pure, and fast, because it runs at every append.

    analyze("Fixed the crash in parseConfig (setup.go:42)")
        -> ['fix', 'crash', 'pars', 'config', '=parseconfig', 'setup', 'go', '=setup.go', '42']

Terms are lower case, stemmed, without accents and without stop words. Identifiers are split into their words and also
kept whole, marked by '=', so that a query can match the exact name. Numbers are kept. Scripts written without spaces
become single characters and pairs of adjacent ones. Text is analysed in its own language and a query in every language
of the conversation, so equal words match.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence
from itertools import chain

from ctxmem_mcp.lru import WordCache
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text import stemmer, unspaced
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
_WORD_ASCII = lazy_regex(r"\w+(?:\.\w+)*")
_WORD_ANY = lazy_regex(rf"[\w{_MARKS}]+(?:\.[\w{_MARKS}]+)*")
_NAME_PART = lazy_regex(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\dA-Za-z_]+")
_COMPOUND = lazy_regex(r"[a-z\d][A-Z]|[A-Z]{2}[a-z]|[A-Za-z]_+[A-Za-z\d]|[A-Za-z]\d|\d[A-Za-z]")
_SEAM = lazy_regex(r"[\d_.]|[a-z][A-Z]")
# Binary data written as text, such as an image in base64: nobody searches for one of its thousand words.
_BLOB_CHARS_MIN = 300
_BLOB = lazy_regex(r"[A-Za-z0-9+/_-]{300,}={0,2}")
_ORDINAL = lazy_regex(r"(\d+)(?:st|nd|rd|th)", re.IGNORECASE)
_HASHLIKE = lazy_regex(r"(?=.*\d)(?=.*[a-fA-F])[0-9a-fA-F]{7,64}")
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
