"""Finds what a user asked for, in the user's words without the politeness around it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.request_templates import template_title
from ctxmem_mcp.summarizers.sentences import Message, shorten
from ctxmem_mcp.text.cues import sentence_states

_LEADING_FILLER = lazy_regex(
    r"\A(?:(?:hey|hi|hello|okay|ok|alright|so|well|please|pls|thanks(?: a lot| so much)?|"
    r"thank you(?: so much)?|great|cool|nice|"
    r"uh+|um+|dude|man|look(?=[.…])|e\.g|perfect|awesome|good|now|also|and|then|yes|yeah|yep|yup|no|nope|hmm+|"
    r"ah|oh|wow|actually|btw|by the way|"
    r"right|sure|sorry|"
    r"just|but|\d{1,2},? and(?= i\b)|i see|got it|makes sense|last thing|one more thing|another thing|next|"
    r"first|finally|"
    r"for now|quick question|(?:question|task|check|q)(?=:))\b[\s,.!:;–—-]*"
    r"|(?:can|could|would|will) (?:you|we)(?: please| also| just| maybe)* "
    r"|(?:i(?:'d| would) (?:really )?(?:like|love)|i (?:want|need)|we (?:want|need)) (?:you )?(?:also )?to "
    r"|i(?:'d| would) (?:like|love) (?=(?:some|more|help)\b)"
    r"|(?:let'?s|let us) (?:please |now |also |just )*"
    r"|(?:address|tackle|discuss|handle): +"
    r"|(?:help me(?: to)?|go ahead and|make sure to|try to|feel free to|i think we should|we should|you should|"
    r"i was wondering if you could) "
    r"|i (?:was|am|'m) (?:also |just )?(?:wondering|curious)(?: if you could)?,? (?=(?:how|what|why|where|when|"
    r"if|whether)\b)"
    r"|i wonder (?:if|whether) (?:it makes sense to |we (?:should|could) )?"
    r"|do you (?:have|know)(?: of)? any (?:information|idea|ideas|tips|suggestions|recommendations|"
    r"advice) (?:on|about|for|of) "
    r"|(?:tell|show) me (?=(?:how|what|why|more|about)\b)"
    r"|it (?:feels|seems|looks) (?:to me )?(?:like |that )?"
    r"|i(?:'m| am) thinking (?:about|of) "
    r"|(?:with that being said|that being said|in that case|anyway|basically),? )",
    re.I,
)
_TRAILING_FILLER = lazy_regex(
    r"[\s,]*(?:please|pls|thanks(?: a lot| in advance)?|thank you|for me|or something|if (?:possible|you can)|"
    r"(?:,|\?)? ?(?:what do you think|right|yeah|ok|okay|correct|no))[\s.!?]*\Z|\s*(?:[:;]-?[)(DP]|😅|🙏|👍|😂)+\s*\Z",
    re.I,
)
_CONTENT_FREE = lazy_regex(
    r"\A[\W_]*(?:(?:yes|yeah|yep|yup|y|ok|okay|k|no|nope|sure|fine|good|great|perfect|nice|cool|thanks|"
    r"thank you|thx|ty|lgtm|"
    r"continue|go|go on|go ahead|proceed|next|do it|do that|sounds good|looks good|that works|please|"
    r"keep going|carry on|"
    r"try again|again|retry|resume|hi|hello|hey|test|stop|wait|done|right|correct|exactly|agreed|a|b|c|d|both|"
    r"all|option|push|"
    r"\d{1,2}|it|let'?s|that|this|with|one|the|first|second|please do|table|list|from|here|i agree|got it|wow|"
    r"bye|see you|absolutely|definitely|"
    r"sweet|awesome|amazing|neat|excellent|wonderful|lovely|brilliant|fantastic|super|beautiful|impressive|cheers|"
    r"love|that'?s|very|so|much|better|nicely|works|worked|ha(?:ha)*|lol|yay|congrats|kudos|well|"
    r"of course|why not|let'?s do it|let'?s go)[\W_]*){1,6}\Z",
    re.I,
)
_REQUEST_SIGN = lazy_regex(
    r"\?|\b(?:can|could|would|will) (?:you|we)\b|\bplease\b|\blet'?s\b|\bi(?:'d| would) like\b|\bi (?:want|need)\b|"
    r"\bhelp me\b|\b(?:should|must)\b|\bi wonder\b|\bwe need\b",
    re.I,
)
_IMPERATIVE = lazy_regex(
    r"(?:add|analy[sz]e|apply|brainstorm|build|change|check|clean|commit|compare|compose|continue|convert|"
    r"create|debug|delete|"
    r"describe|design|document|draft|draw|edit|enable|ensure|explain|explore|extract|figure|find|finish|fix|"
    r"generate|give|"
    r"implement|improve|install|investigate|list|look|make|merge|migrate|move|open|optimi[sz]e|plan|prepare|"
    r"print|provide|push|"
    r"read|rebase|recheck|recommend|refactor|release|remove|rename|replace|reply|research|respond|rerun|"
    r"restore|revert|review|rewrite|run|"
    r"search|set|show|simplify|split|start|suggest|summari[sz]e|support|switch|tell|test|translate|try|"
    r"understand|undo|update|upgrade|use|"
    r"verify|write)\b",
    re.I,
)
# A message that begins so begins with its request: a verb and its object.
_ORDER = lazy_regex(rf"(?:please |now |ok,? )*{_IMPERATIVE.pattern}(?: \S+){{3}}", re.I)
_QUESTION_WORDS = frozenset(
    """what why how where when who which whose is are was were do does did should can could would will has have had
    am in any""".split()
)
_PRONOUNS = frozenset("it this that these those them they he she him his her there one ones".split())
_WORD = lazy_regex(r"[A-Za-zÀ-ɏ][\w'-]{3,}|[\u0400-\uffdc]{2,}")
# The tag of a template: "<command_purpose> Review the branch".
_TAG = lazy_regex(r"\A<[a-z]\w*[_-]\w+>\s*(?=\w)")
_ARTICLE = lazy_regex(r"\Athe (?=\w+ing\b)", re.I)
_RULE = lazy_regex(r"\A\W*(?:don'?t|do not|never|always|only|keep|make sure|avoid|no)\b", re.I)
_GERUND = lazy_regex(r"\A(?:\S+ ){0,4}\w+ing\b")
_PROPOSAL = lazy_regex(
    r"\b(?:want me to|should i|shall i|would you like|do you want|ready to|may i|can i|does (?:this|that) look)\b", re.I
)
# How an assistant offers to do something.
_PROPOSED = lazy_regex(
    r"\A(?:so,? |now,? |ok(?:ay)?,? )?(?:(?:do you |would you )?(?:want|like) me to|should i|shall i|may i|can i|"
    r"would you like me to|do you want me to|ready to|should we|shall we) +(?:also |now |go ahead and |just )*",
    re.I,
)
_STATEMENT_THEN_REQUEST = lazy_regex(
    r"\A(?:i|we|it|there|that|this)\b.{10,200}?[,;]?\s(?:(?:so )?i wonder (?:if|whether) |(?:so |and )?(?:can|"
    r"could|would|will) you |"
    r"(?:so )?please |so let'?s |(?:so )?i(?:'d| would) like (?:you )?to )(?=.{12})",
    re.I,
)
# "Here's the issue text:" is not what is asked for.
_INTRODUCES = lazy_regex(r"\A\W*(?:here(?:'s| is| are)|this is|see|below (?:is|are))\b.{0,60}:\Z", re.I)
# The line above the title of a pasted issue.
_ISSUE_LABEL = lazy_regex(r"\A\W*(?:issue|bug|feature|problem|title|task|story|ticket)(?: title)?\W*:\Z", re.I)
_OPTION = lazy_regex(r"\A\W*(?:option |number |#)?([0-9]{1,2}|[A-Da-d])\b[\s.,)]*(?:please)?\W*\Z")


# The title of a plan to carry out, or of an issue, is certainly what the user asks for.
TEMPLATE_WEIGHT = 8.0


@dataclass(frozen=True, slots=True)
class Request:
    """A user's request.

    Attributes:
        index: Its turn.
        core: The request as a title would phrase it.
        sentence: The sentence that contains it.
        is_weak: Whether it means nothing on its own ("yes").
        weight: How likely the sentence is the request.
    """

    index: int
    core: str
    sentence: str
    is_weak: bool
    weight: float


def is_weak(text: str) -> bool:
    """Whether a text is only an assent, a greeting or a choice, which means nothing on its own."""
    return len(text) < 60 and (_CONTENT_FREE.match(text) is not None or not any(map(str.isalnum, text)))


def starts_with_verb(text: str) -> bool:
    """Whether a text begins with the verb of an order ("fix", "add")."""
    return _IMPERATIVE.match(text) is not None


def strip_politeness(sentence: str) -> str:
    """Reduces a request to its core: no greeting, politeness or filler."""
    text = _skip_statement(_TAG.sub("", sentence))
    for _ in range(8):
        found = _LEADING_FILLER.match(text)
        shorter = text[found.end() :].lstrip(" ,.!:;–—-") if found else text
        if shorter == text or len(shorter) < 8:
            break
        text = shorter
    while (found := _TRAILING_FILLER.search(text, max(8, len(text) - 40))) is not None:
        shorter = text[: found.start()]
        has_question_mark = "?" in text[len(shorter) :]
        text = shorter + ("?" if has_question_mark and not shorter.endswith("?") and _is_question(shorter) else "")
    text = _ARTICLE.sub("", text.strip(" ,;:")) if text != sentence else text.strip(" ,;:")
    if text.endswith("?") and not _is_question(text):
        text = text.rstrip("? ")
    return capitalize(text.rstrip(".!") if not text.endswith(("…", "...")) else text)


def _skip_statement(sentence: str) -> str:
    """The request of 'I feel X, can you do Y': Y."""
    found = _STATEMENT_THEN_REQUEST.match(sentence)
    if not found or len(sentence) < 60:
        return sentence
    request = sentence[found.end() :]
    if any(word in _PRONOUNS or word == "its" for word in request.lower().split()[:3]):
        return sentence
    return re.sub(r"\Ait makes sense to ", "", request, flags=re.I)


def _is_question(text: str) -> bool:
    first = text.split(" ", 1)[0].lower().strip("\"'*`")
    return (
        first in _QUESTION_WORDS or first.endswith(("n't", "'s")) or (_IMPERATIVE.match(text) is None and "?" in text)
    )


def capitalize(text: str) -> str:
    """Capitalises the first letter, unless the first word is code."""
    first = text.split(" ", 1)[0]
    is_camel_case = first[:1].islower() and not first[1:].islower() and first.isalpha() and len(first) > 1
    is_word = (first.isalpha() and not is_camel_case) or "'" in first or "-" in first
    return text[:1].upper() + text[1:] if is_word else text


def find_request(message: Message) -> Request | None:
    """Returns the request of a message, or None if it contains no text of the user."""
    if message.role != "user" or message.origin not in ("text", "command", "shell"):
        return None
    if message.origin != "text":
        text = message.sentences[0]
        return Request(message.index, shorten(text, 60), shorten(text, 160), True, 0.5)
    if title := template_title(message.text):
        return Request(message.index, title, message.sentences[0], False, TEMPLATE_WEIGHT)
    best, weight = "", -9.0
    for position, sentence in enumerate(message.sentences[:14]):
        score = _score(sentence) - 0.25 * min(position, 6)
        if position < 2 and message.pasted_text and sentence.endswith(":"):
            score += 3.0  # introduces pasted text
        if position == 0 and _ORDER.match(sentence):
            score += 1.5  # what follows says how to do it
        if position and _ISSUE_LABEL.match(message.sentences[position - 1]):
            score += 5.0
        if score > weight:
            best, weight = sentence, score
    if not best:
        return None
    return Request(message.index, strip_politeness(best), best, is_weak(best), weight)


def _score(sentence: str) -> float:
    if is_weak(sentence):
        return -2.0
    core = strip_politeness(sentence)
    words = len(_WORD.findall(core[:300]))
    score = min(words, 8) * 0.5 - 0.4 * sum(word in _PRONOUNS for word in core[:200].lower().split())
    if _REQUEST_SIGN.search(sentence) or sentence_states("request", sentence):
        score += 1.5
    if _RULE.match(sentence):
        score -= 1.5
    elif _IMPERATIVE.match(core):
        score += 2.0
    elif _GERUND.match(core) and len(core) < len(sentence) - 3:
        score += 1.5
    if sentence.startswith(("Something ", "Or ", "And ", "Like ", "Also like ", "Maybe ")):
        score -= 1.5
    if _INTRODUCES.match(sentence):
        score -= 2.5
    return score - (1.0 if words < 2 else 0.0) - (0.5 if sentence.endswith(":") and len(sentence) < 30 else 0.0)


def find_choice(answer: str, question: Message | None) -> str:
    """Returns what a short answer ("yes", "2") decided: the option it picks or the question it answers; else ''."""
    if question is None or not question.sentences:
        return ""
    if option := _OPTION.match(answer):
        return _option_text(option[1], question)
    open_questions = [sentence for sentence in question.sentences[-8:] if sentence.endswith("?") and len(sentence) > 14]
    proposals = [sentence for sentence in open_questions if _PROPOSAL.search(sentence)]
    return (proposals or open_questions or [""])[-1]


def proposed_action(question: str) -> str:
    """'Add a test' of 'Want me to add a test?'; empty if the question names no object ("Want me to do it?")."""
    found = _PROPOSED.match(question)
    if not found:
        return question
    action = question[found.end() :].rstrip("?？ ")
    return "" if _PRONOUNS.intersection(action.lower().split()[:4]) else capitalize(action)


def _option_text(label: str, question: Message) -> str:
    mark = re.compile(rf"(?:\A|\s)\(?(?:option )?{re.escape(label)}[.):\s]\s*(\S.{{8,160}})", re.I)
    for line in question.text.split("\n"):
        if found := mark.match(line.replace("**", "")):
            return found[1].strip()
    return ""


def last_assistant_message(messages: Sequence[Message], before_index: int) -> Message | None:
    """Returns the assistant's last message before a turn; reasoning does not count."""
    for message in reversed(messages):
        if (
            message.index < before_index
            and message.role == "assistant"
            and message.sentences
            and not message.is_reasoning
        ):
            return message
    return None
