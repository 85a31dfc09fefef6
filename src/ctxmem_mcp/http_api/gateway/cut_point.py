"""Where a long conversation is cut: messages before the cut become a view, those after it are sent unchanged. Pure.

    m0 m1 m2 m3 m4 m5 m6 │ m7 m8 m9
    └──── the view ────┘   └ unchanged ┘

The cut depends on the messages alone. They are processed from the first on: when they no longer fit, the cut moves so
far that only a small rest remains, and then stays until they again do not fit. So all requests between two moves begin
with the same bytes, after a restart too, and an edit changes only the cuts after it. A call and its results are always
on the same side.

Some texts from before the cut go along in every request, whole or in excerpts: the pins. They are the project's
instructions, the task (the first prompt), the prompt that the rest works on, and other long prompts, which are often
pasted specifications.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Shares of the budget: for the view, and for the rest right after the cut has moved.
VIEW_SHARE, REST_SHARE = 0.35, 0.12
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
class Cut:
    """A cut, as indexes of messages.

    Attributes:
        start: the first message that is sent unchanged.
        prompt: the user's prompt when the cut moved here: the view's query.
        pins: the texts before the cut that are sent beside the view, in order.
        last: the last message when the cut moved here.
        view_tokens: the budget of the view.
    """

    start: int
    prompt: int | None
    pins: tuple[Pin, ...]
    last: int
    view_tokens: int

    @property
    def pinned_tokens(self) -> int:
        """The most tokens that the pins take together."""
        return sum(pin.tokens for pin in self.pins)


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
        limit = budget if cut is None else budget - cut.view_tokens - cut.pinned_tokens
        if size > limit:
            start = _choose_start(messages[: i + 1], cut.start if cut else 0, round(budget * REST_SHARE))
            if start and (cut is None or start > cut.start):
                cut = _cut_at(messages, start, i, budget)
                size = _tokens(messages, range(start, i + 1))
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
    """Returns the cut at `start`, chosen when message `last` no longer fitted."""
    prompt = next((i for i in range(max(last, start - 1), -1, -1) if messages[i].is_prompt), None)
    pins = tuple(_pins(messages, start, budget))
    left = budget - sum(pin.tokens for pin in pins)
    return Cut(start, prompt, pins, last, min(round(budget * VIEW_SHARE), left // 2))


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
        is_current = i == prompts[-1] and not messages[start].is_prompt
        if not is_current and size < LONG_PROMPT_TOKENS:
            continue
        tokens = min(size, left)
        if tokens < min(size, LONG_PROMPT_TOKENS):
            break
        left -= tokens
        yield Pin(i, tokens)


def _prompt_tokens(message: MessageFacts) -> int:
    return message.prompt_tokens or message.tokens


def _tokens(messages: Sequence[MessageFacts], indexes: Sequence[int] | range) -> int:
    return sum(messages[i].tokens for i in indexes)
