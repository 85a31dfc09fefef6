"""The gateway at work: a request in, memory asked, the request on, the answer back as it comes, and kept when whole.

Memory fails open. If it breaks or is late, the request goes upstream as it came; what it was doing comes to its end in
the background, so that the next request finds more.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.responses import JSONResponse, Response, StreamingResponse

from ctxmem_mcp import usage_ledger
from ctxmem_mcp.http_api.gateway.compaction import Keeping, Prepared
from ctxmem_mcp.http_api.gateway.memory_options import Wish, wish_of, without_ours
from ctxmem_mcp.http_api.gateway.provider import Hearing, Shape, Usage
from ctxmem_mcp.http_api.gateway.upstream import Upstream, headers_back, headers_for
from ctxmem_mcp.models import day_of

if TYPE_CHECKING:
    from pathlib import Path

    import httpx2
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from ctxmem_mcp.http_api.deps import Deps

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# A request of one message that asks for no more than this is a probe or wants a title: nobody goes on from it.
ASIDE_TOKENS_MAX = 128
HEADER = "x-ctxmem-"


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests of one API go. key: the header with the configured key."""

    url: str
    key: Mapping[str, str]


@dataclass(slots=True)
class Doing:
    """One request on its way. told: what memory did, in a word: off, aside, whole, folded, late, failed."""

    request: Request
    shape: Shape
    target: Target
    content: bytes
    body: dict[str, Any] | None = None
    told: str = "off"
    days: int | None = None
    prepared: Prepared | None = None
    preparing: asyncio.Task[Prepared] | None = None

    def headers(self) -> list[tuple[str, str]]:
        """What was done, for the answer."""
        told = {"memory": self.told}
        if self.prepared is not None:
            told |= {
                "conversation": self.prepared.kept.conversation_id,
                "tokens-in": str(self.prepared.tokens_in),
                "tokens-sent": str(self.prepared.tokens_sent),
                "tokens-saved": str(self.saved),
            }
        if self.days is not None and self.told not in ("off", "aside"):
            told["retention-days"] = str(self.days)
        return [(HEADER + name, value) for name, value in told.items()]

    @property
    def saved(self) -> int:
        return self.prepared.tokens_in - self.prepared.tokens_sent if self.prepared else 0


class Gateway:
    """Answers what clients ask of a model."""

    def __init__(self, deps: Deps, upstream: Upstream | None = None) -> None:
        settings = deps.settings
        self._deps = deps
        self._keeping = Keeping(settings.gateway_tokens, settings.encoding)
        self._upstream = upstream or Upstream(settings.upstream_seconds)
        self._late: set[asyncio.Task[Any]] = set()
        self._noted: set[asyncio.Task[None]] = set()

    async def answer(self, request: Request, shape: Shape, target: Target, *, counts: bool = False) -> Response:
        """counts: the request only wants its tokens counted."""
        doing = Doing(request, shape, target, await request.body())
        await self._with_memory(doing, counts)
        return await self.sent_on(doing, counts)

    async def sent_on(self, doing: Doing, counts: bool = False) -> Response:
        """Sends the request on; the answer comes back as the upstream gives it."""
        import httpx2

        from ctxmem_mcp.http_api.deps import credential_headers

        request = doing.request
        headers = headers_for(request.headers.items(), credential_headers(request), doing.target.key)
        content = doing.content if request.method == "POST" else None
        sending = self._upstream.send(request.method, doing.target.url, request.url.query, headers, content)
        try:
            response = await _unless_gone(request, sending)
        except httpx2.TimeoutException:
            return self._failed(doing, 504, "The upstream did not answer in time.")
        except httpx2.HTTPError as error:
            return self._failed(doing, 502, f"The upstream can't be reached: {type(error).__name__}.")
        if response is None:
            return Response(status_code=499)
        back = headers_back(response.headers.multi_items()) + doing.headers()
        if response.headers.get("content-type", "").startswith("text/event-stream"):
            return _with_headers(_Relayed(self._streamed(doing, response), response), back)
        return await self._whole(doing, response, back, counts)

    # ------------------------------------------------------------ memory

    async def _with_memory(self, doing: Doing, counts: bool) -> None:
        """Puts into `doing` what is to go upstream."""
        body = _json_object(doing.content)
        if body is None:
            return
        wish = wish_of(body, {name.lower(): value for name, value in doing.request.headers.items()})
        doing.body, doing.days = body, wish.days
        if wish.said:
            doing.content = _dumped(without_ours(body, wish))
        if not wish.on:
            return
        if not counts and _is_aside(body, doing.shape):
            doing.told = "aside"
            return
        try:
            doing.prepared = await self._prepared_in_time(doing, body, wish)
        except TimeoutError:
            doing.told = "late"
        except Exception as error:
            doing.told = "failed"
            _log.warning("Memory failed (%s); the request went on as it came.", type(error).__name__, exc_info=True)
        else:
            doing.told = "folded" if doing.prepared.body is not None else "whole"
            if doing.prepared.body is not None:
                doing.content = _dumped(without_ours(doing.prepared.body, wish))

    async def _prepared_in_time(self, doing: Doing, body: dict[str, Any], wish: Wish) -> Prepared:
        doing.preparing = asyncio.create_task(self._prepared(doing, body, wish), name="ctxmem gateway")
        self._late.add(doing.preparing)
        doing.preparing.add_done_callback(self._over)
        return await asyncio.wait_for(asyncio.shield(doing.preparing), self._deps.settings.gateway_seconds)

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.debug("A task of the gateway failed.", exc_info=error)

    async def _prepared(self, doing: Doing, body: dict[str, Any], wish: Wish) -> Prepared:
        memory = await self._deps.memory(doing.request)
        return await self._keeping.prepared(memory, self._deps.principal_of(doing.request), doing.shape, body, wish)

    # ------------------------------------------------------------ answers

    def _failed(self, doing: Doing, status: int, message: str) -> Response:
        return _with_headers(JSONResponse(doing.shape.error(status, message), status), doing.headers())

    async def _whole(
        self, doing: Doing, response: httpx2.Response, back: list[tuple[str, str]], counts: bool
    ) -> Response:
        import httpx2

        try:
            content = await _unless_gone(doing.request, response.aread())
        except httpx2.HTTPError as error:
            return self._failed(doing, 502, f"The upstream broke off: {type(error).__name__}.")
        finally:
            await response.aclose()
        if content is None:
            return Response(status_code=499)
        if response.status_code == 200 and doing.preparing is not None and not counts:
            try:
                content = await self._kept(doing, content)
            except Exception as error:
                _log.warning("An answer was not kept, it can't be understood: %s", type(error).__name__)
        return _with_headers(Response(content, response.status_code), back)

    async def _kept(self, doing: Doing, content: bytes) -> bytes:
        """Keeps a whole answer; gives it back with what its history would have cost, where that was folded."""
        found = _json_object(content)
        await self._keep(doing, doing.shape.answer(found), doing.shape.usage(found))
        if doing.told == "folded" and found is not None and doing.shape.with_raw(found, doing.saved):
            return _dumped(found)
        return content

    async def _streamed(self, doing: Doing, response: httpx2.Response) -> AsyncGenerator[bytes, None]:
        """The answer's bytes as they come. What was heard is kept if it is whole, however the stream ends: clients hang
        up once they have read the last event, before the upstream does."""
        keeps = doing.preparing is not None and response.status_code == 200
        hearing = Hearing(doing.shape.heard()) if keeps else None
        try:
            async for chunk in response.aiter_bytes():
                if hearing is not None:
                    hearing.feed(chunk)
                yield chunk
        finally:
            if hearing is not None:
                answer = hearing.end()
                if hearing.lost is not None:
                    _log.warning("A streamed answer was not kept, it can't be followed: %s", hearing.lost)
                await self._keep(doing, answer, hearing.heard.usage())

    async def _keep(self, doing: Doing, answer: list[Any], usage: Usage) -> None:
        """Remembers a whole answer and what it cost; not a word about it where that fails, but in the log."""
        keeping = asyncio.create_task(self._remembered(doing, answer, usage), name="ctxmem gateway answer")
        self._late.add(keeping)
        keeping.add_done_callback(self._over)
        if doing.told == "late":
            return
        try:
            await asyncio.wait_for(asyncio.shield(keeping), self._deps.settings.gateway_seconds)
        except TimeoutError:
            _log.warning("Keeping an answer takes long; it goes on in the background.")
        except Exception as error:
            _log.warning("An answer was not kept: %s", type(error).__name__, exc_info=True)

    async def _remembered(self, doing: Doing, answer: list[Any], usage: Usage) -> None:
        assert doing.preparing is not None
        prepared = await doing.preparing
        memory = await self._deps.memory(doing.request)
        if answer:
            await self._keeping.remember(memory, prepared.kept, answer)
        folded = doing.told == "folded"
        sent = prepared.tokens_sent if folded else prepared.tokens_in
        out = usage.tokens_out
        if out is None:
            out = sum(self._keeping.sizes(turn.content) for turn in answer)
        spent = usage_ledger.LedgerEntry(
            day_of(time.time()),
            prepared.kept.conversation_id,
            1,
            sent if usage.tokens_in is None else usage.tokens_in,
            out,
            usage.cached or 0,
            prepared.tokens_in - sent,
        )
        self._noted = {task for task in self._noted if not task.done()}
        self._noted.add(
            asyncio.create_task(self._note(self._deps.folder(doing.request), spent), name="ctxmem spending")
        )

    async def _note(self, folder: Path, spent: usage_ledger.LedgerEntry) -> None:
        """Adds up what was spent; nobody's answer waits for it."""
        try:
            await asyncio.to_thread(usage_ledger.add, folder, spent)
        except Exception as error:
            _log.warning("What a request cost was not noted: %s", error)

    async def close(self) -> None:
        """What is still being kept comes to its end before: afterwards there is no memory."""
        if self._late:
            await asyncio.wait(self._late, timeout=self._deps.settings.gateway_seconds)
        await self.settled()
        await self._upstream.close()

    async def settled(self) -> None:
        """Returns when all that was spent is noted."""
        await asyncio.gather(*self._noted)


class _Relayed(StreamingResponse):
    """An upstream's answer as it comes. The upstream is let go however this ends, begun or not."""

    def __init__(self, content: AsyncGenerator[bytes, None], upstream: httpx2.Response) -> None:
        super().__init__(content, upstream.status_code)
        self._content, self._upstream = content, upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._upstream), aclosing(self._content):
            await super().__call__(scope, receive, send)


async def _unless_gone(request: Request, wanted: Coroutine[Any, Any, _T]) -> _T | None:
    """What was wanted; or None, and it is given up, when the client hangs up before."""
    working = asyncio.ensure_future(wanted)
    watching = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        if not working.done() and watching.exception() is None:
            return None
        return await working
    finally:
        for task in (working, watching):
            task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await working
        with suppress(asyncio.CancelledError, Exception):
            await watching


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _is_aside(body: Mapping[str, Any], shape: Shape) -> bool:
    """Whether nobody goes on from this request: a probe, a title."""
    messages = body.get("messages")
    leading = ("system", "developer")
    asked = [m for m in messages if _role(m) not in leading] if isinstance(messages, list) else []
    most = shape.asks_for(body)
    return len(asked) <= 1 and most is not None and most <= ASIDE_TOKENS_MAX and not body.get("tools")


def _role(message: object) -> object:
    return message.get("role") if isinstance(message, dict) else None


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _dumped(body: Mapping[str, Any]) -> bytes:
    """As JSON. Half a surrogate pair, which has no bytes, stays written out."""
    try:
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(body, separators=(",", ":")).encode()


def _with_headers(response: Response, headers: list[tuple[str, str]]) -> Response:
    """The response with these headers and no other content type."""
    given = {name for name, _ in headers}
    own = [(name, value) for name, value in response.raw_headers if name.decode("latin-1") not in given]
    response.raw_headers = [*own, *((n.encode("latin-1"), v.encode("latin-1", "replace")) for n, v in headers)]
    return response
