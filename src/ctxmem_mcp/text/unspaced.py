"""Terms of text in scripts that do not separate words by spaces. Pure.

    terms("骡队起火")     ['骡', '骡队', '队', '队起', '起', '起火', '火']
    terms("サーバーが落ちた")  ['サーバ', 'サー', 'ーバ', '落']
    terms("서버에서")      ['서버']

Nobody knows where a Chinese word ends without a dictionary, but a pair of characters is mostly a word or a part of one,
and single characters find the words of one character. Runs are cut at the few characters that are hardly ever part of a
word with a meaning. Korean has spaces, but attaches particles and endings to its words.
"""

from __future__ import annotations

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.stop_words import stop_words

# Scripts written without spaces: Thai to Myanmar, Khmer, kana, Han, and Hangul.
RUN = lazy_regex(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
)
_SCRIPT = lazy_regex(
    "(?P<han>[\u3005\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)|(?P<hiragana>[\u3040-\u309f]+)"
    "|(?P<katakana>[\u30a0-\u30ff]+)|(?P<hangul>[\uac00-\ud7af]+)|(?P<other>.+?(?=[\u3005-\ud7af\uf900-\ufaff]|$))"
)
_HAN_CUT = lazy_regex("[的了吗呢吧啊呀嘛哦么们这那哪我你您他她它谁]+")
# Particles, auxiliaries and endings, longest first. What is between them in a run of hiragana is a word.
_HIRAGANA_CUT = lazy_regex(
    "ありました|ありません|でしょうか|ていました|ください|でしょう|ましょう|という|ために|けれど|なかった|でした|ました|ません|"
    "ている|ていた|ておく|てある|ながら|だから|なので|のは|から|まで|より|だけ|しか|ほど|など|ので|のに|です|ます|だった|たら|れば|"
    "った|って|して|した|する|ない|いる|ある|こと|もの|よう|どう|なぜ|いつ|どこ|だれ|なに|それ|これ|あれ|どんな|どちら|この|その|あの|どの|"
    "[のにはをたがでてとしれさもなやへかだばねよぞわ]"
)
_PARTICLES = lazy_regex(
    "(?:에게서는|에서부터|으로부터|이라고는|에서는|에게는|으로는|이라고|이라는|까지는|부터는|에게서|한테서|습니다|입니다|했습니다|합니다|"
    "됩니다|했어요|하세요|해주세요|하는데|했는데|하려고|에서|에게|한테|으로|로서|로써|부터|까지|처럼|보다|마다|조차|밖에|이나|이라|라고|"
    "라는|하고|이랑|하는|하던|했던|했다|한다|하면|하지|해서|해요|되는|됐다|된다|인데|이야|이다|였다|은|는|이|가|을|를|의|에|도|만|로|"
    "와|과|랑|야)$"
)
# Characters of grammar that are part of too many words to cut at; a question's terms with one of them say little.
_GRAMMAR = frozenset("是在有不就都也很和与被把给让之而但又再还最没怎什个着")
_STOP = stop_words("zh") | stop_words("ja")


def terms(run: str) -> list[str]:
    """Returns the terms of a run of characters that `RUN` matches, in order."""
    found: list[str] = []
    for match in _SCRIPT.finditer(run):
        part = match[0]
        match match.lastgroup:
            case "han":
                for piece in _HAN_CUT.split(part):
                    found += _singles_and_pairs(piece)
            case "hiragana":
                for piece in _HIRAGANA_CUT.split(part):
                    found += _pairs(piece)
            case "katakana":
                word = part.rstrip("ー・") or part
                found += [word[:40]] if len(word) < 3 else [word[:40], *_pairs(word)]
            case "hangul":
                found += _korean(part)
            case _:
                found += _pairs(part) or [part]
    return found


def says_little(term: str) -> bool:
    """Returns whether a term of a question is one or two Han characters of which one is mere grammar."""
    return len(term) < 3 and not _GRAMMAR.isdisjoint(term)


def _singles_and_pairs(text: str) -> list[str]:
    found = []
    for i, character in enumerate(text):
        if character not in _STOP:
            found.append(character)
        pair = text[i : i + 2]
        if len(pair) == 2 and pair not in _STOP:
            found.append(pair)
    return found


def _pairs(text: str) -> list[str]:
    return [text[i : i + 2] for i in range(len(text) - 1)]


def _korean(word: str) -> list[str]:
    """A word without its particles, and the pairs of syllables of a longer one, which may be a compound."""
    if word in stop_words("ko"):
        return []
    stem = _PARTICLES.sub("", word) or word
    if stem in stop_words("ko"):
        return []
    return [stem[:40]] if len(stem) < 3 else [stem[:40], *_pairs(stem)]
