"""What a conversation is called, turn by turn: its title after a turn follows from the title before it. Pure.

An earlier title is replaced only if it says little, or if the turn names what it only refers to:

Rename the retry option of the uploader       the first request that says what it is about
Work on APP-12 → Retries of uploads (APP-12)    a reference, once the tracker's output or a commit names it
Read notes.md → End-to-end tracing (APP-12)     what the agent's closing calls finished as a whole
“The deploy key is in the vault”              what the user said, as long as there is nothing better
"""

from __future__ import annotations

import re

from ctxmem_mcp.models import Turn
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import COMMITTED, is_uninformative
from ctxmem_mcp.summarizers.error_extraction import read_commits
from ctxmem_mcp.summarizers.headlines import as_title, makes_title
from ctxmem_mcp.summarizers.request_templates import REFERENCE
from ctxmem_mcp.summarizers.requests import find_request, starts_with_verb
from ctxmem_mcp.summarizers.sentences import HEAD_CHARS, read_message, shorten
from ctxmem_mcp.summarizers.statement_features import is_code, is_pointing, stems
from ctxmem_mcp.summarizers.statements import commit_subject
from ctxmem_mcp.summarizers.topics import is_work_title

# A list of conversations has room for more than an outline.
CONVERSATION_TITLE_CHARS = 80
# A request that weighs less is talk.
_WEIGHT_MIN = 1.5
# A title that points to something and has no more words than these says little.
_STEMS_MAX = 4
# A turn of the tracker or the agent is read up to here.
_READ_CHARS = 2_000
# The rest of a tracker's line after the id: "APP-12 [EPIC] · Retries of uploads   [P1 · OPEN]".
_ISSUE_TITLE = (
    r"[ \t]*(?:\[[^\]\n]*\])?[ \t]*[:·–—-][ \t]*(?:\([A-Z]+\)[ \t]*)?"
    r"(\S[^\n]{7,160}?)[ \t]*(?:\[[^\]\n]*\]|●[^\n]*)?$"
)
_FINISHED = lazy_regex(
    r"\b(?:the )?(?:entire|whole|full) \W{0,3}(?P<name>[\w.#-]{2,40})\W{0,3} "
    r"(?:epic|plan|feature|project|migration|refactoring|refactor|port|rewrite|task|issue)"
    r"(?: \((?P<about>[^()\n]{8,90})\))? (?:is|has been) (?:now |fully )*(?:complete[d]?|done|finished)\b",
    re.I,
)


def is_provisional(title: str) -> bool:
    """Whether a conversation's title says so little that any request or topic may replace it."""
    return is_uninformative(title) or is_work_title(title) or _is_quote(title) or _says_little(title)


def title_after(title: str, turn: Turn) -> str:
    """Returns a conversation's title after a turn.

    Args:
        title: The title before the turn; may be empty.
        turn: The turn.
    """
    if turn.role == "user":
        return _after_request(title, turn) if is_provisional(title) else title
    if turn.role == "tool" and (found := REFERENCE.fullmatch(title)):
        return _named_reference(found[1], turn.content) or title
    if turn.role == "assistant" and turn.call_id is None:
        return _finished(title, turn.content[:_READ_CHARS]) or title
    return title


def _after_request(title: str, turn: Turn) -> str:
    """The request of a turn if it says what it is about, or if there is no better title yet."""
    message = read_message(turn)
    request = None if message.speaker or message.origin != "text" else find_request(message)
    if request is None:
        return title
    new = _title_of(request.core)
    if request.is_weak or request.weight < _WEIGHT_MIN:
        return f"“{new}”" if stems(new) and is_uninformative(title) else title
    says_enough = len(stems(new)) >= _STEMS_MAX and not _says_little(new)
    is_better = is_uninformative(title) or is_work_title(title) or _is_quote(title) or says_enough
    return new if new and is_better else title


def _title_of(core: str) -> str:
    """A request's core as a title: also cut within a question, or of two words; empty if it makes none."""
    title = as_title(core, CONVERSATION_TITLE_CHARS)
    if REFERENCE.fullmatch(core) or makes_title(title, core):
        return title
    cut = shorten(core, CONVERSATION_TITLE_CHARS)
    return cut if makes_title(cut, cut) or (starts_with_verb(cut) and 1 <= cut.count(" ") < 2) else ""


def _is_quote(title: str) -> bool:
    return title.startswith("“")


def _says_little(title: str) -> bool:
    return is_pointing(title) and len(stems(title)) <= _STEMS_MAX and not is_code(title)


def _named_reference(name: str, output: str) -> str:
    """The title of the issue that a request only refers to, from a tracker's output or a commit; empty if unknown."""
    line = re.search(rf"^[^\w\n]*{re.escape(name)}(?![\w.]){_ISSUE_TITLE}", output[:_READ_CHARS], re.M)
    if line:
        return _with_reference(line[1], name)
    for text in read_commits(output[:HEAD_CHARS]):
        subject = commit_subject(text) if text.startswith(COMMITTED) else ""
        if _names(subject, name):
            return _with_reference(re.sub(rf"\W*{re.escape(name)}\W*", " ", subject).strip(), name)
    return ""


def _finished(title: str, text: str) -> str:
    """What a closing calls finished as a whole: "The entire APP-12 epic (Retries of uploads) is complete"; empty if
    it calls nothing so, or something other than the title."""
    found = _FINISHED.search(text)
    if not found or not found["about"] or not (is_provisional(title) or _names(title, found["name"])):
        return ""
    return _with_reference(found["about"], found["name"])


def _names(text: str, name: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w.-])", text) is not None


def _with_reference(text: str, name: str) -> str:
    suffix = f" ({name})"
    return as_title(text, CONVERSATION_TITLE_CHARS - len(suffix)) + suffix
