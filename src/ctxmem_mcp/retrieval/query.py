"""Parses a query: the terms to look up in the index, and what kind of answer it asks for. Pure.

    parsed = parse("When did Caroline fix the crash in parseConfig?", speakers=["Caroline", "Melanie"])
    parsed.terms     ('carolin', 'fix', 'crash', 'pars', 'configur', '=parseconfig', ...)
    parsed.intents   {WHEN, ERROR, CHANGE}

Each intent is recognised by many wordings, because people rarely use the words of the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from itertools import pairwise

from ctxmem_mcp.models import HighlightKind
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.retrieval.compounds import Vocabulary, compound_forms
from ctxmem_mcp.text import analyzer, chunk_flags, cues
from ctxmem_mcp.text.language import detect

# A query with more terms than this is pasted text; its first terms suffice.
TERMS_MAX = 48
# Looked up with every query to list what the user and the agent said. They do not contribute to the match.
SPEAKER_TERMS = (chunk_flags.SAID_BY_USER, chunk_flags.SAID_BY_AGENT)


class Intent(StrEnum):
    """What an answer would contain. A query can have several intents."""

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
    ORDER = "order"


# Wordings of each intent: alternatives of a pattern, matched as whole words, ignoring case.
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
    Intent.ORDER: (
        r"(?:in )?(?:what|which) (?:\w+ )?(?:order|sequence) (?:did|do|had|have) (?:i|we)|"
        r"order (?:in which|of how|that) (?:i|we)|sequence in which (?:i|we)|"
        r"(?:what|which)(?: \w+){0,3} did i (?:bring up|mention|ask|raise|talk about|discuss)(?: \w+){0,4} first|"
        r"did i (?:bring up|mention|ask|raise)(?: \w+){0,6} (?:before|first|after|earlier)"
    ),
}
_INTENT_PATTERNS = tuple(
    (intent, lazy_regex(rf"\b(?:{wording})\b", re.IGNORECASE)) for intent, wording in _WORDINGS.items()
)


# The kinds of summary highlights that answer each intent.
_SUMMARY_KINDS: dict[Intent, tuple[HighlightKind, ...]] = {
    Intent.ERROR: ("error", "ending"),
    Intent.DECISION: ("decision",),
    Intent.CHANGE: ("file",),
    Intent.RESULT: ("outcome",),
    Intent.USER_SAID: ("request", "decision"),
}
OVERVIEW_KINDS: frozenset[HighlightKind] = frozenset(("request", "error", "ending", "decision", "outcome"))
# Words that a generic question may contain.
_FILLER_TERMS = frozenset(
    analyzer.analyze(
        """encounter encountered hit met meet face faced run into see seen have happen happened happening make made
        do done come came so far session sessions conversation project history work working worked list show tell
        give find thing things stuff until till now yet today file files code everything anything something during
        whole entire main important key please brief short user agent assistant kind kinds sort type types"""
    )
)


# Questions about the current state. The latest turns answer them, not the turns that contain these words.
_STATUS_QUESTION = lazy_regex(
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


# Openings of a question that asks for a change, a command, its output or a failure, rather than for what it meant.
_WORK_QUESTION = lazy_regex(
    r"\W*(?:(?:what|which) (?:was|were|is|are) the (?:\w+ )?(?:results?|outputs?|outcomes?|errors?|commands?)\b"
    r"|(?:what|which) (?:\w+ ){0,4}(?:errors?|failures?|warnings?|commands?)\b"
    r"|what (?:did we|have we) (?:change|edit|run|add|remove)\w*|how did we\b"
    r"|why (?:did|does|do) (?:the|our|this|that) (?:\w+ ){0,2}tests?\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Period:
    """A day, month or year that the query names. A field is None if the query leaves it open."""

    year: int | None = None
    month: int | None = None
    day: int | None = None

    def contains(self, at: datetime) -> bool:
        """Returns whether a point in time (UTC) is in this period."""
        pairs = ((self.year, at.year), (self.month, at.month), (self.day, at.day))
        return all(mentioned is None or mentioned == its for mentioned, its in pairs)


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A parsed query.

    Attributes:
        text: The query itself.
        terms: The terms to look up, without duplicates: the query's own, then `SPEAKER_TERMS`.
        language: The language of the query (`language.detect`); None if nothing tells it.
        other_forms: Term -> its forms in other languages of the conversation, which count as occurrences of it.
        weights: Weight of each term before its idf: 1 for the query's own, 0 for `SPEAKER_TERMS`.
        pairs: Pairs of positions in `terms` that are adjacent in the query.
        intents: What kinds of answers the query asks for.
        speakers: Names of speakers that the query mentions, in lower case.
        periods: Periods that the query mentions.
        is_generic: Whether the query has no word besides those that state its intents ("what errors did we meet?").
    """

    text: str
    terms: tuple[str, ...]
    weights: tuple[float, ...]
    pairs: tuple[tuple[int, int], ...]
    intents: frozenset[Intent]
    speakers: frozenset[str] = frozenset()
    periods: tuple[Period, ...] = ()
    is_generic: bool = False
    language: str | None = None
    other_forms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def forms(self) -> tuple[str, ...]:
        """The terms and their forms in other languages."""
        return (*self.terms, *(form for forms in self.other_forms.values() for form in forms))

    @property
    def summary_kinds(self) -> frozenset[HighlightKind]:
        """The kinds of highlights that answer a generic query; empty if the query is not generic.

        Summaries answer a question like "what errors did we meet?"; the turns that contain its few words do not.
        """
        if not self.is_generic:
            return frozenset()
        found = frozenset(kind for intent, kinds in _SUMMARY_KINDS.items() if intent in self.intents for kind in kinds)
        return found or (OVERVIEW_KINDS if self.wants_whole_history else found)

    @property
    def wants_whole_history(self) -> bool:
        """Whether the query is about the whole conversation, which a finer outline answers, not more excerpts."""
        return Intent.WHOLE in self.intents

    @property
    def wants_work(self) -> bool:
        """Whether the query asks for code, a command or its output, rather than for what somebody said or decided."""
        if self.intents & {Intent.USER_SAID, Intent.AGENT_SAID, Intent.DECISION, Intent.LIKING}:
            return False
        # Output states why something failed; what people said states why something was changed.
        changed = Intent.CHANGE in self.intents and Intent.WHY not in self.intents
        about_work = changed or bool(self.intents & {Intent.ERROR, Intent.RESULT, Intent.COMMAND})
        # People use such words for causes and findings too, which the agent states in prose. A question about code or
        # output names an identifier, or opens by asking for the thing itself.
        return about_work and (self.names_identifier or bool(_WORK_QUESTION.match(self.text)))

    @property
    def names_identifier(self) -> bool:
        """Whether the query contains a function, file, flag or another exact name."""
        return any(term.startswith(analyzer.EXACT) for term in self.terms)


def parse(text: str, speakers: Sequence[str] = (), languages: Sequence[str] = ()) -> ParsedQuery:
    """Parses a query.

    Args:
        text: The query.
        speakers: Names of the conversation's speakers, as its turns carry them.
        languages: The languages of the conversation besides English.

    Returns:
        The parsed query. `terms` has at most `TERMS_MAX` terms of the query's own.
    """
    return _parse(text, tuple(speakers), tuple(languages))


# A search over several conversations parses its query for each of them.
@lru_cache(maxsize=64)
def _parse(text: str, speakers: Sequence[str], languages: Sequence[str]) -> ParsedQuery:
    language = detect(text)
    analyzed = analyzer.analyze_query(text, list(dict.fromkeys((language or "en", *languages, "en"))))[: 4 * TERMS_MAX]
    sequence = [forms[0] for forms in analyzed]
    terms = list(dict.fromkeys(sequence))[:TERMS_MAX]
    place = {term: i for i, term in enumerate(terms)}
    words = [term for term in sequence if not term.startswith(analyzer.EXACT)]
    pairs = {
        (place[a], place[b]) for a, b in pairwise(words)
        if a in place and b in place and a != b
    }  # fmt: skip
    intents = frozenset(intent for intent, pattern in _INTENT_PATTERNS if pattern.search(text))
    if foreign := _foreign_questions(language):
        folded = cues.fold(text, language)
        intents |= {intent for intent, pattern in foreign.items() if pattern.search(folded)}
    mentioned, periods = frozenset(_mentioned_speakers(text, speakers)), tuple(_periods(text))
    return ParsedQuery(
        text,
        (*terms, *SPEAKER_TERMS),
        (1.0,) * len(terms) + (0.0,) * len(SPEAKER_TERMS),
        tuple(sorted(pairs)),
        intents,
        mentioned,
        periods,
        not mentioned and not periods and _is_generic(text, terms, language),
        language,
        {forms[0]: forms[1:] for forms in analyzed if forms[1:] and forms[0] in place},
    )


def clear_cache() -> None:
    """Drops the texts of parsed queries, after something was forgotten."""
    _parse.cache_clear()


def with_compounds(parsed: ParsedQuery, vocabulary: Vocabulary) -> ParsedQuery:
    """Adds the compounds of the query's terms, and the parts of those that are compounds, as other forms of them."""
    found = compound_forms(parsed.terms, vocabulary, parsed.language or "")
    forms = {term: (*parsed.other_forms.get(term, ()), *more) for term, more in found.items()}
    return replace(parsed, other_forms={**parsed.other_forms, **forms})


def _foreign_questions(language: str | None) -> dict[Intent, re.Pattern[str]]:
    """The wordings of the intents in another language than English."""
    if language in (None, "en"):
        return {}
    return {Intent(name): pattern for name, pattern in cues.question_patterns(language or "").items()}


def _is_generic(text: str, terms: Sequence[str], language: str | None) -> bool:
    if foreign := _foreign_questions(language):
        return _is_generic_in(text, terms, language or "", foreign)
    intent_terms = {
        term
        for intent, pattern in _INTENT_PATTERNS
        if intent in _SUMMARY_KINDS or intent is Intent.WHOLE
        for match in pattern.finditer(text)
        for term in analyzer.analyze(match[0])
    }
    return all(term in intent_terms or term in _FILLER_TERMS for term in terms)


def _is_generic_in(text: str, terms: Sequence[str], language: str, patterns: Mapping[Intent, re.Pattern[str]]) -> bool:
    """Whether nothing but stop words is left of the text without the words that state its intents."""
    rest = cues.fold(text, language)
    for intent, pattern in patterns.items():
        if intent in _SUMMARY_KINDS or intent is Intent.WHOLE:
            rest = pattern.sub(" ", rest)
    if filler := cues.pattern("filler", language):
        rest = filler.sub(" ", rest)
    return bool(terms) and not analyzer.analyze_query(rest, (language,))


def asks_for_status(text: str) -> bool:
    """Returns whether a question asks for the current state and nothing else, like "what is left to do?"."""
    found = [match[0] for match in _STATUS_QUESTION.finditer(text)]
    known = {term for words in found for term in analyzer.analyze(words)} | _FILLER_TERMS
    return bool(found) and all(term in known for term in analyzer.analyze(text)[:TERMS_MAX])


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
_ISO = lazy_regex(r"\b((?:19|20)\d\d)-(\d\d)(?:-(\d\d))?\b")
_DAY_MONTH = lazy_regex(rf"\b(\d{{1,2}})(?:st|nd|rd|th)?(?: of)?,? ({_MONTH})\b,?(?: ((?:19|20)\d\d)\b)?", re.I)
_MONTH_DAY = lazy_regex(rf"\b({_MONTH})\b\.?(?: (\d{{1,2}})(?:st|nd|rd|th)?\b)?,?(?: (?:of )?((?:19|20)\d\d)\b)?", re.I)
_YEAR = lazy_regex(r"\b((?:19|20)\d\d)\b")


def _periods(text: str) -> list[Period]:
    """The dates, months and years in a query; "may" and "march" count only if written as months."""
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
    """Converts seconds since 1970 to a UTC datetime."""
    return datetime.fromtimestamp(seconds, UTC)
