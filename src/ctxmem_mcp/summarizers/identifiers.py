"""The distinctive names in a section: functions, files, flags, issue numbers; proper names in talk. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.sentence_scoring import names_in
from ctxmem_mcp.summarizers.tool_calls import Call
from ctxmem_mcp.text import tokenizer

COUNT_MAX, NAMES_TOKENS = 12, 90
_SPEECH_CHARS, _WRITTEN_CHARS = 3_000, 1_500
CODE_NAME = re.compile(
    r"(?<![\w/.@-])(?:--[a-z][\w-]{2,30}|#\d{1,6}\b|[A-Za-z_]\w{0,40}(?:(?:\.|::|->)[A-Za-z_]\w{1,40})+|"
    r"[a-z_]\w*_\w+|[A-Z][A-Z0-9]+_[A-Z0-9_]+|"
    r"[a-z]+[A-Z]\w+|[A-Z][a-z0-9]+[A-Z]\w+)(?![\w/-])"
)
_PATH = re.compile(r"(?<![\w:/.])(?:[\w.@~-]+/)+([\w@-][\w.@-]*\.\w{1,6})(?![\w/])")
_GLUED = re.compile(r"\.(?:The|This|So|Let|Now|It|We|But|And|If|In|Then|You|That|There)\Z")
_DULL = frozenset("e.g i.e a.m p.m u.s etc. node.js vs. old_string new_string file_path github.com".split())
_DULL_NAMES = frozenset(
    "I I'm I've I'd I'll I'll OK TV AI It You We The This That These My If In On For And But So What How Also".split()
)


def identifiers_of(section: Section) -> tuple[str, ...]:
    """Most telling first."""
    counts: Counter[str] = Counter()
    for call in section.calls:
        _count_call(counts, call)
    for said in section.said:
        if said.origin in ("host", "skill"):
            continue
        text = said.words[:_SPEECH_CHARS]
        counts.update(dict.fromkeys(code_names(text), 2))
        if not section.is_work:
            for name in _proper_names(said.sentences):
                counts[name] += 3 if said.role == "user" or section.is_dialogue else 1
    for report in section.reports:
        for fault in report.faults[:4]:
            counts.update(code_names(fault.text))
    speakers = {said.speaker for said in section.said if said.speaker}
    if not section.is_work and not section.is_dialogue:
        # A capital in a model's answer is often only a style; what it repeats, or the user says, is a name.
        counts = Counter({name: count for name, count in counts.items() if count > 1})
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return fitting((name for name, _ in ranked if speakers.isdisjoint(name.split())), NAMES_TOKENS)


def fitting(names: Iterable[str], allowed: int) -> tuple[str, ...]:
    """The first names that fit, at most twelve."""
    kept: list[str] = []
    for name in names:
        allowed -= tokenizer.count(name) + 1
        if allowed < 0 or len(kept) == COUNT_MAX:
            break
        kept.append(name)
    return tuple(kept)


def code_names(text: str) -> list[str]:
    """Names that look like code, and files by their last part, each once, in order."""
    names: list[str] = []
    for word in text.split():
        bare = word.strip(".,:;!?()[]{}\"'`*")
        if not bare.isalpha() or not (bare.islower() or bare[1:].islower()):
            names += _PATH.findall(bare) or CODE_NAME.findall(bare)
    return [
        name
        for name in dict.fromkeys(names)
        if name.lower() not in _DULL and len(name) <= 60 and not _GLUED.search(name)
    ]


def _count_call(counts: Counter[str], call: Call) -> None:
    if call.deed == "edit":
        if call.file:
            counts[call.file] += 3
        for name in call.defined[:6]:
            counts[name] += 3
    elif call.deed == "read" and call.file:
        counts[call.file] += 1
    elif call.deed == "run":
        for name in code_names(call.command[:_WRITTEN_CHARS]):
            counts[name] += 1


def _proper_names(sentences: Iterable[str]) -> Iterable[str]:
    for line in sentences:
        for name in names_in(line[:400]):
            plain = name.rstrip(".,'’:;!?")
            if 2 < len(plain) <= 50 and plain not in _DULL_NAMES:
                yield plain
