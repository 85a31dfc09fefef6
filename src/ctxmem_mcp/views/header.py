"""The first line of every text result: what the text is, as one line of JSON, counted in with the rest. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from ctxmem_mcp.models import View

# Counters that take long texts in slices, as tiktoken's own users must, count up to two tokens more at each cut: a
# budget is to hold in their count as well.
OTHERS_SLICE_CHARS, CHARS_PER_TOKEN, TOKENS_PER_CUT = 50_000, 4, 2


@dataclass(frozen=True, slots=True)
class ViewHeader:
    """What the header line says, but for the tokens shown. extra: further fields, put before next_cursor."""

    conversation_id: str
    head: str | None
    turns: int
    tokens: int
    token_budget: int
    encoding: str
    next_cursor: str | None = None
    extra: Mapping[str, str | int | list[str] | None] = field(default_factory=dict)

    def line(self, shown_tokens: int) -> str:
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
        """The most tokens that the line and its line end can take, and what others may count more than we do."""
        cuts = self.token_budget * CHARS_PER_TOKEN // OTHERS_SLICE_CHARS
        return count(self.line(self.token_budget) + "\n") + TOKENS_PER_CUT * cuts

    def floor(self, text: int, count: Callable[[str], int]) -> int:
        """The smallest budget that holds so many tokens of text under a line which names that budget."""
        least = text + self.cost(count)
        while (more := text + replace(self, token_budget=least).cost(count)) > least:
            least = more
        return least


def with_header(header: ViewHeader, text: str, count: Callable[[str], int]) -> View:
    """The view; shown_tokens is the exact count of the whole, the line that says it included."""
    shown = header.token_budget
    for _ in range(4):
        line = header.line(shown)
        counted = count(f"{line}\n{text}")
        if counted == shown:
            break
        shown = counted
    return View(
        text,
        header.conversation_id,
        header.head,
        header.turns,
        header.tokens,
        shown,
        header.token_budget,
        header.encoding,
        header.next_cursor,
        line,
    )
