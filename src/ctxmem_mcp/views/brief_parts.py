"""The parts of a brief: lines made of the summaries' highlights, most important first, nothing twice. Pure."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from ctxmem_mcp.models import Highlight, HighlightKind, Node, Summary
from ctxmem_mcp.patterns import lazy_regex
from ctxmem_mcp.summarizers.base import CHOICE_ARROW, TO_DO, UNRESOLVED, is_placeholder
from ctxmem_mcp.summarizers.requests import is_weak, starts_with_verb
from ctxmem_mcp.summarizers.sentence_scores import score_resolution, states_finding, states_intent
from ctxmem_mcp.views.layout import Quote
from ctxmem_mcp.views.render import Detail, node_lines
from ctxmem_mcp.views.replaced import standing_highlights

Section = tuple[Node, Summary]
Replaced = Mapping[Highlight, Highlight]
NOTHING_REPLACED: Replaced = {}
# An error without an ending counts as open only in the last sections: later turns may have fixed an earlier one.
OPEN_SECTIONS = 2
_EDITED = lazy_regex(r"([\w./@-]*\w)(?: \(([^)]*)\))?(?:, |$)")
NAMES_PER_FILE_MAX = 6
_TURN_AT_END = lazy_regex(r" \(t[\w-]+(?: \w+)?\)\Z")
_NOT_WORD = lazy_regex(r"\W+")
# Parts whose lines are never left out as repetitions, and those whose words are not repeated even within longer lines.
_OWN_LINES = frozenset(("Standing instructions", "Where to look (expand_node)", "Changed"))
_CONTAINING = frozenset(("Standing instructions", "Goal"))
_REPEATED_CHARS_MIN = 20
# The goal is the first request and this many of the latest.
LATEST_REQUESTS_MAX = 3
# An outcome in the agent's words settles the errors before it if it scores this much as a resolution.
RESOLUTION_MIN = 2.0


# A successful run as an outcome: the program and its subcommand, after assignments and changes of folder.
_RUN = lazy_regex(
    r"`(?:cd \S+ && )?(?:[A-Z_]+=\S* )*([\w./-]+(?: -m \w[\w.]*| (?:run )?[a-z][\w:-]*\b(?![./]))?)([^`]*)`: "
)
_FILE_ARGUMENT = lazy_regex(r" \S*(?:\w/\w|\w\.[a-z]{1,4}\b|::)\S*")
# "Test failures are ..." begins with a noun, not with the verb of a step.
_SUBJECT = lazy_regex(
    r"\A\w+(?: [\w`.()-]+){0,3} (?:is|are|was|were|has|have|had|fails?|failed|causes?|caused|does|did|never)\b"
)
# What programs print, pasted by the user.
_OUTPUT_LINE = lazy_regex(r"\W*(?:Press (?:Ctrl|any key|Enter)\b|\d\d:\d\d:\d\d\b|(?:WARN|INFO|DEBUG|ERROR)\b)", re.I)
_NO_FINDING = lazy_regex(
    r"\A(?:the )?user (?:wants|asked|needs|said)\b|"
    r"\b(?:instructions?|guidelines|CLAUDE\.md|AGENTS\.md)(?: also)? says?\b",
    re.I,
)


# The share of the budget for the user's standing instructions, which come first.
STANDING_SHARE = 0.08


@dataclass(frozen=True, slots=True)
class BriefLine:
    """A line of the brief. place: the turn that it comes from, and its number among the highlights."""

    place: tuple[int, int]
    text: str


@dataclass(frozen=True, slots=True)
class BriefPart:
    """A part of the brief. share: its share of the budget, before others' remainders. lines: most important first."""

    title: str
    share: float
    lines: list[BriefLine]


def request_turns(sections: Sequence[Section]) -> list[tuple[int, int]]:
    """Returns the turns with requests and terms of the user, and the total characters of their highlights.

    The first such turn comes first, then the others from the newest back.
    """
    chars: dict[int, int] = {}
    for line in _lines(sections):
        if line.role == "user" and line.kind in ("request", "decision"):
            chars[line.index] = chars.get(line.index, 0) + len(line.text)
    return [*list(chars.items())[:1], *list(chars.items())[:0:-1]]


def error_turns(sections: Sequence[Section]) -> list[tuple[int, str]]:
    """Returns the turns with errors and the first error highlight of each, from the newest back."""
    errors: dict[int, str] = {}
    for line in _lines(sections):
        if line.kind == "error":
            errors.setdefault(line.index, line.text)
    return [*errors.items()][::-1]


def _lines(sections: Sequence[Section]) -> list[Highlight]:
    return [line for _, summary in sections for line in summary.highlights]


def _standing_part(quotes: Sequence[Quote], replaced: Replaced) -> BriefPart:
    """The user's standing instructions, each in the user's own words with its turn's id."""
    lines = [
        BriefLine(
            (quote.turn.index, span.start),
            f"- {line.text} ({quote.turn.short} {line.role}){_replacement(line, replaced)}",
        )
        for quote in quotes
        for span, line in zip(quote.spans, standing_highlights(quote), strict=True)
    ]
    return BriefPart("Standing instructions", STANDING_SHARE, lines)


def brief_parts(
    sections: Sequence[Section], standing: Sequence[Quote], replaced: Replaced = NOTHING_REPLACED
) -> list[BriefPart]:
    """Returns the parts of a brief that have lines, without repetitions.

    Args:
        sections: The nodes of the branch with their summaries, in order.
        standing: The user's standing instructions, newest first.
        replaced: Requests, decisions and instructions that a later turn replaced, each with what replaced it.
    """
    return _without_repetitions([_standing_part(standing, replaced), *_parts(sections, replaced)])


def _parts(sections: Sequence[Section], replaced: Replaced) -> list[BriefPart]:
    lines = _lines(sections)
    requests = [line for line in _of_kind(lines, "request") if _says_something(line.text)]
    first = [_brief_line(line, 0, replaced) for line in requests[:1]]
    others = _newest_first(requests[1:], replaced)
    still_open = _open_errors(sections[-OPEN_SECTIONS:])
    to_do = [line for line in _lines(sections[-OPEN_SECTIONS:]) if line.text.startswith(TO_DO)]
    outcomes = [line for line in _of_kind(lines, "outcome") if not line.text.startswith(TO_DO)]
    return [
        BriefPart("Goal", 0.15, first + others[:LATEST_REQUESTS_MAX]),
        BriefPart("Open at the end", 0.06, _newest_first([*to_do, *still_open])),
        BriefPart("What came of it", 0.05, _newest_first(newest_runs(outcomes))),
        BriefPart("Causes and findings", 0.06, _newest_first(_findings(lines))),
        BriefPart("The user's terms", 0.1, _newest_first(_terms(lines), replaced)),
        BriefPart("Decisions", 0.08, _newest_first(_decisions(lines))),
        BriefPart("Changed", 0.08, _changed_file_lines(lines)),
        BriefPart("Errors, and how each ended", 0.18, _error_lines(lines, {line.text for line in still_open})),
        BriefPart("Other requests", 0.02, others[LATEST_REQUESTS_MAX:]),
        BriefPart("Where to look (expand_node)", 0.08, _section_lines(sections)),
    ]


def _says_something(text: str) -> bool:
    """Whether a request is more than an assent, a placeholder or a command of the host (/mode)."""
    return not is_weak(text) and not is_placeholder(text) and not (text.startswith("/") and " " not in text)


def _without_repetitions(parts: Sequence[BriefPart]) -> list[BriefPart]:
    """The parts that have lines, without lines that an earlier part has or whose words a standing instruction or a
    goal contains."""
    found: list[BriefPart] = []
    seen = set[str]()
    contained = ""
    for part in parts:
        kept = []
        for line in part.lines:
            words = _NOT_WORD.sub(" ", _TURN_AT_END.sub("", line.text).casefold()).strip()
            is_own = part.title in _OWN_LINES or line.text.startswith(" ")
            if is_own or (words not in seen and not (len(words) >= _REPEATED_CHARS_MIN and words in contained)):
                kept.append(line)
                seen.add(words)
                if part.title in _CONTAINING:
                    contained += f" | {words}"
        if kept:
            found.append(replace(part, lines=kept))
    return found


def _of_kind(lines: Sequence[Highlight], kind: HighlightKind) -> list[Highlight]:
    return [line for line in lines if line.kind == kind]


def _brief_line(highlight: Highlight, number: int, replaced: Replaced = NOTHING_REPLACED) -> BriefLine:
    text = f"- {highlight.text} (t{highlight.index} {highlight.role}){_replacement(highlight, replaced)}"
    return BriefLine((highlight.index, number), text)


def _replacement(highlight: Highlight, replaced: Replaced) -> str:
    """The statement that replaced a highlight, with its turn; empty if none did."""
    later = replaced.get(highlight)
    return f" → {later.text} (t{later.index} {later.role})" if later else ""


def _newest_first(lines: Iterable[Highlight], replaced: Replaced = NOTHING_REPLACED) -> list[BriefLine]:
    """The newest first; of highlights with the same text only the newest."""
    numbered = list(enumerate(lines))
    last = {line.text: number for number, line in numbered}
    return [_brief_line(line, number, replaced) for number, line in reversed(numbered) if last[line.text] == number]


def newest_runs(outcomes: Sequence[Highlight]) -> list[Highlight]:
    """Outcomes without runs that a later one of the same program replaced: "84 tests" before "410 tests".

    A run of some files does not replace one of everything, nor one of other files.
    """
    known = set[tuple[str, ...]]()
    found: list[Highlight] = []
    for line in reversed(outcomes):
        run = _RUN.match(line.text) if line.role == "tool" else None
        if run is None:
            found.append(line)
            continue
        whole, files = (run[1],), tuple(_FILE_ARGUMENT.findall(run[2]))
        if whole not in known and (*whole, *files) not in known:
            found.append(line)
        known.add((*whole, *files))
    return found[::-1]


def _terms(lines: Iterable[Highlight]) -> list[Highlight]:
    """Decisions of the user: typed, or said in refusing a tool's call; no line of a program's output."""
    return [
        line
        for line in lines
        if line.kind == "decision" and _is_term(line) and not _OUTPUT_LINE.match(line.text)
    ]  # fmt: skip


def _findings(lines: Iterable[Highlight]) -> list[Highlight]:
    """What the agent stated as a cause or something found: no step that it planned, and no instruction it quotes."""
    return [
        line
        for line in lines
        if line.kind == "fact" and line.role == "assistant" and not line.text.startswith(TO_DO)
        and states_finding(line.text) and not _is_plan(line.text)
    ]  # fmt: skip


def _is_plan(text: str) -> bool:
    """Whether a statement is a step to take ("Fix this by ...", "User wants ...") or quotes an instruction."""
    is_step = starts_with_verb(text) and not _SUBJECT.match(text)
    return is_step or states_intent(text) or _NO_FINDING.search(text) is not None


def _decisions(lines: Iterable[Highlight]) -> list[Highlight]:
    return [line for line in lines if line.kind == "decision" and not _is_term(line)]


def _is_term(line: Highlight) -> bool:
    return line.role in ("user", "tool") and CHOICE_ARROW not in line.text


def _changed_file_lines(lines: Iterable[Highlight]) -> list[BriefLine]:
    """Each file once, with the names changed in it and the last turn that did so; the last changed file first."""
    names: dict[str, dict[str, None]] = {}
    last: dict[str, int] = {}
    for line in lines:
        if line.kind != "file" or not line.text.startswith("Edited "):
            continue
        for file, names_changed in _EDITED.findall(line.text.removeprefix("Edited ")):
            names.setdefault(file, {}).update(dict.fromkeys(filter(None, names_changed.split(", "))))
            last[file] = line.index
    listed = {file: ", ".join(list(found)[:NAMES_PER_FILE_MAX]) for file, found in names.items()}
    newest = sorted(last, key=lambda file: -last[file])
    return [
        BriefLine((last[file], number), f"- {file}{f' ({listed[file]})' if listed[file] else ''} (t{last[file]})")
        for number, file in enumerate(newest)
    ]


def _error_lines(lines: Sequence[Highlight], still_open: Set[str]) -> list[BriefLine]:
    """The first error of each turn with its ending, newest first; then the turns' other errors.

    An error that was reported several times is listed where it was last; one in `still_open` is not.
    """
    good_news = [line for line in lines if line.kind == "outcome" and line.role == "tool"]
    seen = set(still_open)
    firsts: list[BriefLine] = []
    others: list[BriefLine] = []
    for number, line in reversed([*enumerate(lines)]):
        if line.kind != "error" or line.text in seen:
            continue
        seen.add(line.text)
        if number and lines[number - 1].kind == "error" and lines[number - 1].index == line.index:
            others.append(_brief_line(line, number))
            continue
        firsts.append(_brief_line(line, number))
        after = _after_errors(lines, number)
        if after is not None and after.kind == "ending" and (text := _ending_line(line, after, good_news)):
            firsts.append(BriefLine((line.index, number + 1), text))
    return firsts + others


def _after_errors(lines: Sequence[Highlight], number: int) -> Highlight | None:
    """The highlight after an error and the other errors of its turn, whose ending is that of all of them."""
    rest = (line for line in lines[number + 1 :] if line.kind != "error" or line.index != lines[number].index)
    return next(rest, None)


def _ending_line(error: Highlight, ending: Highlight, good_news: Sequence[Highlight]) -> str:
    """How an error ended, according to its section; else the first good news after it; empty if neither is known.

    good_news: outcomes that tools reported, in order.
    """
    later = len(good_news)
    if ending.text == UNRESOLVED:
        later = bisect_right(good_news, error.index, key=lambda line: line.index)
    if later < len(good_news):
        return f"  later: {good_news[later].text} (t{good_news[later].index})"
    return "" if ending.text == UNRESOLVED else f"  ended: {ending.text} (t{ending.index})"


def _open_errors(sections: Sequence[Section]) -> list[Highlight]:
    """The errors that a section calls unresolved and that nothing later settles, in order.

    Of an error without an ending nothing is known: most are calls that the tool refused.
    """
    lines = _lines(sections)
    settled = max((line.index for line in lines if _settles_errors(line)), default=-1)
    found: list[Highlight] = []
    reported: list[Highlight] = []
    for line in lines:
        if line.kind == "ending" and line.text == UNRESOLVED:
            found += [error for error in reported if error.index > settled]
        reported = [*reported, line] if line.kind == "error" else []
    return found


def _settles_errors(line: Highlight) -> bool:
    """Whether an outcome is a success that a tool reports, or in the agent's words a resolution."""
    return line.kind == "outcome" and (line.role == "tool" or score_resolution(line.text) >= RESOLUTION_MIN)


def _section_lines(sections: Sequence[Section]) -> list[BriefLine]:
    """The sections, newest first, without the open tail, which has no id."""
    return [
        BriefLine((node.first, 0), "- " + node_lines(node, Detail.LINES, "", lambda _, s=summary: s).strip())  # type: ignore[misc]
        for node, summary in reversed(sections)
        if node.digest
    ]
