"""Reads a query: the terms to look for, and what kind of answer is asked for. Pure.

    plan = read("When did Caroline fix the crash in parseConfig?", speakers=["Caroline", "Melanie"])
    plan.terms   ('carolin', 'fix', 'crash', 'pars', 'configur', '=parseconfig', ...)   ask the store for these
    plan.kinds   {WHEN}

What is asked for is told by many wordings each, since people rarely use the text's own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import pairwise

from ctxmem_mcp.models import HighlightKind
from ctxmem_mcp.text import analyzer

# A query of more than this many terms is a pasted text; its first terms do.
TERMS_MAX = 48
# Asked of the index with every query: where people and the agent spoke. They match nothing.
SPEAKER_TERMS = (analyzer.SAID_BY_USER, analyzer.SAID_BY_AGENT)


class Intent(StrEnum):
    """What an answer would hold. A query can be of several kinds."""

    WHEN = "when"
    WHERE = "where"
    WHO = "who"
    WHY = "why"
    HOW_MANY = "how_many"
    HOW_MUCH = "how_much"
    ERROR = "error"
    CHANGE = "change"
    COMMAND = "command"
    RESULT = "result"
    LIKING = "liking"
    DECISION = "decision"
    USER_SAID = "user_said"
    AGENT_SAID = "agent_said"
    ABOUT_ME = "about_me"
    WHOLE = "whole"


# Per kind, wordings that ask for it; alternatives of a pattern, matched as whole words in any case.
_WORDINGS: dict[Intent, str] = {
    Intent.WHEN: (
        r"when|what (?:date|day|time|year|month)|which (?:date|day|year|month)|how long|how (?:many|"
        r"much) (?:days|weeks|months|years|time)|since when|until when|how (?:recently|soon)|first|"
        r"last time|ago"
    ),
    Intent.WHERE: (
        r"where|which (?:city|country|place|town|state|restaurant|shop|store|location)|what (?:city|"
        r"country|place|town|state|location)|located|location"
    ),
    Intent.WHO: r"who|whom|whose|which (?:person|friend|colleague|people)|what name|named?|called",
    Intent.WHY: r"why|reasons?|how come|what (?:for|caused|made)|cause[ds]?|motivat\w+|root cause|explains?",
    Intent.HOW_MANY: (
        r"how many|number of|count of|how often|total|in all|altogether|how (?:old|tall|far|big|large|"
        r"fast|heavy)|percentage|ratio|what (?:size|version|port|score|rating|limit)"
    ),
    Intent.HOW_MUCH: r"how much|price|cost|costs?|spen[dt]|paid|pay|budget|expensive|save[d]?|money|salary|earn",
    Intent.ERROR: (
        r"errors?|fail(?:s|ed|ing|ures?)?|exceptions?|crash\w*|bugs?|problems?|issues?|broke\w*|wrong|"
        r"traceback|complain\w*|warnings?|lint\w*|panics?|trouble|went bad|blew up"
    ),
    Intent.CHANGE: (
        r"chang(?:e|ed|es|ing)|edit\w*|modif\w+|rewr\w+|refactor\w*|implement\w*|added|add|removed?|"
        r"renam\w+|replac\w+|fix(?:ed|es)?|patch\w*|touched|wrote|introduc\w+|delet\w+|updat\w+"
    ),
    Intent.COMMAND: (
        r"commands?|how (?:did|do|can|could) (?:we|i|you|it|they)|ran|run|shell|invok\w+|execut\w+|typed|"
        r"terminal|cli"
    ),
    Intent.RESULT: (
        r"results?|output|outcome|what happened|came (?:back|out)|returned|prints?|printed|shown|"
        r"respon[ds]\w*|what did .{1,60} (?:show|give|report|find|return)|turned out|pass(?:ed)?"
    ),
    Intent.LIKING: (
        r"like[sd]?|lov(?:e|es|ed)|prefer\w*|favou?rite|enjoy\w*|hate[sd]?|interest\w*|hobb\w+|"
        r"recommend\w*|suggest\w*|should i|want(?:s|ed)?|wish\w*|hop(?:e|es|ed|ing)"
    ),
    Intent.DECISION: (
        r"decid\w+|decision|agree\w*|chose|choose|choice|settl\w+|conclu\w+|instead|going with|"
        r"opt(?:ed)?|resolv\w+|plan(?:s|ned)?|approach|strategy|intend\w*"
    ),
    Intent.USER_SAID: (
        r"(?:the )?(?:user|human|person|developer|customer|client|they|he|she) (?:\w+ )?(?:say|said|"
        r"sa(?:y|id)|ask(?:ed)?|want(?:ed)?|request(?:ed)?|tell|told|mention(?:ed)?|complain(?:ed)?|"
        r"prefer(?:red)?|think|thought|insist(?:ed)?|need(?:ed)?|object(?:ed)?)|user'?s (?:words|request|"
        r"wish|opinion|instructions?|feedback)|(?:were|was) (?:we|you|i) (?:told|asked)"
    ),
    Intent.AGENT_SAID: (
        r"(?:you|assistant|agent|model|claude|gpt) (?:\w+ )?(?:say|said|suggest(?:ed)?|recommend(?:ed)?|"
        r"mention(?:ed)?|told|tell|provid(?:e|ed)|explain(?:ed)?|g[ai]ve|given|list(?:ed)?|propose[d]?|"
        r"wrote|created?|conclude[d]?)|remind me|previous (?:conversation|chat|discussion)|"
        r"earlier (?:conversation|chat)|we (?:talked|discussed|spoke)|last time"
    ),
    Intent.ABOUT_ME: r"i|my|me|mine|we|our",
    Intent.WHOLE: (
        r"list (?:all|every)|everything|every|all (?:the )?(?:errors|changes|files|decisions|things|"
        r"problems|issues|times|topics|tasks|steps|commits|tests)|in (?:what|which) order|order of|"
        r"sequence|chronolog\w+|timeline|summar\w+|overview|recap|overall|so far|over time|history of|"
        r"throughout|evol\w+|progress\w*|in total|what (?:did|have) we (?:do|done)|walk me through"
    ),
}
_INTENT_PATTERNS = tuple(
    (intent, re.compile(rf"\b(?:{wording})\b", re.IGNORECASE)) for intent, wording in _WORDINGS.items()
)


# What summaries tell of each kind.
_SUMMARY_KINDS: dict[Intent, tuple[HighlightKind, ...]] = {
    Intent.ERROR: ("error", "ending"),
    Intent.DECISION: ("decision",),
    Intent.CHANGE: ("file",),
    Intent.RESULT: ("outcome",),
    Intent.USER_SAID: ("request", "decision"),
}
OVERVIEW_KINDS: frozenset[HighlightKind] = frozenset(("request", "error", "ending", "decision", "outcome"))
# Words that a question may have and still ask for nothing in particular.
_FILLER_TERMS = frozenset(
    analyzer.analyze(
        """encounter encountered hit met meet face faced run into see seen have happen happened happening make made
        do done come came so far session sessions conversation project history work working worked list show tell
        give find thing things stuff until till now yet today file files code everything anything something during
        whole entire main important key please brief short user agent assistant kind kinds sort type types"""
    )
)


# Wordings that ask how far things have come: what was said last answers that, not where these words stand.
_STATUS_QUESTION = re.compile(
    r"\b(?:(?:left|remain(?:s|ing)?|still|yet) to (?:do|be done)|to-?dos?|(?:still )?(?:unfinished|pending)|still open|"
    r"remaining (?:work|tasks?|steps?|items?)|next steps?|(?:comes?|do(?:ing)?|is|was|what'?s) next|"
    r"(?:left|leave|break|broke) off|where (?:are|were|did|do|was|am) (?:we|i|you)(?: (?:stop|stand|end|leave))?|"
    r"(?:are|were|was|am) (?:we|i|you) (?:just |currently )?(?:doing|working on|at|up to)(?: right)?(?: now)?|"
    r"should (?:we|i|you) do(?: now| next)?|(?:current |present |latest )?(?:state|status)|"
    r"up to (?:speed|date)|catch (?:me|us) up|most recent(?:ly)?|"
    r"(?:last|latest) (?:thing|step|change|message|task|topic)s?)\b"
    r"|\A\W*(?:please )?(?:resume|continue|go on)\W*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Period:
    """A time the query names: a day where it is known, else a month, else a year. None: not said."""

    year: int | None = None
    month: int | None = None
    day: int | None = None

    def contains(self, at: datetime) -> bool:
        pairs = ((self.year, at.year), (self.month, at.month), (self.day, at.day))
        return all(mentioned is None or mentioned == its for mentioned, its in pairs)


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query, read. terms: to ask the index for, each once, the query's own first.

    weights: what each term counts by itself, before its rarity (marks: nothing). pairs: places in `terms`
    that stood side by side.
    speakers: those of the conversation's names that the query names (lower case). periods: the times it names.
    names_nothing: has no word beside those that say which kind of thing is asked for.
    """

    text: str
    terms: tuple[str, ...]
    weights: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...]
    intents: frozenset[Intent]
    speakers: frozenset[str] = frozenset()
    periods: tuple[Period, ...] = ()
    is_generic: bool = False

    @property
    def summary_kinds(self) -> frozenset[HighlightKind]:
        """What summaries tell that a question like "what errors did we meet?" asks for, naming nothing in particular:
        they answer it, not the places where its few words stand. Empty: the question names something."""
        if not self.is_generic:
            return frozenset()
        summary_kinds = frozenset(
            kind for intent, kinds in _SUMMARY_KINDS.items() if intent in self.intents for kind in kinds
        )
        return summary_kinds or (OVERVIEW_KINDS if self.wants_whole_history else summary_kinds)

    @property
    def wants_whole_history(self) -> bool:
        """Asks about the conversation as a whole: a finer outline answers, not more excerpts."""
        return Intent.WHOLE in self.intents

    @property
    def wants_work(self) -> bool:
        """Asks for code, a command or its output, rather than for what people or the agent said, meant or decided."""
        if self.intents & {Intent.USER_SAID, Intent.AGENT_SAID, Intent.DECISION, Intent.LIKING}:
            return False
        # Why something failed stands in output; why something was changed, in what people said.
        changed = Intent.CHANGE in self.intents and Intent.WHY not in self.intents
        return changed or bool(self.intents & {Intent.ERROR, Intent.RESULT, Intent.COMMAND})


def parse(text: str, speakers: Sequence[str] = ()) -> ParsedQuery:
    """The plan for a query. speakers: the names that turns of the conversation carry."""
    sequence = analyzer.analyze(text)[: 4 * TERMS_MAX]
    terms = list(dict.fromkeys(sequence))[:TERMS_MAX]
    place = {term: i for i, term in enumerate(terms)}
    words = [term for term in sequence if not term.startswith(analyzer.EXACT)]
    pairs = {
        (place[a], place[b]) for a, b in pairwise(words)
        if a in place and b in place and a != b
    }  # fmt: skip
    intents = frozenset(intent for intent, pattern in _INTENT_PATTERNS if pattern.search(text))
    mentioned, periods = frozenset(_mentioned_speakers(text, speakers)), tuple(_periods(text))
    return ParsedQuery(
        text,
        (*terms, *SPEAKER_TERMS),
        (1.0,) * len(terms) + (0.0,) * len(SPEAKER_TERMS),
        tuple(sorted(pairs)),
        intents,
        mentioned,
        periods,
        not mentioned and not periods and _is_generic(text, terms),
    )


def _is_generic(text: str, terms: Sequence[str]) -> bool:
    intent_terms = {
        term
        for intent, pattern in _INTENT_PATTERNS
        if intent in _SUMMARY_KINDS or intent is Intent.WHOLE
        for match in pattern.finditer(text)
        for term in analyzer.analyze(match[0])
    }
    return all(term in intent_terms or term in _FILLER_TERMS for term in terms)


def asks_for_status(text: str) -> bool:
    """Whether a question like "what is left to do?" asks how far things have come, and names nothing besides."""
    found = [match[0] for match in _STATUS_QUESTION.finditer(text)]
    says = {term for words in found for term in analyzer.analyze(words)} | _FILLER_TERMS
    return bool(found) and all(term in says for term in analyzer.analyze(text)[:TERMS_MAX])


def _mentioned_speakers(text: str, speakers: Sequence[str]) -> list[str]:
    words = set(re.findall(r"\w+", text.lower()))
    return [name.lower() for name in speakers if words & {name.lower(), *name.lower().split()}]


_MONTHS = {
    name: number
    for number, names in enumerate(
        ("january jan", "february feb", "march", "april apr", "may", "june jun", "july jul", "august aug",
         "september sept sep", "october oct", "november nov", "december dec"), 1)
    for name in names.split()
}  # fmt: skip
_MONTH = "|".join(sorted(_MONTHS, key=len, reverse=True))
_ISO = re.compile(r"\b((?:19|20)\d\d)-(\d\d)(?:-(\d\d))?\b")
_DAY_MONTH = re.compile(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)?,? ({_MONTH})\b,?(?: ((?:19|20)\d\d)\b)?", re.I)
_MONTH_DAY = re.compile(rf"\b({_MONTH})\b\.?(?: (\d{{1,2}})(?:st|nd|rd|th)?\b)?,?(?: (?:of )?((?:19|20)\d\d)\b)?", re.I)
_YEAR = re.compile(r"\b((?:19|20)\d\d)\b")


def _periods(text: str) -> list[Period]:
    """The dates, months and years a query names; "may" and "march" only as they are written for months."""
    found = [Period(int(y), int(m), int(d) if d else None) for y, m, d in _ISO.findall(text)]
    rest = _ISO.sub(" ", text)
    for day, month, year in _DAY_MONTH.findall(rest):
        found.append(Period(int(year) if year else None, _MONTHS[month.lower()], int(day)))
    rest = _DAY_MONTH.sub(" ", rest)
    for match in _MONTH_DAY.finditer(rest):
        month, day, year = match.groups()
        if month.lower() in ("may", "march") and not (month[0].isupper() and (day or year or _after_in(match))):
            continue
        found.append(Period(int(year) if year else None, _MONTHS[month.lower()], int(day) if day else None))
    return found or [Period(year=int(year)) for year in _YEAR.findall(rest)]


def _after_in(match: re.Match[str]) -> bool:
    return match.string[: match.start()].lower().endswith(("in ", "during ", "of ", "since ", "by ", "last "))


def utc_datetime(seconds: float) -> datetime:
    """An instant as a date in UTC, to hold against a period."""
    return datetime.fromtimestamp(seconds, UTC)
