"""The distinctive names in a section: functions, files, flags, issue numbers; in conversation, proper names. Pure."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from itertools import chain

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentence_scores import find_proper_names
from ctxmem_mcp.summarizers.tool_calls import ToolCall
from ctxmem_mcp.text import tokenizer

COUNT_MAX, NAMES_TOKENS = 12, 90
_MESSAGE_CHARS, _COMMAND_CHARS = 3_000, 1_500
CODE_NAME = lazy_regex(
    r"(?<![\w/.@-])(?:--[a-z][\w-]{2,30}|#\d{1,6}\b|[A-Za-z_]\w{0,40}(?:(?:\.|::|->)[A-Za-z_]\w{1,40})+|"
    r"[a-z_]\w*_\w+|[A-Z][A-Z0-9]+_[A-Z0-9_]+|"
    r"[a-z]+[A-Z]\w+|[A-Z][a-z0-9]+[A-Z]\w+)(?![\w/-])"
)
_PATH = lazy_regex(r"(?<![\w:/.])(?:[\w.@~-]+/)+([\w@-][\w.@-]*\.\w{1,6})(?![\w/])")
_GLUED_SENTENCE = lazy_regex(r"\.(?:The|This|So|Let|Now|It|We|But|And|If|In|Then|You|That|There)\Z")
_CACHED_WORD_CHARS, _WORDS_CACHED = 60, 20_000
_IGNORED = frozenset("e.g i.e a.m p.m u.s etc. node.js vs. old_string new_string file_path github.com".split())
_NOT_NAMES = frozenset(
    "I I'm I've I'd I'll I'll OK TV AI It You We The This That These My If In On For And But So What How Also".split()
)


_count_tokens = functools.lru_cache(maxsize=4_096)(tokenizer.count)


def find_identifiers(section: Section) -> tuple[str, ...]:
    """Returns the names that distinguish a section, most distinctive first."""
    counts: Counter[str] = Counter()
    for call in section.calls:
        _count_call(counts, call)
    for message in section.messages:
        if message.origin in ("host", "skill"):
            continue
        text = message.text[:_MESSAGE_CHARS]
        counts.update(dict.fromkeys(find_code_names(text), 2))
        if not section.is_work:
            for name in _proper_names(message.sentences):
                counts[name] += 3 if message.role == "user" or section.is_dialogue else 1
    for result in section.results:
        for error in result.errors[:4]:
            counts.update(find_code_names(error.text))
    speakers = {message.speaker for message in section.messages if message.speaker}
    if not section.is_work and not section.is_dialogue:
        # A model often capitalises for style only; what it repeats, or what the user writes, is a name.
        counts = Counter({name: count for name, count in counts.items() if count > 1})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return first_fitting((name for name, _ in ranked if speakers.isdisjoint(name.split())), NAMES_TOKENS)


def first_fitting(names: Iterable[str], token_budget: int) -> tuple[str, ...]:
    """Returns the first names that fit the budget, at most twelve."""
    selected: list[str] = []
    for name in names:
        token_budget -= _count_tokens(name) + 1
        if token_budget < 0 or len(selected) == COUNT_MAX:
            break
        selected.append(name)
    return tuple(selected)


def find_code_names(text: str) -> list[str]:
    """Returns names that look like code, and paths by their file name, each once, in order."""
    return list(dict.fromkeys(chain.from_iterable(map(_names_of_word.__getitem__, text.split()))))


class _NameCache(dict[str, tuple[str, ...]]):
    """Word -> the names in it, computed on first use: the same words recur throughout a conversation."""

    def __missing__(self, word: str) -> tuple[str, ...]:
        found = _names_in(word)
        if len(word) <= _CACHED_WORD_CHARS:
            if len(self) >= _WORDS_CACHED:
                self.clear()
            self[word] = found
        return found


_names_of_word = _NameCache()


def _names_in(word: str) -> tuple[str, ...]:
    bare = word.strip(".,:;!?()[]{}\"'`*")
    if bare.isalpha() and (bare.islower() or bare[1:].islower()):
        return ()
    return tuple(
        name
        for name in _find_names(bare)
        if name.lower() not in _IGNORED and len(name) <= 60 and not _GLUED_SENTENCE.search(name)
    )


def _find_names(word: str) -> list[str]:
    return _PATH.findall(word) or CODE_NAME.findall(word)


def _count_call(counts: Counter[str], call: ToolCall) -> None:
    if call.kind == "edit":
        if call.file_name:
            counts[call.file_name] += 3
        for name in call.defined_names[:6]:
            counts[name] += 3
    elif call.kind == "read" and call.file_name:
        counts[call.file_name] += 1
    elif call.kind == "run":
        for name in find_code_names(call.command[:_COMMAND_CHARS]):
            counts[name] += 1


def _proper_names(sentences: Iterable[str]) -> Iterable[str]:
    for sentence in sentences:
        for name in find_proper_names(sentence[:400]):
            plain = name.rstrip(".,'’:;!?")
            if 2 < len(plain) <= 50 and plain not in _NOT_NAMES:
                yield plain
