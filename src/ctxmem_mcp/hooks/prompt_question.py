"""Recognises prompts that ask how things are or were: their answer is often in the past, if it is not in the context.

Most prompts of a running session ask for work or are about the change being made, and need nothing of the past even if
they have its words. Pure.
"""

from __future__ import annotations

import re

from ctxmem_mcp.patterns import lazy_regex

# A longer prompt mostly brings along what it is about.
_CHARS_MAX = 600
_ENGLISH = (
    r"why (?:is|are|do|does|did|was|were)|how (?:is|are|do|does|did|was|were|would|will)"
    r"|what (?:is|are|do|does|did|was|were|happens|would happen)|where (?:is|are|do|does|did|was|were)"
    r"|when (?:do|does|did)|(?:on |to |in )?which|(?:do|don'?t|did|didn'?t|have|haven'?t|had) we"
    r"|(?:does|doesn'?t|did|didn'?t|was|wasn'?t|is|isn'?t|are|aren'?t) (?:it|there|the)|what's the reason|any reason"
)
_GERMAN = (
    r"(?:warum|wieso|weshalb|wo|wann) (?:ist|sind|war|waren|hat|haben|hatten|wird|wurde|wurden|geht|läuft|macht)"
    r"|wie (?:ist|sind|war|waren|funktioniert|geht|läuft|sieht)|was (?:ist|war|passiert|macht|steht)"
    r"|(?:haben|hatten) wir|gibt es|gab es|welche[rnms]?"
)
_FRENCH = (
    r"pourquoi|comment (?:est|sont|fonctionne|marche)|où (?:est|sont|était)|avons-nous|avait-on|y a-t-il|quel(?:le)?s?"
)
_SPANISH = r"por qué|cómo (?:es|está|funciona|se)|dónde (?:está|están|estaba)|teníamos|tenemos|hay|cuál(?:es)?"
_STATE = lazy_regex(rf"(?<!\w)(?:{_ENGLISH}|{_GERMAN}|{_FRENCH}|{_SPANISH})(?!\w)(?! you\b)", re.IGNORECASE)
# What these name is in the context.
_CHANGE = lazy_regex(
    r"\b(?:(?:the|these|those|this|that|your) (?:change|diff|fix|edit|patch)(?:e?s)?|(?:this|that) means?"
    r"|(?:die|diese|deine) änderung(?:en)?)\b",
    re.IGNORECASE,
)


def asks_how_things_are(prompt: str) -> bool:
    """Returns whether a prompt asks how something is, was, or works, and not about the change being made."""
    if len(prompt) > _CHARS_MAX:
        return False
    match = _STATE.search(prompt)
    return match is not None and (not match.start() or "?" in prompt[match.end() :]) and not _CHANGE.search(prompt)
