"""Splits what people and models wrote into plain sentences, without host text, code, logs and markup. Pure.

A host (the program around a model) writes into the user's turns: reminders, slash commands, recaps after a
compaction, skill texts. The user wrote none of it, so none of it may become a title.
"""

from __future__ import annotations

import functools
import re
import string
from dataclasses import dataclass
from typing import Literal

from ctxmem_mcp.models import INJECTED, RECAP, THINKING, Role, Turn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.host_text import is_plain, split_host_text

# Only both ends of a long text are read: a request is at one of them, and the cost stays bounded.
HEAD_CHARS, TAIL_CHARS = 6_000, 2_000

# An image or another part that is not text, as transcripts store it.
_PART_PREFIX = '{"type":"'
_SKILL_PREFIX = "Base directory for this skill: "
_COMMAND_NAME = lazy_regex(r"<command-name>\s*(/[\w:.-]+)\s*</command-name>")
_BASH_INPUT = lazy_regex(r"\A\s*<bash-input>(.*?)</bash-input>", re.S)
_THINKING_BLOCK = lazy_regex(r"<thinking>.*?(?:</thinking>|\Z)", re.S)
_HOST_COMMANDS = frozenset(
    "/clear /exit /quit /login /logout /model /compact /resume /config /context /cost /help /status /mcp".split()
)

_FENCE = lazy_regex(r"^[ \t]*(?:```|~~~)[^\n]*\n.*?(?:^[ \t]*(?:```|~~~)[ \t]*$|\Z)", re.S | re.M)
_INLINE_FENCE = lazy_regex(r"```.*?(?:```|\Z)", re.S)
# A value that a user pasted between marks of their own: SCRIPT=[[ ... ]], LOG: """ ... """.
_PASTED_VALUE = lazy_regex(
    r"(?:^|(?<=\s))[A-Z][\w -]{0,30}?\s?[=:]\s?(?:\[\[.*?\]\]|\{\{.*?\}\}|<<<.*?>>>|\"{3}.*?\"{3}|'{3}.*?'{3})",
    re.S | re.M,
)
_MARKUP = lazy_regex(r"^[ \t]*(?:[#>]+[ \t]+|[-*+•][ \t]+|\d{1,2}[.)][ \t]+)+|^[-=*_]{3,}[ \t]*$", re.M)
_HEADING = lazy_regex(r"^[ \t]*(?:#{1,6}[ \t].*|(?:\d{1,2}[.)][ \t]+)?\*\*[^*\n]{1,80}\*\*:?[ \t]*)$", re.M)
_EMPHASIS = lazy_regex(r"\*\*|__(?=\S)(?<!\w__)|(?<=\S)__(?!\w)")
_LINK = lazy_regex(r"\[([^\]\n]{1,120})\]\((?:https?:)?[^)\s]{1,300}\)")
_ESCAPE = lazy_regex(r"\x1b\[[0-9;?]*[A-Za-z]")
_WIDE = lazy_regex("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_SPACES = lazy_regex(r"\s+")
# Starts with the punctuation itself, so that the search skips from mark to mark. The lookahead separates sentences that
# a model wrote without a space: "done.The next".
_SENTENCE_END = lazy_regex(
    r"[.!?…][\"')*”]*(?:\s+(?=[\"'(“`*¿¡«]*[A-Z0-9À-ÞА-ЯЁ`/])|(?=(?:The|Let|This|So|Now|But|Actually|It|We|And|"
    r"However|Looking|That|Wait)\b))"
    r"|\?\s+|[。！？]"
)
# Two messages of a model that its host joined without anything between them.
_GLUED = lazy_regex(r"(?<=[a-z)`:])(?=Let me )")
_LETTERS_AND_SPACE = f"{string.ascii_letters} ".encode()
# Only the end of a text is searched.
_ABBREVIATION_CHARS = 8
_ABBREVIATION = lazy_regex(r"(?:\b(?:e\.g|i\.e|etc|vs|Dr|Mr|Mrs|Ms|St|No|approx|cf|al)|\b[A-Z])\.$")
_LOG_LINE = lazy_regex(
    r"^\s*(?:at \S+\(|File \"|Traceback|\d{4}-\d\d-\d\d[T ]\d\d|\[?\d\d:\d\d:\d\d|[+-]{3} |@@|\$ |❯|>>>|\+\+|"
    r"diff --git|"
    r"E  +|=====|-----|[│├└┌|]|[{}\[\]();]+,?\s*$|(?:ERROR|WARN(?:ING)?|INFO|DEBUG)[\s:\]]|\w+(?:Error|Exception): |"
    r"\S+\.\w{1,5}:\d+[:\s]|FAILED |--- FAIL|panic: |goroutine )"
)
# A program asks; the answer stands behind it.
_PROMPT_OF_PROGRAM = "(Y)es/(N)o"
_TRAILING = lazy_regex(
    r"(?:[\s,;:—–(-]|\b(?:a|an|the|of|to|in|on|at|for|and|or|but|with|by|from|as|is|are|was|that|which|who|so|if|"
    r"into|its|it's|i|i'm|i've|i'd|we|we're|you|my|your|our|their|this|be|have|has|not|because|when|while|"
    r"based|than|about|e\.g\.|any|"
    r"do|does|can|could|would|should|will)\b\.?)+$",
    re.I,
)
_CLAUSE_END = lazy_regex(
    r"[,;:—–]\s|\s[-–—(]\s?|\s(?:so that|because|since|which|whereas|although|but|while|so)\s", re.I
)

_SOFT_END = lazy_regex(
    r"\s(?:and|or|when|where|after|before|including|such as|in|on|at|for|from|with|using|by|as|under|into)\s",
    re.I,
)
_SUBORDINATE = lazy_regex(r"(?:for|when|if|while|as|since|after|before|in|on|at|with|given|because|although)\b", re.I)
# What cannot end a line; only the end of a text is searched.
_DANGLING = lazy_regex(
    r"(?:\s*[,:;—–(\[“‘：，、（「『]|\s+[-*+`\"']|\s+(?:and|or|the|an?|of|with|because|und|oder|der|die|das|et|ou|le|la|y|o|el|"
    r"e|и|или))\s*\Z",
    re.I,
)
_DANGLING_CHARS = 12

# Turn names that do not identify a speaker.
_NOT_SPEAKERS = frozenset((INJECTED, RECAP, THINKING))
Origin = Literal["text", "command", "shell", "skill", "recap", "host"]


@dataclass(frozen=True, slots=True)
class Message:
    """A turn that is neither a tool call nor a tool result.

    Attributes:
        speaker: The name of a person who takes part by name, else ''.
        origin: "text" for prose; else what the host put in its place.
        sentences: Its text as plain sentences.
        text: Its text without host text and pasted text.
        pasted_text: Code blocks and log lines pasted into it.
        is_reasoning: Whether it is a model's reasoning, addressed to nobody.
    """

    index: int
    role: Role
    speaker: str
    origin: Origin
    sentences: tuple[str, ...]
    text: str
    pasted_text: str
    tokens: int
    is_reasoning: bool


@dataclass(frozen=True, slots=True)
class ExtractedText:
    """A turn's text without the host's. pasted_text: its code blocks and log lines."""

    origin: Origin
    text: str
    pasted_text: str = ""


_WHOLLY_QUOTED = lazy_regex(r"""\s*"([^"]+)"\s*""")


def read_message(turn: Turn) -> Message:
    """Parses a turn that is neither a tool call nor a tool result."""
    read = _read_cached if len(turn.content) <= _CACHED_CHARS else _read_content
    extracted, sentences = read(turn.content, turn.role != "assistant")
    return Message(
        index=turn.index,
        role=turn.role,
        speaker=one_line(turn.name) if turn.name and turn.name not in _NOT_SPEAKERS else "",
        origin="host" if turn.role == "system" and extracted.origin == "text" else extracted.origin,
        sentences=sentences,
        text=extracted.text,
        pasted_text=extracted.pasted_text,
        tokens=turn.tokens,
        is_reasoning=turn.name == THINKING,
    )


def _read_content(content: str, headings: bool) -> tuple[ExtractedText, tuple[str, ...]]:
    """Returns a content's text and its sentences. headings: whether headings are sentences."""
    extracted = extract_text(content)
    if extracted.origin in ("text", "recap"):
        lines = split_sentences(_without_quotes(extracted.text), headings)
    else:
        lines = [one_line(extracted.text)]
    return extracted, tuple(line for line in lines if line)


def _without_quotes(text: str) -> str:
    """A text without the quotation marks around it as a whole: some agents' commands put them around a prompt."""
    quoted = _WHOLLY_QUOTED.fullmatch(text)
    return quoted[1] if quoted else text


# The last turns of a leaf are read again for the next leaf.
_CACHED_CHARS = 16_000
_read_cached = functools.lru_cache(maxsize=16)(_read_content)


def one_line(text: str) -> str:
    """Returns a text as one printable line: no control or direction characters, no runs of spaces."""
    if not text.isprintable():
        text = _ESCAPE.sub("", text).replace("\n", " ").replace("\t", " ")
        if not text.isprintable():
            text = "".join(char if char.isprintable() else " " for char in text)
    return (_SPACES.sub(" ", text) if "  " in text else text).strip()


def extract_text(content: str) -> ExtractedText:
    """Separates what the speaker wrote in a turn from host text and pasted text."""
    if content.startswith(_PART_PREFIX):
        return ExtractedText("host", "")
    if is_plain(content):
        return _split_pasted(head_and_tail(content, HEAD_CHARS, TAIL_CHARS))
    if shell := _BASH_INPUT.match(content[:HEAD_CHARS]):
        return ExtractedText("shell", one_line(shell[1]))
    spans = split_host_text(content)
    if any(span.kind == "recap" for span in spans):
        return ExtractedText("recap", head_and_tail(content, HEAD_CHARS, TAIL_CHARS))
    own = "\n".join(content[span.start : span.end].strip() for span in spans if span.kind == "user")
    if "<thinking>" in own:
        own = _THINKING_BLOCK.sub("", own)
    return _split_pasted(head_and_tail(own, HEAD_CHARS, TAIL_CHARS)) if own.strip() else _command_of(content)


def _command_of(content: str) -> ExtractedText:
    """The skill or slash command that host text without the user's words stands for, if any."""
    start = content[:HEAD_CHARS].lstrip()
    if start.startswith(_SKILL_PREFIX):
        return ExtractedText("skill", start[len(_SKILL_PREFIX) :].split("\n", 1)[0].rstrip("/").rsplit("/", 1)[-1])
    name = _COMMAND_NAME.search(start)
    return ExtractedText("command", name[1]) if name and name[1] not in _HOST_COMMANDS else ExtractedText("host", "")


def _split_pasted(text: str) -> ExtractedText:
    pasted: list[str] = []

    def take(found: re.Match[str]) -> str:
        pasted.append(found[0])
        return "\n"

    if "```" in text or "~~~" in text:
        text = _INLINE_FENCE.sub(take, _FENCE.sub(take, text))
    if _PASTED_VALUE.search(text) and any(map(str.isalpha, _PASTED_VALUE.sub("", text))):
        text = _PASTED_VALUE.sub(take, text)
    typed: list[str] = []
    for line in text.split("\n"):
        (pasted if _is_pasted(line) else typed).append(line)
    origin: Origin = "text" if any(line.strip() for line in typed) else "host"
    return ExtractedText(origin, "\n".join(typed), "\n".join(pasted))


# How a sentence to the agent begins; it may name a long command.
_ADDRESSED = lazy_regex(
    r"(?:ok(?:ay)?,? |now,? |and |then |also )?(?:please|can you|could you|would you|will you|let'?s|let us|i want|"
    r"i need|i'd like|we need|you (?:must|should)|help me)\b",
    re.IGNORECASE,
)


def _is_pasted(line: str) -> bool:
    if not line or line.isspace():
        return False
    if _LOG_LINE.match(line) or _PROMPT_OF_PROGRAM in line:
        return True
    if line[:1] in " \t" and (line.startswith(("    ", "\t")) and not line.lstrip()[:1].isalpha()):
        return True
    head = line[:200]
    if _ADDRESSED.match(head):
        return False
    return len(head) > 12 and count_letters_and_spaces(head) < 0.6 * len(head)


def count_letters_and_spaces(text: str) -> int:
    """Returns how many characters of a text are letters or spaces."""
    if text.isascii():  # many times faster than looking at each character
        return len(text) - len(text.encode().translate(None, _LETTERS_AND_SPACE))
    return sum(map(str.isalpha, text)) + text.count(" ")


def head_and_tail(text: str, head: int, tail: int) -> str:
    """Returns both ends of a text longer than `head + tail` characters, cut at line breaks if possible."""
    if len(text) <= head + tail:
        return text
    first = text.rfind("\n", head // 2, head)
    last = text.find("\n", len(text) - tail, len(text) - tail // 2)
    return text[: first if first > 0 else head] + "\n" + text[last if last > 0 else len(text) - tail :]


def split_sentences(text: str, headings: bool = True) -> list[str]:
    """Splits a text into sentences, each one plain line without markup. headings: whether headings are kept."""
    if not headings:
        text = _HEADING.sub("\n", text)
    text = _MARKUP.sub("\n", text)
    if "**" in text or "__" in text:
        text = _EMPHASIS.sub("", text)
    if "](" in text:
        text = _LINK.sub(r"\1", text)
    found: list[str] = []
    for line in text.split("\n"):
        if line and not line.isspace():
            _split_line(line, found)
    return found


def _split_line(line: str, found: list[str]) -> None:
    if "Let me " in line and (glued := _GLUED.search(line)):
        _split_line(line[: glued.start()], found)
        line = line[glued.start() :]
    start = 0
    for end in [*(match.end() for match in _SENTENCE_END.finditer(line)), len(line)]:
        part = one_line(line[start:end])
        if part and not (end < len(line) and _ABBREVIATION.search(part, max(0, len(part) - _ABBREVIATION_CHARS))):
            found.append(part)
            start = end
    if start < len(line) and (part := one_line(line[start:])):
        found.append(part)


def width(text: str) -> int:
    """Returns how long a text is in letters: a character of Chinese, Japanese or Korean says as much as three."""
    return len(text) if text.isascii() else len(text) + 2 * len(_WIDE.findall(text))


def shorten(text: str, limit: int) -> str:
    """Shortens to `limit` characters: after a clause if that keeps half of them, else after a word and with '…'."""
    if len(text) <= limit:
        return text
    if cut := _clause_end(text, limit):
        clause = text[:cut]
        return _tidy(clause[:-24] + _TRAILING.sub("", clause[-24:]))
    space = text.rfind(" ", limit // 2, limit)
    start = text[: space if space > 0 else limit - 1]
    start = start[:-40] + _TRAILING.sub("", start[-40:])
    return _tidy(start) + "…" if start else text[: limit - 1] + "…"


def _clause_end(text: str, limit: int) -> int:
    """Where the last clause that fits ends; 0 if cutting there would lose the point."""
    if _SUBORDINATE.match(text):
        return 0
    cuts = [found.start() for found in _CLAUSE_END.finditer(text, limit // 2, limit + 1)]
    cuts += [found.start() for found in _SOFT_END.finditer(text, limit * 3 // 5, limit + 1)]
    return next((cut for cut in sorted(cuts, reverse=True) if is_balanced(text[:cut])), 0)


def is_balanced(text: str) -> bool:
    """Whether no code, quotation or bracket is open at the end of a text."""
    return text.count("`") % 2 == 0 and text.count('"') % 2 == 0 and text.count("(") <= text.count(")")


def tidy_end(text: str) -> str:
    """Returns a text without what cannot end it: an opening mark, a colon, a comma, an article, "and"."""
    while (found := _DANGLING.search(text, max(0, len(text) - _DANGLING_CHARS))) and found.start():
        text = text[: found.start()]
    if text.count('"') == 1:
        text = text.removesuffix('"').rstrip().removeprefix('"').lstrip()
    return text


def _tidy(text: str) -> str:
    text = text.rstrip(" ,;:—–-")
    if text.count("`") % 2:
        text = text.replace("`", "")
    if text.count("(") > text.count(")"):
        text = text[: text.rfind("(")].rstrip() if text.rfind("(") > len(text) // 2 else text
    if text.count('"') % 2:
        text = text.replace('"', "")
    return text
