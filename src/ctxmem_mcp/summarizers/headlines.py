"""Turns a statement into a title: whole, as a headline, or cut where a clause ends. Pure."""

from __future__ import annotations

import functools
import re

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers import requests
from ctxmem_mcp.summarizers.sentences import count_letters_and_spaces, is_balanced, shorten, tidy_end
from ctxmem_mcp.summarizers.title_faults import is_fragment, lost_its_end

# Words that a headline leaves out.
_ARTICLE = lazy_regex(r"\b(?<![`/.\-])(?:the|an?|our|my|its)\s+(?=[\w`\"(])", re.I)
_FILLER_WORDS = lazy_regex(
    r"\b(?:also|currently|simply|just|actually|properly|correctly|as well|existing|now|really|basically)\s+", re.I
)

_ISSUE = lazy_regex(r"\Athe (?:\w+ )?(?:issue|problem) (?:is|was) that (?=\S)", re.I)
# The first alternative skips code: the parentheses of `(str: string) => string` belong to it.
_ASIDE = lazy_regex(r"(`[^`\n]*`)|\s*\([^()]{1,60}\)")
# Lead-ins of the statement that a title is made of: "Key insight is:", "Root cause: ", "Test: ".
_LABEL = lazy_regex(
    r"\A(?:(?:the |my |our |one |an? )?(?:(?:key|main|important|critical|core|real|final|overall|other|only) )?"
    r"(?:insight|takeaway|observation|finding|point|conclusion|verdict|thing|difference)(?: here)? "
    r"(?:is|was)(?: that\b|:)?|(?:(?:the |my |our )?(?:(?:key|main|important|critical|core|real|final|overall|short) )?"
    r"(?:insight|takeaway|observation|finding|point|conclusion|verdict|summary|result|answer|note|important|update|"
    r"fix|solution|root cause|cause|test|tests|status|tl;dr|simplest (?:correct )?approach|cleanest approach|"
    r"best approach)|fyi|nb)(?: is| was)?\s?[:–—])\s+(?=\S.{11})",
    re.I,
)
# The number of what is worked on: "Thread 1 (Copilot): ", "Fix bug 2 — ".
_NUMBERED = lazy_regex(
    r"\A(?:(?:fix|address|complete|start|on) )?(?:bug|comment|thread|issue|task|step|item|phase|part|point|"
    r"finding|P\d item)s? "
    r"#?\d+(?:\.\d+)?(?: [&+] \d+)?(?: \([^)]{1,20}\))?(?:: | [–—-] )(?=\S.{11})",
    re.I,
)
# The hash and the type of a commit in prose: "`65f0669` - perf: reuse the status".
_QUOTED_COMMIT = lazy_regex(r"\A`?[0-9a-f]{7,12}`? [-–—:] (?:[a-z]+(?:\([\w-]+\))?!?: )?(?=\S.{9})")
# The file of an item that says what was done in it.
_FILE_LABEL = lazy_regex(
    r"\A`?[\w./-]+\.\w{1,5}`? ?(?:[:–—-]) "
    r"(?=(?:[a-z]+ed|add|fix|use|move|remove|rename|replace|update)\b.{8})",
    re.I,
)
# The lines of a file that something is about: they say nothing in an outline.
_LINES = lazy_regex(
    r"\A[Ll]ines? \d[\d, –-]*(?:and \d+)?(?: in `[^`]+`)?: |"
    r"\s*\((?:at |around |on |from )?[Ll]ines? \d[\d, –-]*(?:and \d+)?\)|\s*\(`?[\w./-]+\.\w{1,5}:\d[\d, –-]*`?\)|"
    r"\s(?:at|on|around|in) lines? \d[\d, –-]*(?: ?and \d+)?(?=\W|\Z)"
)
_LINE_SIGNS = ("ine ", "ines ", ":")
# A sentence whose point is what follows "but".
_BUT = lazy_regex(
    r"(?<!\))(?:,| -)? but (?=(?!that\b|this\b|it\b|they\b|I\b|we\b|not\b|then\b|there\b|also\b|only\b|"
    r"other\b)\S+ [^:]{12,}\Z)"
)
# The first mark of a list that was joined to the sentence before it: "in clean.go to:1", "the files:- a.go".
_JOINED_LIST = lazy_regex(r":(?:\d{1,2}\W?\Z|[-*–] .*\Z)")
# The beginning of a second object whose end was cut off: "and error" of "and error handling was added".
_CUT_COORDINATE = lazy_regex(r",?\s+(?:and|or)\s+(?:[^\s`_.()]+\s?){1,2}\Z", re.I)


# Texts that are never a title: what was pasted, asked by a program or put in the place of something else.
_NO_TITLE = lazy_regex(
    r"\A\W{0,3}(?:/|~/|[A-Za-z]:\\|https?://|\[(?![ x]\])|\([A-Z]\)|·|\d+[:.]\d)|https?://\S+\Z|data:\w+/|"
    r"\ALines? \d|\[REDACTED|;base64,|"
    r"\A[^\w\s`'\"#(<@.*-]|\A\*\w|\bI'm using \S+ skill\b|"
    r"\AI (?:now )?have (?:a|the) [^.]*\b(?:understanding|picture)\b|"
    r"\A(?:implement|execute) (?:the following|this) plan\W*\Z|"
    # A list of places, the first half of a comparison, where something is.
    r"\A\S+\.\w{1,5}(?::\d+){1,2}\b|\A\S+\.\w{1,5}: ?\d|"
    r"\A(?:before|after|branch|from|to|date|author|commit|files?|where|what|when|how|example|usage|output|input|"
    r"location|line|type|url|path|current|expected|got|actual): |"
    r"\A(?:committed|pushed)\b.{0,20}\b`?[0-9a-f]{7,40}\b|"
    r"\A(?:the|this) (?:issue|problem|bug|error|cause) (?:clearly|now|here)\W*\Z|"
    r"\A(?:the )?(?:full transcript|transcript|output file|full output)\b.{0,20}\b(?:available|at:|saved)|"
    # What the user wanted without what it is about.
    r"\AUser (?:wants|asks)(?: me| us)?(?: to)? (?:continue|proceed|stop|wait|discuss|resume|go|try|confirm|"
    r"commit|push|"
    r"know|see|move on|keep going|do|have|it|this|that|them)\b|\AThe user (?:sent|said|is)\b|"
    # The words of a recap, and questions of the assistant.
    r"\bfrom where (?:we|you|it|they) (?:\w+ )?(?:left|stopped)\b|"
    r"\Acontinue (?:with )?(?:the |our |this )?(?:conversation|session|last task)\b|"
    r"\Abased on (?:the|my|this) (?:\w+ )?(?:summary|recap)\b|"
    r"\AI was (?:\w+ )?(?:in (?:the )?middle of|about to|working on)\b|"
    # A reply, a question about what was done, a curse: their matter is in what they are about.
    r"\A(?:minor|nope?|yes|yeah|yep|ok(?:ay)?|sure|nah|hmm+)\b\s*[,.!…]|\A(?:did|have|had|were|aren't|didn't) you\b|"
    r"\b(?:fuck\w*|shit\w*|wtf|damn|bullshit)\b|"
    r"\A(?:(?:do |would )?you (?:want|like) me to|want me to|should I|shall I|would you like|do you want)\b|"
    r"\A(?:the |key |main |these |following )*(?:changes|summary|steps|results?|options|findings)\W*\Z",
    re.I,
)
_SUBORDINATE = lazy_regex(
    r"(?:based|even|whether|since|when|if|while|after|before|given|because|although|as|with|by|for|in)\b", re.I
)
# A clause that was cut from a sentence needs one of these to say something, unless it begins with the verb.
_VERB = lazy_regex(
    r"\b(?:is|are|was|were|be|has|have|had|does|do|did|can|cannot|could|will|would|should|must|needs?|n't|went|got|made|"
    r"found|fell|kept|left|lost|ran|set|shows?|broke|built|wrote|came|hit|[a-z]{2,}(?:ed|[^s\W]s))\b|n't\b"
)
_BASE_FORM = lazy_regex(r"[A-Z][a-z]+(?:e|[^sd\W])\b(?! (?:is|are|was|has)\b)")
# A title that ends so was cut from its object; "log in" was not.
_OPEN_END = lazy_regex(
    r"(?<!\blog)(?<!\bsign)(?<!\bcheck)(?<!\bplug)(?<!\bopt)(?<!\bbuilt)\s+(?:to|with|from|by|as|at|for|of|"
    r"than|into|in|that|which|each|every|when|where|via|between|about|without|using|through|during|even|"
    r"(?:that|which) \w+s)\Z",
    re.I,
)
# Without it, the two sides would be one word, which occurs nowhere.
_QUOTE_IN_WORD = lazy_regex(r"(?<=\w)\"(?=\w)")
# Where a clause of a title that was cut ends.
_CLAUSE = lazy_regex(r",? (?:because|when|while|since|so that|whose|which|although) ")
_SENTENCE_BEFORE_COLON = lazy_regex(r"[^:]{8,40} (?:is|are|was|were) [^:]{4,40}(?=: )")
# What another word has to follow.
_OPEN_WORD = lazy_regex(
    r" (?:due|new|same|other|whether|what|what needs|whose|who|how|local|active|full|first|last|only|single|"
    r"existing|some|any|all|no|not|notable|false|more|per|after|before|if|because|its|their|this|these|those|"
    r"our|your|my|and|or|but|is|are|was|were|be|been|being|can|could|will|would|should|must|may|might|shared|"
    r"async|next|previous|current|default|different|missing|also|then|still|very|long|repeated|old|own|"
    r"actual|specific|whole|entire|over|right|alongside|\w+n't|be \w+ed)\Z|\. [a-z ]+\Z|, (?:\S+ ?){1,2}\Z",
    re.I,
)
_DANGLING_VERB = lazy_regex(r"(?:n't|\bnot|\bto) [a-z]+\Z")
_KEPT_MIN, _LAST_WORD_CHARS = 0.5, 24
_LETTER_SHARE_MIN = 0.72
# Fewer words say enough only with a name from the code. A script without spaces says much in one.
_WORDS_MIN = 3
_SEVERAL = lazy_regex(r" |[^\x00-\u024f]")
_CODE = lazy_regex(r"\w\.\w|`|[a-z][A-Z]|_|[^\x00-\u024f]")
_SECRET_CHARS = 20
_TOKEN = lazy_regex(
    r"(?=[^\d]*\d)(?=[^A-Za-z]*[A-Za-z])(?:[A-Za-z0-9+/=]{20,}|(?:sk|pk|ghp|gho|xox[bp]|glpat|npm|hf|AKIA|eyJ)[-_A-Za-z0-9.]{16,}|"
    r"\$\w{1,8}\$\S{12,}|[A-Za-z0-9]+[-_][A-Za-z0-9_-]{24,})"
)


def makes_title(title: str, text: str) -> bool:
    """Returns whether a text can be a title: no secret, path, URL, pasted output or picture, and no clause cut short.

    Args:
        title: The title.
        text: The text that it was cut from.
    """
    if (len(title.split()) < _WORDS_MIN and not _CODE.search(title)) or not _SEVERAL.search(title):
        return False
    if _NO_TITLE.search(text[:400]) or is_fragment(title, text) or any(map(_is_secret, title.split())):
        return False
    if len(title) < 0.9 * len(text) and not _says_something(title, text):
        return False
    letters = count_letters_and_spaces(title) + sum(map(title.count, "`'_"))
    return letters >= _LETTER_SHARE_MIN * len(title)


def _says_something(title: str, text: str) -> bool:
    """Whether a clause that was cut from a text stands for it: it has a verb, and is no part of a question."""
    if _SUBORDINATE.match(title) or (text.endswith(("?", "？")) and title.isascii()):
        return False
    return has_verb(title)


def has_verb(text: str) -> bool:
    """Whether a text has a verb, as far as its English words show; other scripts count as having one."""
    return not text.isascii() or bool(_BASE_FORM.match(text) or _VERB.search(text))


def _is_secret(word: str) -> bool:
    """Whether a word looks like a token, a key, a hash or base64: long, of letters and digits mixed."""
    return len(word) >= _SECRET_CHARS and _TOKEN.fullmatch(word.strip("`'\"(),.;:")) is not None


def headline(text: str) -> str:
    """Returns a statement without what a headline leaves out: articles, asides in brackets, a final mark."""
    text = _ISSUE.sub("Issue: ", text)
    text = _ARTICLE.sub("", _FILLER_WORDS.sub("", _ASIDE.sub(r"\1", text))).strip(" .:;,!–—-")
    return text[:1].upper() + text[1:] if text.split(" ", 1)[0].isalpha() else text


# The same statements are shortened again for each ancestor of their leaf.
@functools.lru_cache(maxsize=4_096)
def as_title(text: str, limit: int) -> str:
    """Returns a statement in at most `limit` characters, without a final mark: whole, or as a headline, or cut."""
    text = _JOINED_LIST.sub("", without_label(_without_lines(text))).rstrip(" .:;,!")
    text = _without_open_quote(tidy_end(_OPEN_END.sub("", text)))
    if len(text) <= limit:
        return text
    if (
        " but " in text
        and (turn := _BUT.search(text))
        and len(text) - turn.end() <= limit
        and is_balanced(text[: turn.start()])
    ):
        return requests.capitalize(text[turn.end() :])
    short = tidy_end(headline(text))
    if len(short) <= limit:
        return short
    cut = shorten(text, limit)
    if cut.endswith("…") or len(cut) < 0.45 * len(text):
        cut = shorten(short, limit)
    return cut if cut.endswith("…") else _close_cut(tidy_end(_OPEN_END.sub("", cut)), limit)


def without_ellipsis(title: str) -> str:
    """Returns a title that was cut, cut where a clause or a phrase ends instead; unchanged if it says too little so."""
    if not title.endswith("…"):
        return title
    body = title[:-1].rstrip(" ,;:—–-")
    last = body.rsplit(" ", 1)[-1]
    is_whole = len(last) <= _LAST_WORD_CHARS and (last[-1:].isalnum() or last[-1:] in '`)"')
    ends = [found.start() for found in _CLAUSE.finditer(body, int(_KEPT_MIN * len(body)))]
    if sentence := _SENTENCE_BEFORE_COLON.match(body):
        ends.insert(0, sentence.end())
    for end in [*reversed(ends), *([len(body)] if is_whole else ())]:
        if is_balanced(shorter := body[:end]) and not ends_badly(shorter):
            return shorter
    return title


def ends_badly(text: str) -> bool:
    """Whether a text ends with a word that another one has to follow."""
    is_open = _OPEN_END.search(text) or _OPEN_WORD.search(text) or _DANGLING_VERB.search(text)
    return bool(is_open) or tidy_end(text) != text or lost_its_end(text) or is_fragment(text, text + "…")


def _without_lines(text: str) -> str:
    """A text without the lines of a file that it names: "(lines 117-119)", "Line 270: "."""
    return requests.capitalize(_LINES.sub("", text)) if any(map(text.__contains__, _LINE_SIGNS)) else text


def _close_cut(cut: str, limit: int) -> str:
    """A cut text without a second object that lost its end."""
    coordinate = _CUT_COORDINATE.search(cut, limit * 2 // 5)
    if coordinate:
        cut = cut[: coordinate.start()].rstrip(" ,;:")
    return _without_open_quote(cut)


def _without_open_quote(text: str) -> str:
    """A text without its quotation marks if one of them is open."""
    return tidy_end(_QUOTE_IN_WORD.sub(" ", text).replace('"', "")) if text.count('"') % 2 else text


def without_label(text: str) -> str:
    """'Claude writes it' of 'Key insight is: Claude writes it', 'added a flag' of '`main.go`: added a flag'."""
    labels = (_LABEL, _FILE_LABEL, _QUOTED_COMMIT, _NUMBERED)
    found = next((found for label in labels if (found := label.match(text))), None)
    if not found:
        return text
    rest = text[found.end() :]
    return rest[:1].upper() + rest[1:] if rest.split(" ", 1)[0].isalpha() else rest
