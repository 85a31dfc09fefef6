"""Takes the lead-in off an assistant's sentence ("Now let me", "I can see that"), and finds narration. Pure.

An assistant that calls tools says before each call what it is about to do. Such a sentence is worth a line only for
what it is about: the verb phrase is kept, and what only tells of looking ("Let me check the tests") is narration.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import requests
from ctxmem_mcp.text import cues

# A sentence without its lead-in has at least this many characters, else it is left as it is.
_CHARS_MIN = 12
_OPENING = (
    r"(?:(?:good|great|perfect|excellent|now|ok(?:ay)?|next|first|then|so|also|but|and|actually|wait|hmm+|i see|"
    r"finally|alright|done|right|interesting|wow|oh|however|almost there|sure|yes|no|"
    r"for now|instead(?! of)|additionally|basically|note that|in short)\b[\s,.!:–—-]+)*"
)
_LEAD_IN = lazy_regex(
    rf"\A(?P<opening>{_OPENING})"
    r"(?P<intent>(?:let me|let's|let us|time to|we should|i(?:'ll| will| need to| should| want to| have to|"
    r"'m going to| am going to|'d like to)|we (?:need|have) to|i also need to|need to)\s+"
    r"(?:(?:also|now|just|first|then|actually|quickly|go ahead and|try to|start by|continue by|continue to|"
    r"do this more \w+)\s+)*)?",
    re.I,
)
# An intention at the end of a sentence.
_TRAILING_INTENT = lazy_regex(r"(?:\s[—–-]|[,;:])\s+(?:so |and )?(?P<intent>(?:let me|let's|i'll|i will)\s.*)\Z", re.I)
_INTENT_SIGNS = ("et me ", "et's ", "I'll ", "I will ")
_LEADING = lazy_regex(r"(?:for|given|since|because|as|to|if|when|while|before|after|now|next|first|then|based)\b", re.I)
# What names only a thing, before a call that does something with it: "Now the scroll helpers:".
_THING = lazy_regex(
    r"\A(?:(?:and|ok(?:ay)?|good|great|perfect|done)\b[\s,.!–—-]+)*(?:now|next|then|first|finally),? "
    r"(?P<thing>(?:the|its|both|an?|two|three) [^.:;—]{8,100}):\Z",
    re.I,
)
_STATES_SOMETHING = lazy_regex(
    r"\b(?:is|are|was|were|has|have|had|does|do|did|can|could|will|would|should|must|needs?|pass(?:es)?|fails?|"
    r"works?|compiles?|shows?|says|i|we|you|it)\b|n't\b",
    re.I,
)
_SEQUENCE = lazy_regex(r"\b(?:now|next|first|then|finally)\b", re.I)
_PARTICIPLE = (
    r"(?:(?!need)\w+ed|built|made|written|rewritten|run|found|set|put|split|kept|left|sent|cut|done|taken|brought|"
    r"chosen|drawn|hidden|shown)\b"
)
_FINDING_LEAD_IN = lazy_regex(
    r"\A(?:i (?:can )?(?:now )?(?:see|found|notice|realize)(?: that)?|"
    rf"i(?:'ve| have)?(?: (?:now|also|just|already|successfully|properly|correctly))*(?=\s+{_PARTICIPLE})|"
    r"it (?:turns out|seems|looks like)(?: that)?|this (?:means|confirms)(?: that)?)\s+",
    re.I,
)
_USER_LEAD_IN = lazy_regex(
    r"\A(?:the|this) user (?:is (?=\w+ing)|has |just )?(?:now |also |just )?"
    r"(?P<verb>asking|asked|asks|wants|want|wanted|"
    r"suggesting|suggests|suggested|requesting|requests|requested|reporting|reports|reported|"
    r"says|said|saying|is right that|points out|pointing out|rejected|approved|confirmed|chose|interrupted)\b(?: me)?",
    re.I,
)
_USER_VERBS = {
    "asking": "asks", "asked": "asks", "want": "wants", "wanted": "wants", "saying": "says", "said": "says",
    "pointing out": "points out", "suggesting": "suggests", "suggested": "suggests", "requesting": "requests",
    "requested": "requests", "reporting": "reports", "reported": "reports",
}  # fmt: skip
# How an assistant tells what the user wanted, and what says nothing without the conversation around it.
_WANTED = lazy_regex(
    r"\AUser (?:wants|asks|suggests|requests|reports)(?: for| about| that)?+(?: me| us)?+(?: to)?+(?: also|"
    r" now| just| first)*+ "
    r"(?:(?:know|understand|see|find out|learn|clarify)(?: about)? (?=how|what|why|where|when|which|whether|if\b))?+"
    r"(?:option \d+ ?(?:[:(–—-]) ?)?+"
    r"(?!(?:continue|proceed|stop|wait|discuss|resume|go|try|confirm|commit|push|know|understand|see|move on|"
    r"keep going|do|"
    r"be|have|it|this|that|them|me|us|both|all|one|option|another|and|from|approve|i|we|you|they)\b)(?P<core>\S.{9,})",
    re.I,
)
_LOOKING = lazy_regex(
    r"\A(?:(?:look|read|see|check|explore|find|search|understand|examine|continue|view|verify|run|rerun|start|try|"
    r"investigate|review|inspect|get|fetch|think|trace|grep|open|list|do|wait|proceed|take|double|dig|confirm|test|show|"
    r"figure|go|use|analy[sz]e|identify|locate|compare|ensure|make sure)\b|"
    r"(?:looking|reading|checking|exploring|searching|examining|continuing|verifying|running|investigating|"
    r"reviewing|waiting|starting|proceeding|trying)\b)",
    re.I,
)
_CHANGE = lazy_regex(
    r"(?:add|adapt|build|change|clean|compute|consolidate|convert|correct|create|delete|document|drop|extract|fix|implement|improve|inline|"
    r"make|merge|migrate|modify|move|patch|port|refactor|register|remove|rename|replace|restore|revert|rewrite|set|"
    r"simplify|split|support|switch|update|use|wire|wrap|write)\b",
    re.I,
)
_SELF_TALK = lazy_regex(
    r"\A(?:i(?: now| can| still)* (?:have (?:a |an |the |all |enough |everything)|understand\b|think i\b|"
    r"know (?:how|what|where)\b)|"
    r"i(?:'m| am) (?:not sure|going|now|ready|using|checking|looking|reading|trying|running)\b|"
    r"let me\b|give me\b|(?:wait|hold on|hmm+|continuing)\b|ready to\b|back to\b|"
    r"that'?s (?:great|good|fine|it|all|a good|helpful|interesting|everything)\b|"
    r"(?:the|this) (?:looks|seems) (?:good|right|fine|correct)\b|"
    r"(?:you'?re|you are) (?:absolutely |completely |totally )?(?:right|correct)\b)",
    re.I,
)
# What stands before a list and says nothing without it: "Here's what I changed", "Key changes".
_LIST_HEAD = lazy_regex(
    r"\A(?:here(?:'s| is| are)\b.{0,60}|what (?:i|we|was|were|changed|to)\b.{0,20}|"
    r"(?:the |key |main |all |these |following |files? |code |test |next |summary of |list of |"
    r"two |three |four |five |\d+ )*"
    r"(?:changes|summary|files|steps|results?|notes?|options?|output|example|usage|details|benefits|overview|findings|"
    r"status|fixes|improvements|features|highlights|verification|tests|todos?|tasks|usage|following)"
    r"(?: (?:made|changed|modified|created|summary|complete[d]?|include|are|is|i made))?)\W*\Z",
    re.I,
)


class Stripped(NamedTuple):
    """A sentence without its lead-in. announces: whether that announced an intention ("Now let me ...")."""

    text: str
    announces: bool


def strip_lead_in(text: str) -> Stripped:
    """Returns a sentence without its lead-in and without the colon before what it introduces."""
    text = _intent_after_lead(text.rstrip(" :："))
    lead = _LEAD_IN.match(text)
    rest = text[lead.end() :] if lead else text
    announces = lead is not None and (
        lead["intent"] is not None or bool(_SEQUENCE.search(lead["opening"]) and requests.starts_with_verb(rest))
    )
    if not announces and (finding := _FINDING_LEAD_IN.match(rest)):
        rest = rest[finding.end() :]
    elif user := _USER_LEAD_IN.match(rest):
        verb = user["verb"].lower()
        rest = f"User {_USER_VERBS.get(verb, verb)}{rest[user.end() :]}"
    return Stripped(requests.capitalize(rest) if len(rest) >= _CHARS_MIN else text, announces)


def announced_thing(sentence: str) -> str:
    """'the scroll helpers' of 'Now the scroll helpers:'; empty if a sentence says more than what comes next."""
    found = _THING.match(sentence) if sentence.endswith(":") else None
    return found["thing"] if found and not _STATES_SOMETHING.search(found["thing"]) else ""


def _intent_after_lead(text: str) -> str:
    """'let me skip the hook' of 'For now, let me skip the hook'; else the whole text."""
    found = _TRAILING_INTENT.search(text) if any(map(text.__contains__, _INTENT_SIGNS)) else None
    if found is None:
        return text
    return text[found.start("intent") :] if _LEADING.match(text) else text


def is_narration(stripped: Stripped) -> bool:
    """Whether a sentence says only that the assistant looks at something, thinks or is about to list something."""
    text = stripped.text
    if stripped.announces and _LOOKING.match(text):
        return True
    return bool(_SELF_TALK.match(text) or _LIST_HEAD.match(text)) or cues.is_narration(text)


def wanted_by_user(text: str) -> str:
    """'Rename the flag' of 'User wants to rename the flag'; empty if a text does not tell what the user wanted."""
    found = _WANTED.match(text) if text.startswith("User ") else None
    return requests.capitalize(found["core"]) if found else ""


def starts_with_change(text: str) -> bool:
    """Whether an intention is to change something."""
    return _CHANGE.match(text) is not None
