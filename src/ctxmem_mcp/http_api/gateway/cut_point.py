"""Where a long conversation is cut: messages before the cut become a view, those after it are sent unchanged. Pure.

    m0 m1 m2 m3 m4 m5 m6 │ m7 m8 m9
    └──── the view ────┘   └ unchanged ┘

The cut depends on the messages alone. They are processed from the first on: when they no longer fit, the cut moves so
far that only a small rest remains, and then stays until they again do not fit. So all requests between two moves begin
with the same bytes, after a restart too, and an edit changes only the cuts after it. A call and its results are always
on the same side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Shares of the budget: for the view; for the rest right after the cut has moved; for a pinned prompt at most.
VIEW_SHARE, REST_SHARE, PINNED_SHARE = 0.35, 0.12, 0.125


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What the choice of a cut needs to know about a message.

    Attributes:
        tokens: its size.
        calls: ids of the tool calls that it makes.
        results: ids of the tool calls whose results it has.
        is_prompt: it is the user's own text, or the task that an agent was given.
        is_result: it has tool results, with or without an id.
    """

    tokens: int
    calls: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    is_prompt: bool = False
    is_result: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut, as indexes of messages.

    Attributes:
        start: the first message that is sent unchanged.
        prompt: the user's prompt when the cut moved here: the view's query.
        pinned: the prompt that the rest works on, if it is before the cut and short enough to be sent beside the view.
    """

    start: int
    prompt: int | None
    pinned: int | None

    @property
    def pinned_messages(self) -> tuple[int, ...]:
        """The messages before the cut that are sent verbatim beside the view."""
        return () if self.pinned is None else (self.pinned,)


def view_budget(budget: int) -> int:
    """Returns the share of a request's token budget that its view may take."""
    return round(budget * VIEW_SHARE)


def find_cut(messages: Sequence[MessageFacts], budget: int) -> Cut | None:
    """Returns the cut of a request, or None if its messages fit the budget (in tokens)."""
    cut, size = None, 0
    for i, message in enumerate(messages):
        size += message.tokens
        limit = budget if cut is None else budget - view_budget(budget) - _tokens(messages, cut.pinned_messages)
        if size <= limit:
            continue
        start = _choose_start(messages[: i + 1], cut.start if cut else 0, round(budget * REST_SHARE))
        if start and (cut is None or start > cut.start):
            cut = _cut_at(messages, start, i, budget)
            size = _tokens(messages, range(start, i + 1))
    if cut is None or keeps_pairs_together(messages, cut.start):
        return cut
    # A result arrived after its call was already before the cut.
    start = next(start for start in range(cut.start, -1, -1) if keeps_pairs_together(messages, start))
    return _cut_at(messages, start, cut.prompt or 0, budget) if start else None


def keeps_pairs_together(messages: Sequence[MessageFacts], start: int) -> bool:
    """Returns whether every tool result from `start` on has its call there too."""
    if start and start < len(messages) and messages[start].is_result:
        return False
    earlier_calls: set[str] = set()
    for message in messages[:start]:
        earlier_calls |= message.calls
    calls: set[str] = set()
    for message in messages[start:]:
        if (message.results - calls) & earlier_calls:
            return False
        calls |= message.calls
    return True


def _choose_start(messages: Sequence[MessageFacts], low: int, rest: int) -> int:
    """Returns a start that leaves about `rest` tokens and parts no pair: the first such start there, else the last."""
    size, best = 0, low
    missing_calls: set[str] = set()
    for start in range(len(messages) - 1, low, -1):
        message = messages[start]
        size += message.tokens
        missing_calls = (missing_calls | message.results) - message.calls
        # A result without an id belongs to the message before it.
        if missing_calls or message.is_result:
            continue
        if size > rest and best > low:
            break
        best = start
        if size > rest:
            break
    return best


def _cut_at(messages: Sequence[MessageFacts], start: int, at: int, budget: int) -> Cut:
    """Returns the cut at `start`, chosen when message `at` no longer fitted."""
    prompt = next((i for i in range(max(at, start - 1), -1, -1) if messages[i].is_prompt), None)
    earlier = next((i for i in range(start - 1, -1, -1) if messages[i].is_prompt), None)
    pins = earlier is not None and not messages[start].is_prompt and messages[earlier].tokens <= budget * PINNED_SHARE
    return Cut(start, prompt, earlier if pins else None)


def _tokens(messages: Sequence[MessageFacts], indexes: Sequence[int] | range) -> int:
    return sum(messages[i].tokens for i in indexes)
