"""Rates sentences by their form: how informative they are, and whether they state a decision, finding or fix. Pure.

No model: a sentence of conversation is informative if it contains what people later ask for (numbers, dates, names,
what somebody did, likes or plans), and not if it is a greeting, praise or general advice.
"""

from __future__ import annotations

import re

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.cues import sentence_states

QUESTION_MARKS = ("?", "？")
_NUMBERS = frozenset(
    """one two three four five six seven eight nine ten eleven twelve dozen hundred thousand twice half couple
    first second third""".split()
)
_TIMES = frozenset(
    """yesterday today tonight tomorrow ago weekend morning monday tuesday wednesday thursday friday saturday
    sunday january february march april june july august september october november december since recently last
    next week month year weeks months years summer winter spring christmas thanksgiving valentine's birthday
    anniversary""".split()
)
_RELATIONS = frozenset(
    """sister brother mom mum mother dad father son daughter kid kids wife husband partner family friend friends
    boss colleague colleagues job work dog dogs cat cats pet pets puppy house home apartment car bike school
    degree team company cousin aunt uncle grandma grandpa grandmother grandfather niece nephew roommate birthday
    hometown phone laptop camera favorite favourite name commute trip wedding thesis research garden""".split()
)
_ACTIONS = frozenset(
    """went got bought started moved joined finished visited met made took lost won found saw read watched played
    tried learned signed adopted attended completed booked ordered received gave spent paid sold built painted
    wrote ran cooked baked been working living studying training planning thinking going taking hoping using
    volunteering volunteered had passed quit grew graduated traveled travelled picked redeemed upgraded switched
    decided used own keep noticed hurt broke fixed donated helped came saved earned raised hiked drove flew
    camped reached failed opened organized researching saving carving""".split()
)
_FEELINGS = frozenset(
    """love loved prefer favorite favourite hate enjoy enjoyed allergic fan obsessed passion passionate dream
    afraid scared inspired goal want""".split()
)
_FIRST_PERSON = frozenset("i i'm i've i'd i'll we we're we've we'll my our me".split())
_NAME = lazy_regex(r"[A-Z][\w'’&.-]*[a-zA-Z](?: (?:of |the |and |de |& )?[A-Z][\w'’&.-]*\w)*")
_PLAIN_WORD = lazy_regex(r"[a-z0-9À-ɏ'’-]+")
_QUOTED_TITLE = lazy_regex(r"[\"“][^\"”]{3,60}[\"”]")
_FILLER = lazy_regex(
    r"\A(?:wow|thanks|thank you|that'?s|that is|that sounds|sounds|great|awesome|cool|nice|congrat\w*|hey|hi|"
    r"hello|bye|yeah|yep|good|"
    r"glad|happy to|i'm (?:so )?(?:glad|happy|proud|sorry)|i'd be happy|you'?re|you are|it'?s (?:great|awesome|"
    r"important|so|always)|"
    r"what a|absolutely|definitely|totally|of course|sure|certainly|have fun|good luck|take care|keep|remember|"
    r"talk to you|see you|"
    r"i (?:totally |completely )?(?:agree|hope|understand|apologi\w+|can imagine)|here (?:are|is)|these|"
    r"this (?:is|will|can)|"
    r"can't wait|let me know|as an ai|feel free|don't worry|by the way|looks|looking forward|i bet|i'm here|"
    r"as a|it'?s been|been a|long time|no problem|bon app|what'?s|how)\b",
    re.I,
)
_DIGIT = lazy_regex(r"\d")
_SMALL_TALK = lazy_regex(
    r"\b(?:since (?:we|our|i) (?:last )?(?:talked|chat\w*|spoke|met|saw)|been (?:a while|a bit|busy)|last chat)\b"
)
# Finding one of these is many times faster than the search, which begins at each word.
_SMALL_TALK_SIGNS = ("since ", "been ", "last chat")
_PHOTO = lazy_regex(r"\[shared image: (?:a (?:photo|picture|photography|close up) of )?([^\]]{3,160})\]")
_OPENER = lazy_regex(
    r"\A\(?(?:(?:by the way|btw|well|yeah|yep|yes|also|oh|so|and|actually|anyway|speaking of which|honestly|"
    r"wow|hey|thanks|ok|okay|sure|plus|"
    r"look|but(?: then)?|wait|hmm|you know)\b[,!.\s–-]+)+(?=\S{2})",
    re.I,
)

_USER_RULE = lazy_regex(
    r"\b(?:always|never|must(?: not)?|don'?t|do not|prefer|instead of|rather than|make sure|only|"
    r"should(?:n'?t)?|keep|avoid|"
    r"no need|let'?s|we(?:'ll| will)|decided|agreed?|go with|going with|stick with|i want|required?)\b",
    re.I,
)
# A user's sentence that rejects or corrects what the assistant did.
_CORRECTION = lazy_regex(
    r"\A\W*(?:no|nope|wrong|stop|undo|revert|wait),? (?!problem|worries|need|matter|idea|rush|for\b)\w+(?:\W+\w+){2}|"
    r"\b(?:that|this|it|you|these|those)(?:'?s|'?re| is| are) (?:still |just |completely |totally |all |also )?"
    r"(?:wrong|incorrect|nonsense|not (?:right|correct|true|good|enough|needed|necessary|what|how|"
    r"the (?:right|point|case|way)))\b|"
    r"\bnot what i (?:asked|wanted|meant|said)\b|\bi (?:didn'?t|did not|never) (?:ask|want|say|mean|approve)\b|"
    r"\bwhy (?:did|are|do|have|would) you\b|\bi (?:undid|reverted|rejected|already (?:told|said))\b|"
    r"\byou (?:just )?(?:broke|missed|forgot|ignored|misunderstood|fucked|messed|removed|deleted|"
    r"should(?:n'?t| not) have|were (?:not )?supposed)\b|"
    r"\b(?:don'?t|do not|never|stop) "
    r"(?!know\b|think\b|see\b|understand\b|worry\b|remember\b|have\b|like to\b|forget to\b)\w+|"
    r"\bstill (?:broken|fails?|failing|wrong|not|doesn'?t|does not|isn'?t|don'?t|the same|get(?:ting)?|see(?:ing)?)\b|"
    r"\b(?:doesn'?t|didn'?t|does not|did not|isn'?t|is not) (?:work|help|fix|look right|make sense)\b|"
    r"\b(?:instead of|rather than)\b",
    re.I,
)
_ASSISTANT_CHOICE = lazy_regex(
    r"\b(?:we(?:'ll| will) (?:use|keep|go|store|return|skip|not)|decided|agreed|going with|i(?:'ll|"
    r" will) go with|chose|opted|"
    r"instead of|rather than|trade-?off|recommend|the (?:best|cleanest|simplest|right) (?:approach|option|"
    r"solution|fix|way)|"
    r"by design|deliberately|intentional(?:ly)?|on purpose)\b",
    re.I,
)
_INTENT = lazy_regex(
    r"\A(?:(?:good|great|perfect|excellent|now|ok(?:ay)?|next|first|then|so|also|actually|wait|hmm|i see|"
    r"finally|alright|done|right)\b[\s,.!:–—-]*)*"
    r"(?:let me|let's|i(?:'ll| will| need to| should| want to|'m going to| am going to| can see| see| now)|"
    r"we need to|i have to|"
    r"the user(?:'s)? (?:wants|is|has|asked|said|wanted|needs|confirmed|says|chose|rejected|approved|selected)|"
    r"continuing|task \d+ is|according to|looking at|i have a good|i (?:now )?understand|now (?:i|update|add|"
    r"fix|run|check|for|the|in|create|remove|commit|that|we))\b",
    re.I,
)
_FINDING = lazy_regex(
    r"\b(?:the (?:\w+ ){0,3}(?:issue|problem|bug|cause|reason|failure|error|root cause|culprit|difference|"
    r"fix) (?:is|was|here|comes)|"
    r"root cause|because|turns out|found (?:that|the|it|a)|caused by|due to|happens when|in fact|this means|"
    r"meaning|missing|"
    r"does(?:n't| not)|never|wrong|incorrect|already|instead)\b",
    re.I,
)
_FIX = lazy_regex(
    r"\A\W*(?:fixed|resolved|solved|corrected|the fix (?:is|was)|fix:)|\b(?:fixed (?:by|it|the|in)|resolved by|"
    r"solved by)\b",
    re.I,
)
_NOW_WORKING = lazy_regex(
    r"\b(?:(?:is|are|was|were|now|all|been) (?:now )?(?:fixed|resolved|passing|pass(?:es)?|clean|green|works?|"
    r"working)|now pass\w*|"
    r"works now|tests? (?:all )?pass\w*|changed? .{3,60} to |replaced? .{3,60} with|switched .{3,40} to )",
    re.I,
)
_COMPLETION = lazy_regex(
    r"\b(?:all (?:\w+ ){0,2}(?:tests?|checks?) pass\w*|done|complete[d]?|committed|pushed|merged|created|"
    r"implemented|updated|added|"
    r"removed|fixed|renamed|refactored|moved|replaced|summary|passes|passing|works|successfully|no (?:issues|"
    r"errors|changes))\b",
    re.I,
)


def score_fact(sentence: str, speakers: frozenset[str] = frozenset()) -> float:
    """Rates how likely somebody will ask for a sentence of conversation later; below 2 it is hardly worth a highlight.

    Args:
        sentence: The sentence.
        speakers: Names that add nothing, because these people are speaking.
    """
    if len(sentence) < 16:
        return -1.0
    words = set(_PLAIN_WORD.findall(sentence.lower().replace("’", "'")))
    is_first_person = not words.isdisjoint(_FIRST_PERSON)
    score = 1.5 if not words.isdisjoint(_NUMBERS) or _DIGIT.search(sentence) else 0.0
    score += 1.3 * min(2, len(words & _TIMES))
    score += 1.1 * min(3, sum(name not in speakers for name in find_proper_names(sentence)))
    if is_first_person:
        score += 0.6 + 1.5 * (not words.isdisjoint(_ACTIONS)) + 1.2 * (not words.isdisjoint(_RELATIONS))
    score += 1.0 if not words.isdisjoint(_FEELINGS) else 0.0
    score += 1.2 if _QUOTED_TITLE.search(sentence) else 0.0
    score += 1.0 if "[shared image" in sentence else 0.0
    score += 0.12 * min(10, sum(map((4).__lt__, map(len, words))))
    if _FILLER.match(sentence):
        score -= 1.5 if is_first_person else 2.5
    if any(map(sentence.__contains__, _SMALL_TALK_SIGNS)) and _SMALL_TALK.search(sentence):
        score -= 2.5
    return score - (2.0 if sentence.endswith("?") else 0.0)


def strip_opener(sentence: str) -> str:
    """Removes a conversational opener ("By the way, ...") and abbreviates the captions of shared images."""
    if found := _OPENER.match(sentence):
        sentence = sentence[found.end() :]
    if "[shared image" in sentence:
        sentence = _PHOTO.sub(r"[image: \1]", sentence)
    return (
        sentence[:1].upper() + sentence[1:]
        if sentence[:1].islower() and sentence.split(" ", 1)[0].isalpha()
        else sentence
    )


def states_rule(sentence: str) -> bool:
    """Whether a user's sentence sets a rule or a constraint, or makes a decision."""
    if sentence.endswith(QUESTION_MARKS):
        return False
    return _USER_RULE.search(sentence) is not None or sentence_states("rule", sentence)


def states_correction(sentence: str) -> bool:
    """Whether a user's sentence rejects or corrects what the assistant did or means to do."""
    return _CORRECTION.search(sentence) is not None or sentence_states("correction", sentence)


def states_choice(sentence: str) -> bool:
    """Whether an assistant's sentence states a choice between alternatives."""
    if sentence.endswith(QUESTION_MARKS) or _INTENT.match(sentence):
        return False
    return _ASSISTANT_CHOICE.search(sentence) is not None or sentence_states("decision", sentence)


def states_intent(sentence: str) -> bool:
    """Whether it announces the next step ('Now let me run the tests'), which the tool calls show better."""
    return _INTENT.match(sentence) is not None


def states_finding(sentence: str) -> bool:
    """Whether it states a cause or something found."""
    return _FINDING.search(sentence) is not None or sentence_states("finding", sentence)


def score_resolution(sentence: str) -> float:
    """Returns the confidence, from 0 to 3 ('Fixed by ...'), that a sentence states how an error was resolved."""
    if _FIX.search(sentence):
        return 3.0
    if _NOW_WORKING.search(sentence) or sentence_states("done", sentence):
        return 2.0
    return 1.0 if _FINDING.search(sentence) and not states_intent(sentence) else 0.0


def states_completion(sentence: str) -> bool:
    """Whether it reports something as done."""
    return _COMPLETION.search(sentence) is not None or sentence_states("done", sentence)


def find_proper_names(sentence: str) -> list[str]:
    """Returns the capitalised names of a sentence, except at its beginning, where any word is capitalised."""
    names = []
    for found in _NAME.finditer(sentence):
        at = found.start()
        if at > 1 and sentence[at - 1] == " " and (sentence[at - 2].islower() or sentence[at - 2] in ",;"):
            names.append(found[0])
    return names


def is_filler(sentence: str) -> bool:
    """Whether a sentence is only praise, assent or a general remark."""
    return _FILLER.match(sentence) is not None
