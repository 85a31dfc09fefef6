"""Features by which statements are ranked as titles and as lines of a summary. Pure.

A statement is worth more the more of what its section keeps talking about it contains (salience), and by its source,
its place, its form and the words that mark results, causes, choices and plans. The weights are trained.
"""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import TO_DO
from ctxmem_mcp.summarizers.headlines import has_verb
from ctxmem_mcp.summarizers.lead_ins import starts_with_change, wanted_by_user
from ctxmem_mcp.summarizers.requests import starts_with_verb
from ctxmem_mcp.summarizers.section_reader import Section
from ctxmem_mcp.summarizers.statements import Source, Statement
from ctxmem_mcp.summarizers.title_faults import ends_vaguely

Features = dict[str, float]

_WORD = lazy_regex(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_a-zA-Z]")
_CODE_SIGN = lazy_regex(r"[a-z][A-Z]|_|\w\.\w|\(\)|`|--\w|/")
_STOP = frozenset(
    """a an and are as at be been but by can did do does for from had has have he how i if in into is it its just me my
    no not now of on one or our she so some still that the their them then there these they this to up us was we were
    what when which who why will with you your also let all any here file files line lines code""".split()
)
_STEM_CHARS = 6
_MARKS = "`*\"'(),.:;!"
_DIGIT = lazy_regex(r"\d")
_AT_START, _AT_END = 0.1, 0.92
# The weight of a request that is certainly one.
_CLEAR_WEIGHT = 6.0
_OF_MESSAGES = frozenset(("closing", "thought", "text", "before_edit", "before_call", "recap"))
_FIRST_PERSON = frozenset("i i'll i'm i've i'd me my you your you're".split())
_CUES: Mapping[str, frozenset[str]] = {
    "result": frozenset(
        """done complete completed committed pushed merged created implemented updated added removed fixed renamed
        refactored moved replaced passes passing passed works working successfully verified resolved rewritten
        simplified deleted extracted switched""".split()
    ),
    "cause": frozenset(
        """because cause caused culprit issue problem bug reason root due since missing wrong incorrect
        actually instead never doesn't isn't wasn't fails failing failed broken error without only""".split()
    ),
    "choice": frozenset(
        """decided instead rather should prefer keep approach option intentionally deliberately skip agreed
        must never always don't want wants use""".split()
    ),
    "looking": frozenset(
        """look looking read reading see check checking explore find search understand examine continue view verify
        run running""".split()
    ),
    "change": frozenset(
        """add update change remove rename replace fix move create write implement rewrite refactor delete make
        modify edit extract set""".split()
    ),
    "housekeeping": frozenset(
        "todo todos task tasks summary continue continuing user's next step steps remaining".split()
    ),
    "tests": frozenset("test tests lint pass passes passed passing compile build builds".split()),
}
_CHORES = frozenset(
    "start starting commit push run rerun fetch re-fetch reply respond retry summarize wait proceed try open do".split()
)
_ORDER_STEMS_MIN = 3
_FORMS = ("question", "to_do", "verbless", "ends_vaguely", "deed")
# What the assistant says may lack a verb: "Now the scroll helpers:" names what it is about to change.
_OF_ASSISTANT = frozenset(("closing", "before_edit", "before_call", "text", "thought", "title", "fact"))
_OF_USER = frozenset(("request", "user", "correction"))
# What these say in the past tense was done: "Added symlink detection".
_OF_ASSISTANT_DONE = frozenset(("closing", "text", "before_call", "outcome", "title", "fact", "decision"))
# "Deleted items are not logged" says how something is.
_PAST_ACTION = lazy_regex(r"\w+ed\b(?! (?:\S+ ){1,3}(?:is|are|was|were|has|have|do|does|will|can|[-–—])\b)(?! \w+ \()")
# Features of the wording that are absent where they are 0.
_WORDING = (*(name for cue in _CUES for name in (cue, f"{cue}:closing", f"{cue}:first")), *_FORMS)
# The intention of one edit: a file or a small part of one is all that it names.
_ONE_EDIT = lazy_regex(
    r"\A(?:to do: )?(?:update|fix|add|change|modify|edit|remove|create|check)(?:ing|s|d)?\b(?:"
    r"(?: the| a| an)? `?[\w./-]+\.\w{1,5}`?(?: file)?(?: and `?[\w./-]+\.\w{1,5}`?)?\Z|"
    r".*\b(?:callers?|call sites?|calls?|imports?|comments?|usages?|references?|interface|helper|variable|lines?|"
    r"implementation)\b)",
    re.I,
)
# The intention of an edit; of one name if it contains one.
_ONE_NAME = lazy_regex(
    r"(?:to do: )?(?:update|fix|add|change|modify|edit|remove|create|check|use|pass|rename|replace)(?:ing|s|d|ed)?\b",
    re.I,
)
# A sentence about how the code is, not about what was done: its verb is in the present tense, near its beginning.
_DESCRIPTION = lazy_regex(
    r"\A(?:\S+ ){0,4}(?:is|are|has|have|uses|creates|calls|reads|stores|contains|returns|needs|expects|exists?|"
    r"already|does|doesn't|gets|takes|writes|checks|provides|handles|only)\b"
)
# The item of a list about one part of the code: "`model.go` - Data structures".
_ITEM = lazy_regex(
    r"\A(?:`[^`]+`|[\w./-]+\.\w{1,5})(?: \w+){0,2}(?: [-–—]|:) (?!add|updat|remov|fix|renam|replac|new\b)", re.I
)
# The item of a list about what a part of the code does: "Condenses the session's data".
_THIRD_PERSON = lazy_regex(
    r"(?:adds|calls|checks|cleans|condenses|converts|copies|creates|deletes|detects|does|falls|finds|gets|goes|handles|has|"
    r"keeps|loads|makes|moves|needs|prints|provides|reads|removes|returns|runs|saves|sets|shows|stores|supports|takes|treats|"
    r"updates|uses|works|writes|no longer)\b",
    re.I,
)
# How the work is organised, not what it is about.
_PROCESS = lazy_regex(
    r"\b(?:(?:spec|code|quality|final|compliance) review|review passed|plan (?:is )?complete|subagent-driven|"
    r"chose option|"
    r"tasks? [\w.-]*\d (?:is |are )?(?:complete|done|implementation)|(?:implementer|reviewer)\b.*\b(?:found|"
    r"passed|is|was)|"
    r"pr (?:was )?created|(?:write|create|update|follow) the (?:\w+ )?plan|final verification|diagnostics|run through|"
    r"plan mode|step by step|update (?:the )?status|(?:move|moving) (?:on )?to task)\b",
    re.I,
)
# One of these is in what the expressions find: looking them up is many times faster.
_PROCESS_WORDS = frozenset(
    """review passed plan subagent-driven chose task tasks implementer reviewer pr verification diagnostics run step
    status""".split()
)
_RELATIVE_WORDS = frozenset(
    "same other others remaining rest another changes issue issues problem problems plan error errors".split()
)
# What only the sections around it explain: "Fix the remaining files", "Make the same changes".
_RELATIVE = lazy_regex(
    r"\b(?:(?:same|other|remaining) (?:\w+ )?(?:changes?|issues?|files?|problems?|errors?|places?|tests?|"
    r"callers?|calls?|things?|"
    r"way|comments?|fix)|the rest|another one|the (?:changes|issues?|problems?|plan|errors?)(?! [a-z]+))\b",
    re.I,
)
_FIRST_ARTICLE = lazy_regex(r"\A(?:the|an?|these|those|this) ", re.I)
# A statement that tests and checks pass, and nothing else.
_ONLY_TESTS = lazy_regex(
    r"(?:(?:all|the|\d+|now|tests?|unit|integration|existing|and|lint\w*|checks?|is|are|clean|green|pass\w*|still|"
    r"everything|full|test suite|build|builds|compiles?|failing|resume|previously)\b\W*)+\Z",
    re.I,
)
_POINTING = frozenset(
    "this that it these those there they here he she which what they're there's it's that's we're".split()
)
_VAGUE = frozenset("it this that these those them they one ones both something everything".split())


# The same lines are read again for each ancestor of their leaf.
@functools.lru_cache(maxsize=4_096)
def stems(text: str) -> tuple[str, ...]:
    """Returns the words of a text without stop words, cut to their beginnings; camelCase counts as several words."""
    words = map(str.lower, _WORD.findall(text))
    return tuple([word[:_STEM_CHARS] for word in words if word not in _STOP and (len(word) > 1 or word > "z")])


class Salience:
    """How much a section talks about each word."""

    def __init__(self, texts: Iterable[tuple[str, float]]) -> None:
        """texts: texts of the section and how much each counts."""
        counts: Counter[str] = Counter()
        self._texts: list[tuple[frozenset[str], float]] = []
        for text, weight in texts:
            words = dict.fromkeys(stems(text))  # in their order: among equal counts the first ones are taken
            self._texts.append((frozenset(words), weight))
            for stem in words:
                counts[stem] += weight  # type: ignore[assignment]
        self._counts = counts
        self._names = [word for word, _ in counts.most_common(3)]
        self._top = math.fsum(count for _, count in counts.most_common(8)) or 1.0

    def coverage(self, words: frozenset[str]) -> float:
        """The share of the section's texts that have at least a third of these words, and two of several."""
        least = max(min(2, len(words)), len(words) / 3)
        total = math.fsum(weight for _, weight in self._texts) or 1.0
        return math.fsum(weight for text, weight in self._texts if len(words & text) >= least) / total

    def top(self, words: frozenset[str]) -> float:
        """The share of the three most salient words that these words contain."""
        return sum(word in words for word in self._names) / 3.0

    def of(self, words: frozenset[str]) -> tuple[float, float]:
        """The mean salience of words, from 0 to 1, and their share of what the section is mostly about."""
        if not words:
            return 0.0, 0.0
        counts = self._counts
        known = [counts[word] for word in words if word in counts]
        mean = math.fsum(count / (count + 2.0) for count in known) / len(words)
        return mean, min(1.0, math.fsum(known) / self._top)


def is_code(text: str) -> bool:
    """Whether a text contains a name of the code, a path or a flag."""
    return _CODE_SIGN.search(text) is not None


def is_pointing(text: str) -> bool:
    """Whether a text points to what another one names: "Preserve what was there"."""
    words = {word.strip(_MARKS) for word in text.lower().split()}
    return not words.isdisjoint(_VAGUE | _POINTING)


def is_detail(text: str) -> bool:
    """Whether a text is about one edit or one part of the code, or describes how the code is."""
    return is_description(text) or any(pattern.match(text) for pattern in (_ONE_EDIT, _ITEM))


def is_description(text: str) -> bool:
    """Whether a text says how the code is: "The helper reads both files"."""
    return _DESCRIPTION.match(text) is not None and not (starts_with_verb(text) or starts_with_change(text))


def tells_only_tests(text: str) -> bool:
    """Whether a text says that tests or checks pass, and nothing else."""
    return _ONLY_TESTS.match(text) is not None


def is_order(text: str) -> bool:
    """Whether a request names the work that it asks for: no question, no "Commit this", no "Try it again"."""
    first = text.split(" ", 1)[0].lower().strip(_MARKS)
    words = {word.strip(_MARKS) for word in text.lower().split()[:8]}
    is_vague = first in _CHORES or not words.isdisjoint(_VAGUE) or text.endswith("?")
    return not is_vague and len(stems(text)) >= _ORDER_STEMS_MIN


def section_salience(section: Section) -> Salience:
    """The salience of a section's words: the user's count most, then files and messages, then thoughts."""

    def texts() -> Iterable[tuple[str, float]]:
        for message in section.messages:
            if message.origin in ("text", "recap"):
                weight = 1.5 if message.role == "user" else 0.7 if message.is_reasoning else 1.0
                yield " ".join(message.sentences[:12]), weight
        for call in section.calls:
            if call.kind == "edit":
                yield f"{call.file_name} {' '.join(call.defined_names[:4])}", 1.0
            elif call.subject or call.file_name:
                yield f"{call.file_name} {call.subject[:80]}", 0.5

    return Salience(texts())


def statement_features(statement: Statement, salience: Salience) -> Features:
    """Returns the features of a statement as a line; some that are 0 are left out."""
    text = statement.text
    found: Features = {
        "bias": 1.0,
        statement.source: 1.0,
        "long": max(0.0, len(text) - 110) / 100.0,
        "rank": min(statement.rank, 8) / 8.0,
        "from_end": min(statement.rank_from_end, 8) / 8.0,
        "ends": 1.0 if text.endswith(".") else 0.0,
        "colon": 1.0 if text.endswith(":") else 0.0,
        "announces": 1.0 if statement.announces else 0.0,
    }
    if statement.source in _OF_USER and not starts_with_verb(text):
        found["remark"] = 1.0
    if statement.names_only:
        found["names_only"] = 1.0
    if statement.opens_list:
        found["opens_list"] = 1.0
    if wanted_by_user(text):
        found["restated"] = 1.0
    _add_place(found, statement)
    return found | _wording(text, statement.source, salience)


def title_features(features: Features, statement: Statement, title: str, salience: Salience) -> Features:
    """Returns the features of a statement as a title. features: those that it has as a line."""
    found = dict(features)
    if title != statement.text:
        for name in _WORDING:
            found.pop(name, None)
        found |= _wording(title, statement.source, salience)
    found["coverage"] = salience.coverage(frozenset(stems(title)))
    found["cut"] = 1.0 if title.endswith("…") else 0.0
    found["kept"] = len(title) / max(1, len(statement.text))
    found["chars"] = len(title) / 60.0
    return found


def _wording(text: str, source: Source, salience: Salience) -> Features:
    """The features that depend on the words only."""
    plain = [word.strip(_MARKS) for word in text.lower().split()]
    first, distinct = (plain[0] if plain else ""), set(plain)
    words = frozenset(stems(text))
    mean, share = salience.of(words)
    found: Features = {
        "salience": mean,
        "share": share,
        "top": salience.top(words),
        "words": min(len(words), 14) / 10.0,
        "short": 1.0 if len(words) < 3 else 0.0,
        "names": min(3, len(_CODE_SIGN.findall(text))) / 3.0,
        "vague": min(3, len(distinct & _VAGUE)) / 3.0,
        "pointing": 1.0 if first in _POINTING else 0.0,
        "chore": 1.0 if first in _CHORES else 0.0,
        "first_person": 0.0 if distinct.isdisjoint(_FIRST_PERSON) else 1.0,
        "description": 1.0 if is_description(text) else 0.0,
        "only_tests": 1.0 if tells_only_tests(text) else 0.0,
        "item": 1.0 if _ITEM.match(text) else 0.0,
        "third_person": 1.0 if _THIRD_PERSON.match(text) else 0.0,
        "process": 1.0 if not _PROCESS_WORDS.isdisjoint(distinct) and _PROCESS.search(text) else 0.0,
        "relative": 1.0 if not _RELATIVE_WORDS.isdisjoint(distinct) and _RELATIVE.search(text) else 0.0,
        "one_edit": 1.0 if _ONE_EDIT.match(text) else 0.0,
        "one_name": 1.0 if _ONE_NAME.match(text) and is_code(text) else 0.0,
        "digits": 1.0 if _DIGIT.search(text) else 0.0,
    }
    if text.endswith("?"):
        found["question"] = 1.0
    if text.startswith(TO_DO):
        found["to_do"] = 1.0
    if first in _CUES["result"] and source in _OF_ASSISTANT_DONE and _PAST_ACTION.match(text):
        found["deed"] = 1.0
    if ends_vaguely(text):
        found["ends_vaguely"] = 1.0
    if source in _OF_ASSISTANT and not has_verb(_FIRST_ARTICLE.sub("", text)):
        found["verbless"] = 1.0
    for cue, cues in _CUES.items():
        if not cues.isdisjoint(distinct):
            found[cue] = 1.0
            if source == "closing":
                found[f"{cue}:closing"] = 1.0
            elif first in cues:
                found[f"{cue}:first"] = 1.0
    return found


def _add_place(found: Features, statement: Statement) -> None:
    source, place = statement.source, statement.place
    if place < 0:
        found["before"] = 1.0
        return
    found["place"] = place
    if place > _AT_END:
        found["at_end"] = 1.0
        if source in ("request", "user"):
            found["request_at_end"] = 1.0
    if source == "request":
        found["request_at_start"] = 1.0 if place < _AT_START else 0.0
        found["clear_request"] = max(0.0, min(1.0, statement.weight / _CLEAR_WEIGHT))
    elif source in _OF_MESSAGES:
        if statement.rank == 0:
            found["first_of_message"] = 1.0
        if statement.rank_from_end == 0:
            found["last_of_message"] = 1.0


def score(features: Features, weights: Mapping[str, float]) -> float:
    """Returns the weighted sum of features."""
    weight_of, total = weights.get, 0.0
    for name, value in features.items():
        total += weight_of(name, 0.0) * value
    return total
