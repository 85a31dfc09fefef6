"""The words of a text that tell its subject, found fast enough for a hook.

The index's own terms (`analyzer`) know languages and stems, but loading them takes half of the time that a hook has.
"""

from __future__ import annotations

from ctxmem_mcp.patterns import lazy_regex

# Parts of words joined by these are a name, which counts beside its parts.
_WORD = lazy_regex(r"[^\W_]+(?:[_.\-/][^\W_]+)*")
_PART = lazy_regex(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_NAME_CHARS_MAX = 80
_NAME_MARK = "="
_ENDINGS = ("ing", "ed", "es", "s")
_STEM_CHARS_MIN = 3
# Words of every language's prompts, and those that most prompts to a coding agent have, whatever they are about.
_COMMON = frozenset(
    """
    about above across actually after again all already also always and another any anything are ask back because been
    before being below best better both but call called came can cannot cant change changed changes check code come
    could did didn didnt does doesn doing don done dont down each either else end enough even every everything explain
    few file files find first fix fixed for from full get getting give going good got great had has have having help her
    here his how however instead into isn its itself just keep kind know last later let lets like line list little long
    look looking looks made make makes making many may maybe mean might more most much must need needed needs new next
    not nothing now off okay old once one only other our out over own part perfectly place please possible problem put
    question really right run running said same say see seems set should show shown shows since some something somehow
    still such sure take tell test tests than thanks that thats the their them then there these they thing things think
    this those though through together too top try trying two under update updated use used uses using very wait want
    was way well were what when where whether which while who whole why will with without wonder work working works
    would wouldn write yeah yes yet you your add added adding create created exactly implement implemented issue issues
    item items option options proper properly read reading review start started user users version command message plan
    step steps follow following context text name names value values type types comment comments feedback bug bugs error
    errors push commit draft open branch main conflict
    aber als auch auf aus bei das dass dem den der des die doch durch ein eine einen einer für hat ich ist kann mit nach
    nicht noch nur oder sich sind sie und uns von war wenn wie wir zum zur con del el en es la las los no para por que
    se sin su un una dans des du est et il la le les mais ou par pas pour que qui sur une
    """.split()
)  # fmt: skip


def terms_of(text: str) -> list[str]:
    """Returns the text's telling words, in order, each shortened to the part that its forms share.

    Of a path, only the last part counts: two paths on one machine begin alike.
    """
    terms: list[str] = []
    for match in _WORD.finditer(text):
        word = match.group()
        if word.count("/") > 1:
            word = word.rsplit("/", 1)[1]
        terms += [_stem(part) for part in map(str.lower, _PART.findall(word)) if _is_telling(part)]
    return terms


def names_of(text: str) -> set[str]:
    """Returns the names in the text that are made of several words, such as identifiers; spelling them otherwise
    (`session_id`, `SessionId`) makes no difference."""
    names: set[str] = set()
    for match in _WORD.finditer(text):
        parts = _PART.findall(match.group())
        if len(parts) > 1 and len(match.group()) <= _NAME_CHARS_MAX:
            names.add(_NAME_MARK + "".join(parts).lower())
    return names


def _is_telling(part: str) -> bool:
    return part not in _COMMON and not part.isdigit() and (len(part) > 2 or not part.isascii())


def _stem(word: str) -> str:
    if not word.isascii() or len(word) <= _STEM_CHARS_MIN + 1:
        return word
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _STEM_CHARS_MIN:
            word = word[: -len(ending)]
            break
    return word[:-1] if word.endswith("e") and len(word) > _STEM_CHARS_MIN + 1 else word
