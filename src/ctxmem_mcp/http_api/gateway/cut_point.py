"""Where a long conversation is cut: messages before the cut become a view, those after it are sent unchanged. Pure.

    m0 m1 m2 m3 m4 m5 m6 │ m7 m8 m9
    └──── the view ────┘   └ unchanged ┘

The cut depends on the messages alone. They are processed from the first on: when they no longer fit, the cut moves so
far that only a small rest remains, and then stays until they again do not fit. So all requests between two moves begin
with the same bytes, after a restart too, and an edit changes only the cuts after it. A call and its results are always
on the same side.

When the cut moves, the view is not drawn again: a short part about the messages since the last part is added to it, so
that a provider's cache keeps what was sent before. Only when the parts leave too little room are they replaced by one
new view.

Some texts from before the cut go along in every request, whole or in excerpts: the pins. They are the project's
instructions, the task (the first prompt), the prompt that the rest works on, and other long prompts, which are often
pasted specifications.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

# Shares of the budget: for the view, and for the rest right after the cut has moved.
VIEW_SHARE, REST_SHARE = 0.35, 0.12
# Shares of the budget: for a part that is added to the view; for one that also looks back for a new prompt; for the
# view with all its parts and the pins; and for what must fit after the messages when a part is added. Of five sessions
# of Claude Code, replayed in 16,000 tokens, 84.2% of the tokens sent came from the cache, and 81.9% with a new view at
# every move; parts of half or twice this size made no difference.
ADDED_SHARE, ADDED_SHARE_NEW_PROMPT, HEAD_SHARE, GROWTH_SHARE = 0.04, 0.06, 0.75, 0.03
# A part is at most half as long as its messages, but may have this many tokens.
ADDED_TOKENS_MIN = 100
# The most tokens, and the largest share of the budget, that a pinned task, the instructions and the other prompts take.
TASK_TOKENS, TASK_SHARE = 3_000, 0.375
INSTRUCTIONS_TOKENS, INSTRUCTIONS_SHARE = 2_000, 0.25
PROMPTS_TOKENS, PROMPTS_SHARE = 3_000, 0.25
# All pins together.
PINS_SHARE = 0.7
# A later prompt of this size is pinned although others follow it.
LONG_PROMPT_TOKENS = 300


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What the choice of a cut needs to know about a message.

    Attributes:
        tokens: its size.
        calls: ids of the tool calls that it makes.
        results: ids of the tool calls whose results it has.
        is_prompt: it is the user's own text, or the task that an agent was given.
        is_result: it has tool results, with or without an id.
        prompt_tokens: the size of the user's own text; 0 if the whole message is.
        instructions_tokens: the size of the project's instructions in it.
    """

    tokens: int
    calls: frozenset[str] = frozenset()
    results: frozenset[str] = frozenset()
    is_prompt: bool = False
    is_result: bool = False
    prompt_tokens: int = 0
    instructions_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Pin:
    """A text from before the cut that goes along in every request.

    Attributes:
        message: the index of its message.
        tokens: the most tokens that it may take.
        is_instructions: it is the project's instructions in the message, else the user's own text.
    """

    message: int
    tokens: int
    is_instructions: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what replaces the messages before a cut: the view, or what was added to it when the cut moved.

    Attributes:
        end: the first message after it.
        prompt: the user's prompt when the cut moved here: the query.
        pins: texts of its messages that are sent beside it, in order.
        last: the last message when the cut moved here.
        tokens: its budget.
        looks_back: an added part for a new prompt, which may quote messages from before it.
    """

    end: int
    prompt: int | None
    pins: tuple[Pin, ...]
    last: int
    tokens: int
    looks_back: bool = False


@dataclass(frozen=True, slots=True)
class Cut:
    """A cut, as indexes of messages. parts: the view, and what was added to it."""

    parts: tuple[Part, ...]

    @property
    def start(self) -> int:
        """The first message that is sent unchanged."""
        return self.parts[-1].end

    @property
    def prompt(self) -> int | None:
        """The user's prompt when the cut moved here."""
        return self.parts[-1].prompt

    @property
    def last(self) -> int:
        """The last message when the cut moved here."""
        return self.parts[-1].last

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The texts before the cut that are sent beside the parts, in order."""
        return tuple(chain.from_iterable(part.pins for part in self.parts))

    @property
    def view_tokens(self) -> int:
        """The most tokens that the parts take together."""
        return sum(part.tokens for part in self.parts)

    @property
    def pinned_tokens(self) -> int:
        """The most tokens that the pins take together."""
        return sum(pin.tokens for pin in self.pins)

    @property
    def head_tokens(self) -> int:
        """The most tokens that everything before the unchanged messages takes."""
        return self.view_tokens + self.pinned_tokens


@dataclass(frozen=True, slots=True)
class CutState:
    """The cut after a message, and the size of the messages from the cut to there."""

    cut: Cut | None = None
    tokens: int = 0


def find_cut(messages: Sequence[MessageFacts], budget: int) -> Cut | None:
    """Returns the cut of a request, or None if its messages fit the budget (in tokens)."""
    states = cut_states(messages, budget, ())
    return checked_cut(messages, states[-1].cut if states else None, budget)


def cut_states(messages: Sequence[MessageFacts], budget: int, known: Sequence[CutState]) -> list[CutState]:
    """Returns the state after each message.

    Args:
        messages: the messages of a request.
        budget: tokens.
        known: the states after the first of them.
    """
    states = list(known)
    state = states[-1] if states else CutState()
    for i in range(len(states), len(messages)):
        cut, size = state.cut, state.tokens + messages[i].tokens
        limit = budget if cut is None else budget - cut.head_tokens
        if size > limit:
            start = _choose_start(messages[: i + 1], cut.start if cut else 0, round(budget * REST_SHARE))
            if start and (cut is None or start > cut.start):
                size = _tokens(messages, range(start, i + 1))
                cut = (cut and _added_to(cut, messages, start, i, size, budget)) or _cut_at(messages, start, i, budget)
        state = CutState(cut, size)
        states.append(state)
    return states


def checked_cut(messages: Sequence[MessageFacts], cut: Cut | None, budget: int) -> Cut | None:
    """Returns a cut, moved back if a result arrived after its call was already before the cut."""
    if cut is None or keeps_pairs_together(messages, cut.start):
        return cut
    start = next(start for start in range(cut.start, -1, -1) if keeps_pairs_together(messages, start))
    return _cut_at(messages, start, cut.last, budget) if start else None


def keeps_pairs_together(messages: Sequence[MessageFacts], start: int) -> bool:
    """Returns whether every tool result from `start` on has its call there too."""
    if start and start < len(messages) and messages[start].is_result:
        return False
    calls: set[str] = set()
    missing: set[str] = set()
    for message in messages[start:]:
        missing |= message.results - calls
        calls |= message.calls
    return not missing or all(missing.isdisjoint(message.calls) for message in messages[:start])


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


def _cut_at(messages: Sequence[MessageFacts], start: int, last: int, budget: int) -> Cut:
    """Returns the cut at `start` with a new view, chosen when message `last` no longer fitted."""
    pins = tuple(_pins(messages, start, budget))
    left = budget - sum(pin.tokens for pin in pins)
    tokens = min(round(budget * VIEW_SHARE), left // 2)
    return Cut((Part(start, _prompt_at(messages, start, last), pins, last, tokens),))


def _added_to(cut: Cut, messages: Sequence[MessageFacts], start: int, last: int, size: int, budget: int) -> Cut | None:
    """Returns a cut moved to `start` by adding a part; None if a new view must be drawn.

    Args:
        cut: where it was.
        messages: the messages.
        start: where it moves.
        last: the message that no longer fitted.
        size: the tokens of the messages from `start` on.
        budget: tokens.
    """
    pins = _added_pins(cut, messages, start, budget)
    if pins is None:
        return None
    prompt = _prompt_at(messages, start, last)
    looks_back = prompt != cut.prompt
    share = round(budget * (ADDED_SHARE_NEW_PROMPT if looks_back else ADDED_SHARE))
    covered = _tokens(messages, range(cut.start, start))
    tokens = min(share, max(ADDED_TOKENS_MIN, covered // 2))
    moved = Cut((*cut.parts, Part(start, prompt, pins, last, tokens, looks_back)))
    fits = moved.head_tokens <= budget * HEAD_SHARE and moved.head_tokens + size <= budget * (1 - GROWTH_SHARE)
    return moved if fits else None


def _prompt_at(messages: Sequence[MessageFacts], start: int, last: int) -> int | None:
    return next((i for i in range(max(last, start - 1), -1, -1) if messages[i].is_prompt), None)


def _added_pins(cut: Cut, messages: Sequence[MessageFacts], start: int, budget: int) -> tuple[Pin, ...] | None:
    """Returns the pins of the messages from the old cut to the new one; None if the pins must be chosen anew.

    They must if the instructions or the task are among these messages, or if there is no room for the last prompt.
    """
    added = range(cut.start, start)
    prompts = [i for i in added if messages[i].is_prompt]
    has_instructions = any(pin.is_instructions for pin in cut.pins)
    if not has_instructions and any(messages[i].instructions_tokens for i in added):
        return None
    later = [pin for pin in cut.pins if not pin.is_instructions][1:]
    if prompts and not any(not pin.is_instructions for pin in cut.pins):
        return None
    left = min(PROMPTS_TOKENS, budget * PROMPTS_SHARE) - sum(pin.tokens for pin in later)
    left = min(left, budget * PINS_SHARE - cut.pinned_tokens)
    pins = sorted(_later_pins(messages, prompts, start, round(left)), key=lambda pin: pin.message)
    is_complete = all(
        any(pin.message == i for pin in pins) for i in prompts if _must_be_pinned(messages, prompts, i, start)
    )
    return tuple(pins) if is_complete else None


def _pins(messages: Sequence[MessageFacts], start: int, budget: int) -> Iterable[Pin]:
    """Yields the pins of a cut at `start`, in the order of their messages."""
    left = budget * PINS_SHARE
    instructions = next((i for i in range(start) if messages[i].instructions_tokens), None)
    if instructions is not None:
        limit = min(INSTRUCTIONS_TOKENS, round(budget * INSTRUCTIONS_SHARE))
        tokens = min(messages[instructions].instructions_tokens, limit)
        left -= tokens
        yield Pin(instructions, tokens, is_instructions=True)
    prompts = [i for i in range(start) if messages[i].is_prompt]
    if not prompts:
        return
    tokens = min(_prompt_tokens(messages[prompts[0]]), TASK_TOKENS, round(budget * TASK_SHARE))
    yield Pin(prompts[0], tokens)
    left = min(left - tokens, PROMPTS_TOKENS, budget * PROMPTS_SHARE)
    yield from sorted(_later_pins(messages, prompts[1:], start, round(left)), key=lambda pin: pin.message)


def _later_pins(messages: Sequence[MessageFacts], prompts: Sequence[int], start: int, left: int) -> Iterable[Pin]:
    """Yields the pins of the prompts after the first: the last if the rest works on it, and the long ones that fit."""
    for i in reversed(prompts):
        size = _prompt_tokens(messages[i])
        if not _must_be_pinned(messages, prompts, i, start):
            continue
        tokens = min(size, left)
        if tokens < min(size, LONG_PROMPT_TOKENS):
            break
        left -= tokens
        yield Pin(i, tokens)


def _must_be_pinned(messages: Sequence[MessageFacts], prompts: Sequence[int], i: int, start: int) -> bool:
    """Returns whether a prompt is the one that the messages from `start` on work on, or a long one."""
    is_current = i == prompts[-1] and not messages[start].is_prompt
    return is_current or _prompt_tokens(messages[i]) >= LONG_PROMPT_TOKENS


def _prompt_tokens(message: MessageFacts) -> int:
    return message.prompt_tokens or message.tokens


def _tokens(messages: Sequence[MessageFacts], indexes: Sequence[int] | range) -> int:
    return sum(messages[i].tokens for i in indexes)
