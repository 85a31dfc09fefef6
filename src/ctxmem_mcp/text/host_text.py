"""Separates a user's own words from the text that a host writes into the user's messages. Pure.

A host is the program around the model: Claude Code, Codex, Cline, Cursor and others. It puts reminders, the project's
instructions, slash commands' templates, hooks' output and summaries of compacted history in the user's place, often in
the same message as the prompt.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.text.recall_marks import RECALL_END as RECALL_END
from ctxmem_mcp.text.recall_marks import RECALL_START as RECALL_START

# Hosts put a few words of their own before the block.
_RECALL_START_WITHIN_CHARS = 200

SpanKind = Literal["user", "host", "instructions", "recall", "recap"]

# Elements of hosts, wherever a line begins with one.
_HOST_TAGS = (
    r"system-reminder|system_reminder|system_notification|system-notification|command-[\w-]+|local-command-[\w-]+"
    r"|bash-(?:input|stdout|stderr)|task-notification|agent-notification|user-prompt-submit-hook|user-memory-input"
    r"|ide_\w+|environment_context|environment_details|environment_info|user_instructions|turn_aborted"
    r"|additional_context|user_shell_command|subagent_notification|goal_context|hook_prompt|hook_context"
    r"|codex_internal_context|user_action|permissions instructions|permissions|apps_instructions|skills_instructions"
    r"|plugins_instructions|collaboration_mode|model_switch|personality_spec|app-context|mode_notice|session_context"
    r"|loaded_context|untrusted_context|available_skills|current_datetime|reminderInstructions|workspace_info"
    r"|file_content|folder_content|url_content|explicit_instructions|additional_data|attached_files|project_layout"
    r"|user_info|user_rules|custom_instructions?|always_applied_workspace_rules?|agent_requestable_workspace_rules?"
    r"|agent_skills|open_and_recently_viewed_files|manually_attached_skills|git_status"
)
# Elements that users write too: of the host only if the text begins with one.
_FIRST_HOST_TAGS = r"skill|skills|plugins|instructions|rules|env|timestamp|attachments"
# Elements of hosts that enclose the user's words.
_USER_TAGS = (
    r"command-args|bash-input|user-memory-input|user_query|userRequest|task|feedback|user_message|answer|user_input"
)
_OPENING = lazy_regex(rf"<({_HOST_TAGS}|{_USER_TAGS})(?:[ \t][^<>\n]*)?>", re.IGNORECASE)
_FIRST_OPENING = lazy_regex(rf"<({_FIRST_HOST_TAGS})(?:[ \t][^<>\n]*)?>", re.IGNORECASE)
_USER_TAG = lazy_regex(_USER_TAGS, re.IGNORECASE)
_OPENINGS = lazy_regex(rf"{_OPENING.pattern}|{re.escape(RECALL_START)}", re.IGNORECASE)
_RECALL_MARKS = lazy_regex(rf"({re.escape(RECALL_END)})|^{re.escape(RECALL_START)}", re.MULTILINE)
_FENCE = lazy_regex(r"^[ \t]*(?:```|~~~)", re.MULTILINE)

# Beginnings (in lower case) of texts that are the host's to their end.
_HOST_PREFIXES = (
    "caveat: the messages below", "[request interrupted by user", "operation stopped by hook: ",
    "sessionstart hook ", "sessionstart:", "userpromptsubmit hook ", "stop hook feedback:", "[image: source:",
    "warning: the maximum number of unified exec", "warning: apply_patch was requested via exec",
    "this is the gemini cli. we are setting up the context", "this is the qwen code. we are setting up the context",
)  # fmt: skip
_SKILL_PREFIX = "base directory for this skill: "
_SKILL_CALL = lazy_regex(r"invoke the \S+ skill and follow it exactly as presented to you\s*(?:ARGUMENTS:)?", re.I)
_SKILL_ARGUMENTS = lazy_regex(r"^ARGUMENTS:[ \t]*", re.MULTILINE)
_RECAP_PREFIXES = (
    "this session is being continued from a previous conversation",
    "this conversation is being continued from a previous", "another language model started to solve this problem",
    "context summary:",
)  # fmt: skip
# Codex's heading of a project's instructions; they end with the tag, or with the text.
_INSTRUCTIONS_HEADING = "# agents.md instructions"
_INSTRUCTIONS_END = lazy_regex(r"</instructions>", re.IGNORECASE)
_INSTRUCTION_TAGS = ("user_instructions", "instructions", "user_rules", "custom_instruction", "custom_instructions")
_INSTRUCTION_FILES = lazy_regex(
    r"^(?:# claudeMd\b|Contents of [^\n]*\.(?:md|mdc|txt)\b|Instructions from: |Codebase and user instructions)|"
    r"\b(?:CLAUDE(?:\.local)?|AGENTS(?:\.override)?|GEMINI|QWEN|copilot-instructions)\.md\b[^\n]{0,120}instructions",
    re.MULTILINE,
)
# What a host reports as the result of a call that the user refused, and the line after which the user's words stand.
_REFUSED_CALL = lazy_regex(
    r"\A\s*(?:the user (?:doesn't|does not|didn't) want to (?:proceed with|take) this (?:tool use|action)|"
    r"user (?:rejected|declined|denied) (?:the )?tool|the (?:user rejected|tool (?:use|call) was rejected))",
    re.IGNORECASE,
)
_REFUSED_WITH_WORDS = lazy_regex(
    r"\bthe user (?:said|provided the following reason[^:\n]{0,60}):[ \t]*\n?", re.IGNORECASE
)
_REFUSAL_SEARCH_CHARS = 600
_LONGEST_PREFIX = 120
_HOOK_CONTEXT_START, _HOOK_CONTEXT_END = "<hook_context>", "</hook_context>"
_ALL_PREFIXES = (*_HOST_PREFIXES, *_RECAP_PREFIXES, _SKILL_PREFIX, _INSTRUCTIONS_HEADING, "invoke the ")


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a text.

    Attributes:
        kind: `user` for the user's own words; `instructions` for the project's instructions (CLAUDE.md, AGENTS.md);
            `recall` for a block that ctxmem-mcp injected; `recap` for a host's summary of compacted history; `host`
            for anything else that the host wrote.
        start, end: its place in the text: `text[start:end]`.
    """

    kind: SpanKind
    start: int
    end: int


def split_host_text(content: str) -> list[Span]:
    """Returns the spans of a user message's text. They cover it without gaps, in order; none if it is empty.

    An element of the host counts only if it begins a line and is closed; a text that begins with one may be cut off.
    Elements inside a code block are the user's: somebody quotes them.
    """
    spans: list[Span] = []
    at = 0
    for span in _host_spans(content):
        if span.start > at:
            spans.append(Span("user", at, span.start))
        spans.append(span)
        at = span.end
    if at < len(content):
        spans.append(Span("user", at, len(content)))
    return [_without_words(content, span, spans) for span in spans]


def user_text(content: str) -> str:
    """Returns the user's own words in a text, without the blank space around them; empty if it has none."""
    if is_plain(content):
        return content.strip()
    return spans_text(content, "user")


def instructions_text(content: str) -> str:
    """Returns the project's instructions in a text; empty if it has none."""
    return "" if is_plain(content) else spans_text(content, "instructions")


def is_host_text(content: str) -> bool:
    """Returns whether a text has words, and none of them are the user's."""
    return not is_plain(content) and bool(content.strip()) and not user_text(content)


def is_mostly_host(spans: Sequence[Span], start: int, stop: int) -> bool:
    """Returns whether at least half of the characters from `start` to `stop` are not the user's own words."""
    own = sum(max(0, min(span.end, stop) - max(span.start, start)) for span in spans if span.kind == "user")
    return bool(spans) and 2 * own <= stop - start


def is_refused_call(result: str) -> bool:
    """Returns whether a tool's result says that the user refused the call."""
    return _REFUSED_CALL.match(result, 0, _REFUSAL_SEARCH_CHARS) is not None


def refusal_words(result: str) -> str:
    """Returns what the user said when refusing a call, from its result; empty if the user said nothing."""
    if not is_refused_call(result):
        return ""
    found = _REFUSED_WITH_WORDS.search(result, 0, _REFUSAL_SEARCH_CHARS)
    return result[found.end() :].strip() if found else ""


def is_recall_block(text: str) -> bool:
    """Returns whether a text is one that ctxmem-mcp injected into the session."""
    return RECALL_START in text[:_RECALL_START_WITHIN_CHARS] and RECALL_END in text


def split_hook_context(text: str) -> tuple[str, str]:
    """Returns the context that Gemini CLI puts before a prompt for a hook, and the prompt; empty if there is none."""
    context, end, prompt = text.partition(_HOOK_CONTEXT_END)
    return (context + end, prompt.lstrip()) if end and text.startswith(_HOOK_CONTEXT_START) else ("", text)


def is_plain(content: str) -> bool:
    """Returns whether a text certainly has no text of a host: a quick test, which most prompts pass."""
    return "<" not in content and "[ctxmem" not in content and not _prefix(content).startswith(_ALL_PREFIXES)


def spans_text(content: str, kind: SpanKind) -> str:
    """Returns the text of all spans of a kind, those of separate places on lines of their own."""
    parts = (content[span.start : span.end].strip() for span in split_host_text(content) if span.kind == kind)
    return "\n".join(part for part in parts if part)


# ---------------------------------------------------------------- scanning


def _host_spans(content: str) -> Iterator[Span]:
    """Yields the spans that are not the user's, and the user's words that a host's element encloses."""
    first = _first_spans(content)
    yield from first
    at = first[-1].end if first else 0
    user_from, unclosed = at, set[str]()
    fences = [found.start() for found in _FENCE.finditer(content)]
    for opening in _OPENINGS.finditer(content, at):
        start, name = opening.start(), opening[0] if opening[1] is None else opening[1].lower()
        if start < at or name in unclosed or not _begins_line(content, start, at):
            continue
        if (bisect_left(fences, start) - bisect_left(fences, user_from)) % 2:  # in a code block
            continue
        end = _closing_end(content, name, opening.end())
        if end < 0:
            unclosed.add(name)
            continue
        yield from _element_spans(content, opening, end)
        at = user_from = end


def _first_spans(content: str) -> list[Span]:
    """Returns the spans of a beginning that is known for a host's by its first words."""
    start, prefix = len(content) - len(content.lstrip()), _prefix(content)
    recall = content.find(RECALL_START, start, start + _RECALL_START_WITHIN_CHARS)
    if recall >= 0 and "\n" not in content[start:recall] and not prefix.startswith("<"):
        end = _closing_end(content, RECALL_START, recall + len(RECALL_START))
        return [Span("recall", 0, end)] if end >= 0 else []
    if prefix.startswith(_RECAP_PREFIXES):
        return [Span("recap", 0, len(content))]
    if prefix.startswith(_INSTRUCTIONS_HEADING):
        found = _INSTRUCTIONS_END.search(content)
        return [Span("instructions", 0, found.end() if found else len(content))]
    if call := _SKILL_CALL.match(content, start):
        return [Span("host", 0, call.end())]
    if prefix.startswith(_SKILL_PREFIX):
        arguments = [found.end() for found in _SKILL_ARGUMENTS.finditer(content)]
        return [Span("host", 0, arguments[-1] if arguments else len(content))]
    if prefix.startswith(_HOST_PREFIXES):
        return [Span("host", 0, len(content))]
    return _first_element(content, start)


def _first_element(content: str, start: int) -> list[Span]:
    """Returns the spans of the element that a text begins with. It may be cut off, unless it holds the user's words."""
    opening = _FIRST_OPENING.match(content, start) or _OPENING.match(content, start)
    if opening is None:
        return []
    end = _closing_end(content, opening[1], opening.end())
    if end < 0 and _USER_TAG.fullmatch(opening[1]):
        return []
    return [*_element_spans(content, opening, len(content) if end < 0 else end)]


def _element_spans(content: str, opening: re.Match[str], end: int) -> Iterator[Span]:
    """Yields the spans of a host's element that ends at `end`: three if it encloses the user's words."""
    tag = (opening[1] or "").lower()
    inside = content[opening.end() : end]
    if _USER_TAG.fullmatch(tag):
        inner_end = opening.end() + inside.rfind("</")
        yield Span("host", opening.start(), opening.end())
        if inner_end > opening.end():
            yield Span("user", opening.end(), inner_end)
        yield Span("host", inner_end, end)
    elif not tag or is_recall_block(inside):
        yield Span("recall", opening.start(), end)
    elif tag in _INSTRUCTION_TAGS or _INSTRUCTION_FILES.search(inside[:4_000]):
        yield Span("instructions", opening.start(), end)
    else:
        yield Span("host", opening.start(), end)


def _closing_end(content: str, name: str, at: int) -> int:
    """Returns the end of the block of this name that is open at `at`, past blocks of its kind; -1 if there is none."""
    depth = 1
    for found in _marks(name).finditer(content, at):
        depth += -1 if found[1] else 1
        if not depth:
            return found.end()
    return -1


@lru_cache(maxsize=128)
def _marks(name: str) -> re.Pattern[str]:
    """Matches what closes (group 1) and opens a block: tags of this name, or the lines around a recall block."""
    if name == RECALL_START:
        return _RECALL_MARKS
    return re.compile(rf"(</{re.escape(name)}>)|^<{re.escape(name)}[ >]", re.IGNORECASE | re.MULTILINE)


def _begins_line(content: str, start: int, previous_end: int) -> bool:
    """Returns whether only blank space precedes a place on its line, or separates it from the element before it."""
    line = content.rfind("\n", previous_end, start) + 1
    return not content[line or previous_end : start].strip()


def _without_words(content: str, span: Span, spans: list[Span]) -> Span:
    """Blank space between the spans of a host is not the user's."""
    if span.kind == "user" and len(spans) > 1 and not content[span.start : span.end].strip():
        return Span("host", span.start, span.end)
    return span


def _prefix(content: str) -> str:
    return content[: _LONGEST_PREFIX * 2].lstrip()[:_LONGEST_PREFIX].lower()
