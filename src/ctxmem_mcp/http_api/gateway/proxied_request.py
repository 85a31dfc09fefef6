"""A request on its way through the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ctxmem_mcp.http_api.gateway.compaction import Compacted
from ctxmem_mcp.http_api.gateway.endpoints import Endpoint
from ctxmem_mcp.http_api.gateway.provider import Provider

if TYPE_CHECKING:
    from starlette.requests import Request

HEADER_PREFIX = "x-ctxmem-"

Outcome = Literal["off", "aside", "whole", "folded", "late", "failed", "forgotten", "full"]


@dataclass(slots=True)
class ProxiedRequest:
    """A request on its way through the gateway.

    Attributes:
        request: the client's request.
        provider: the API that it uses.
        endpoint: where it is forwarded.
        content: the body to forward.
        outcome: what memory did, as reported in `x-ctxmem-memory`.
        days: the requested retention.
        compacted: the result of the compaction.
        compaction: the task that stores and compacts the request; it may outlast the time limit.
        body: the client's body, if memory is on.
        share_done: how much of a long request's computation is done, 0..1.
        is_replaced: the content is not the client's own bytes.
        model: the model that the path names, with its options, or None.
    """

    request: Request
    provider: Provider
    endpoint: Endpoint
    content: bytes
    outcome: Outcome = "off"
    days: int | None = None
    compacted: Compacted | None = None
    compaction: asyncio.Task[Compacted] | None = None
    body: dict[str, Any] | None = None
    share_done: float = 0.0
    is_replaced: bool = False
    model: str | None = None

    def replace_content(self, body: Mapping[str, Any]) -> None:
        """Forwards this body, not compressed, instead of the client's."""
        self.content, self.is_replaced = dump(body), True

    def headers(self) -> list[tuple[str, str]]:
        """Returns the response headers that report what memory did."""
        report: dict[str, str] = {"memory": self.outcome}
        if self.outcome == "late" and self.share_done:
            report["memory"] += f"; {self.share_done:.0%}"
        if self.compacted is not None:
            report |= {
                "conversation": self.compacted.conversation.conversation_id,
                "tokens-in": str(self.compacted.tokens_in),
                "tokens-sent": str(self.compacted.tokens_sent),
                "tokens-saved": str(self.saved),
            }
        if self.days is not None and self.outcome not in ("off", "aside", "forgotten", "full"):
            report["retention-days"] = str(self.days)
        return [(HEADER_PREFIX + name, value) for name, value in report.items()]

    @property
    def saved(self) -> int:
        """The tokens that compaction saved."""
        return self.compacted.tokens_in - self.compacted.tokens_sent if self.compacted else 0


def dump(body: Mapping[str, Any]) -> bytes:
    """Returns JSON in UTF-8. A lone surrogate, which UTF-8 can't encode, is left as an escape."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()
