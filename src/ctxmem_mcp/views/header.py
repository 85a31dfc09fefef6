"""The header of every text result: one line of JSON that describes the text. Its tokens count as well. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ctxmem_mcp.results import View

# Programs that count long texts in slices, as tiktoken requires, count up to two more tokens per cut. The budget must
# also hold by their count.
SLICE_CHARS, CHARS_PER_TOKEN, TOKENS_PER_CUT = 50_000, 4, 2


@dataclass(frozen=True, slots=True)
class ViewHeader:
    """The fields of the header line, except `shown_tokens`.

    Attributes:
        conversation_id: The conversation; None in a view of several.
        head: Id of the last turn of the view's branch; None if it is empty.
        turns: Number of turns that the view is of.
        tokens: Their tokens.
        token_budget: The budget of the view.
        encoding: Name of the encoding that tokens are counted in.
        next_cursor: The cursor of the next page; None on the last.
        extra: Further fields, inserted before `next_cursor`.
    """

    conversation_id: str | None
    head: str | None
    turns: int
    tokens: int
    token_budget: int
    encoding: str
    next_cursor: str | None = None
    extra: Mapping[str, str | int | float | list[str] | None] = field(default_factory=dict)

    def with_field(self, name: str, value: str | int | float | list[str] | None) -> ViewHeader:
        """Returns the header with a further field, or without it if the value is None."""
        others = {key: known for key, known in self.extra.items() if key != name}
        return replace(self, extra=others if value is None else {**others, name: value})

    def line(self, shown_tokens: int) -> str:
        """Renders the header line, without its line end."""
        return json.dumps(
            {
                "conversation_id": self.conversation_id,
                "head": self.head,
                "turns": self.turns,
                "tokens": self.tokens,
                "shown_tokens": shown_tokens,
                "token_budget": self.token_budget,
                "encoding": self.encoding,
                **self.extra,
                "next_cursor": self.next_cursor,
            },
            ensure_ascii=False,
            separators=(",", ":"),
        )

    def cost(self, count: Callable[[str], int]) -> int:
        """Returns the maximum tokens of the line with its line end, plus what other programs may count in addition."""
        cuts = self.token_budget * CHARS_PER_TOKEN // SLICE_CHARS
        return count(self.line(self.token_budget) + "\n") + TOKENS_PER_CUT * cuts

    def floor(self, text: int, count: Callable[[str], int]) -> int:
        """Returns the smallest budget that fits `text` tokens below a header line that states this budget."""
        least = text + self.cost(count)
        while (more := text + replace(self, token_budget=least).cost(count)) > least:
            least = more
        return least


def with_header(header: ViewHeader, text: str, count: Callable[[str], int]) -> View:
    """Builds the view.

    Returns:
        The view. `shown_tokens` is the exact count of the whole text, including the header line that states it.
    """
    shown = header.token_budget
    for _ in range(4):
        line = header.line(shown)
        counted = count(f"{line}\n{text}")
        if counted == shown:
            break
        shown = counted
    return View(
        text,
        header.conversation_id or "",
        header.head,
        header.turns,
        header.tokens,
        shown,
        header.token_budget,
        header.encoding,
        header.next_cursor,
        line,
    )
