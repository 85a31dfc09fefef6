"""The topics that several sections have in common, for the title of their parent. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from ctxmem_mcp.models import Node, Summary
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import CALLS_OF, FALLBACK_TITLE, HOST_PREFIX, TOPIC_SEPARATOR
from ctxmem_mcp.summarizers.sentences import shorten
from ctxmem_mcp.summarizers.statement_features import is_detail
from ctxmem_mcp.summarizers.title_options import TITLE_CHARS

_TOPIC_CHARS = 34
_CUT = "…"
_WORD = lazy_regex(r"[A-Za-z][a-z]{2,}|[A-Z]{2,}|[^\W\d_a-zA-Z]{2,}")
_COMMON = frozenset(
    """the and for with that this from into have has are was were what how why when where which who not all any can
    could should would will our your its new use using get let more also now then there than about make sure
    please want need like just some out does did do don their them they you off one two error errors editing
    reading running tests pass committed""".split()
)
# Turns a request into the name of the activity: "Refactor the X" becomes "X refactoring". Only verbs that read well.
_ACTIVITY_NAMES = {
    "refactor": "refactoring", "rename": "renaming", "review": "review", "clean up": "cleanup", "redesign": "redesign",
    "migrate": "migration", "investigate": "investigation", "optimize": "optimization", "rewrite": "rewrite",
    "debug": "debugging",
    "document": "documentation", "implement": "implementation", "benchmark": "benchmarking", "test": "testing",
}  # fmt: skip
# How titles of sections without a request begin.
_WORK_PREFIXES = (
    "Editing",
    "Edited",
    "Reading",
    "Looking",
    "Running",
    "Searching",
    CALLS_OF,
    FALLBACK_TITLE,
    HOST_PREFIX,
    "Recap",
)
_SUFFIX = lazy_regex(r"(?:ations?|ating|ates?|ated|ions?|ings?|ers?|ed|es|e|s)\Z")
_OBJECT_END = lazy_regex(
    r"\s+(?:in|so|to|for|from|into|with|without|on|at|by|because|and|using|under|inside|as|if|when|that|"
    r"which)\b|[,;:.(]"
)


def is_work_title(title: str) -> bool:
    """Whether a title names only calls or files, as that of a section without a request does."""
    return title.startswith(_WORK_PREFIXES)


def common_topic(children: Sequence[tuple[Node, Summary]]) -> str:
    """Returns the title of the one topic that covers the children; empty if there is none."""
    titles = [summary.title for _, summary in children]
    word_sets = [_summary_words(summary) for _, summary in children]
    best = max(range(len(children)), key=lambda i: (_coverage(titles[i], word_sets), -i))
    if _coverage(titles[best], word_sets) >= 0.6:
        return _as_activity(titles[best])
    return ""


def _stem(word: str) -> str:
    return _SUFFIX.sub("", word)[:6]


# Sections without a parent are compared again each time a section closes.
@functools.lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    return frozenset(_stem(word) for word in map(str.lower, _WORD.findall(text)) if word not in _COMMON)


def _summary_words(summary: Summary) -> frozenset[str]:
    parts = (summary.title, *summary.identifiers, *(line.text for line in summary.highlights))
    return frozenset[str]().union(*map(_words, parts))


def _coverage(title: str, word_sets: Sequence[frozenset[str]]) -> float:
    """The average share of a title's words that a section contains; shortened and uninformative titles count less."""
    title_words = _words(title)
    if len(title_words) < 2:
        return 0.0
    share = sum(len(title_words & words) for words in word_sets) / (len(title_words) * len(word_sets))
    if title.startswith("Error:"):
        share -= 0.15
    elif is_work_title(title):
        share -= 0.3
    elif is_detail(title):
        share -= 0.25
    return share - (0.1 if _CUT in title else 0.0)


def _as_activity(title: str) -> str:
    """Turns 'Refactor the token estimation function in x.py' into 'Token estimation function refactoring'."""
    for verb, noun in _ACTIVITY_NAMES.items():
        if title.lower().startswith(verb + " "):
            rest = re.sub(r"\A(?:the|our|my|this|its)\s+", "", title[len(verb) + 1 :], flags=re.I)
            end = _OBJECT_END.search(rest)
            obj = rest[: end.start()] if end else rest
            if 1 < len(obj.split()) <= 5:
                return f"{obj[:1].upper()}{obj[1:]} {noun}"
    return title


def join_topics(children: Sequence[tuple[Node, Summary]]) -> str:
    """Joins the shortened titles of the largest children that fit, in order; requests come before mere activity."""
    titles = [shorten(summary.title, _TOPIC_CHARS) for _, summary in children]
    order = sorted(range(len(children)), key=lambda i: (is_work_title(children[i][1].title), -children[i][0].tokens))
    selected: list[int] = []
    for i in order:
        if sum(len(titles[j]) + 2 for j in [*selected, i]) <= TITLE_CHARS + 2:
            selected.append(i)
    joined = TOPIC_SEPARATOR.join(titles[i] for i in sorted(selected)) or children[0][1].title
    return children[order[0]][1].title if _CUT in joined else joined
