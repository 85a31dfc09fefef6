"""The lines about compaction: `ctxmem: 330k → 14k tokens · 92% from cache · nothing lost`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class CompactionReport:
    """Collects the usage of a run's requests.

    Attributes:
        compactions: how often a conversation's cut has moved.
        last: the line of the last compaction; empty before the first.
    """

    compactions: int = 0
    last: str = ""
    _cuts: dict[str, int] = field(default_factory=dict)
    _tokens_in: int = 0
    _cached: int | None = None

    def add(self, usage: Mapping[str, Any]) -> str | None:
        """Adds a request's usage, the fields of `RequestUsage`. Returns the line to show if it was compacted anew."""
        if usage["cached"] is not None and usage["tokens_in"]:
            self._tokens_in += usage["tokens_in"]
            self._cached = (self._cached or 0) + usage["cached"]
        conversation, cut = usage["conversation_id"], usage["cut"]
        if cut is None:
            return None
        is_new = self._cuts.get(conversation) != cut
        self._cuts[conversation] = cut
        self.compactions += is_new
        self.last = self._line(usage["history"], usage["sent"])
        return self.last if is_new else None

    def summary(self) -> str:
        """Returns the line for the end of a run; empty if nothing was compacted."""
        if not self.compactions:
            return ""
        times = "once" if self.compactions == 1 else f"{self.compactions} times"
        return f"{self.last} · compacted {times}; `ctxmem-mcp usage` shows more"

    def _line(self, history: int, sent: int) -> str:
        parts = [f"ctxmem: {_thousands(history)} → {_thousands(sent)} tokens"]
        if self._cached is not None:
            parts.append(f"{self._cached / self._tokens_in:.0%} from cache")
        return " · ".join([*parts, "nothing lost"])


def _thousands(tokens: int) -> str:
    return f"{tokens / 1_000:.0f}k" if tokens >= 1_000 else str(tokens)
