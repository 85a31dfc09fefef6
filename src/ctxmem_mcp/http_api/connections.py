"""Limits for connections that send no complete request, below the middleware, which sees only complete ones.

A connection waits from its start, and from the end of each response, until the head of a request has arrived. Waiting
is limited in time and, for each address, in number: a further connection closes the one that has waited longest. So
a client that opens many shuts out only its own idle connections. Connections through a proxy share one address; of
them too, only idle ones are closed. A connection whose client stops reading the response is closed too.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from typing import TYPE_CHECKING, Any, cast

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

# asyncio accepts this many connections at a time before it calls any of their protocols. With uvicorn's 2,048 a flood
# uses up all file descriptors before a limit applies, and each failed accept is logged with its traceback. It is well
# below an address's limit, so that a connection is read before as many newer ones close it.
BACKLOG = 32
# After this long a client that reads nothing of a response is taken for gone.
STALLED_SECONDS = 60.0
# An IPv6 host has a network of its own.
_HOST_BITS = 64

_log = logging.getLogger("ctxmem_mcp.http")


class WaitingConnections:
    """The connections that wait for a request, by address, each longest first."""

    def __init__(self, per_address: int, total: int, head_seconds: float) -> None:
        """head_seconds: how long a connection may wait."""
        self._per_address, self._total = per_address, max(total, per_address)
        self.head_seconds = head_seconds
        self._waiting: dict[str, dict[LimitedProtocol, None]] = {}
        self._count = 0

    def add(self, connection: LimitedProtocol) -> None:
        """Adds a connection; closes another one if there are too many."""
        of_address = self._waiting.setdefault(connection.address, {})
        if connection in of_address:
            return
        of_address[connection] = None
        self._count += 1
        if len(of_address) > self._per_address:
            self._close_oldest(of_address)
        elif self._count > self._total:
            self._close_oldest(max(self._waiting.values(), key=len))

    def discard(self, connection: LimitedProtocol) -> None:
        of_address = self._waiting.get(connection.address, {})
        if connection in of_address:
            del of_address[connection]
            self._count -= 1
            if not of_address:
                del self._waiting[connection.address]

    def _close_oldest(self, of_address: dict[LimitedProtocol, None]) -> None:
        oldest = next(iter(of_address))
        self.discard(oldest)
        _log.warning("Closed a connection without a request: there are too many from %s.", oldest.address)
        oldest.give_up()


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP protocol with these limits."""

    def __init__(
        self,
        waiting: WaitingConnections,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._waiting = waiting
        self._deadline: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self.address = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast("asyncio.Transport", transport))
        self.address = _network(self.client[0]) if self.client else ""
        self._update()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._update()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._waiting.discard(self)
        self._stop_deadline()
        self._stop_stalled()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_stalled()

    def _update(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is not None and not self.cycle.response_complete:
            self._waiting.discard(self)
            self._stop_deadline()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._waiting.head_seconds, self.give_up)
            self._waiting.add(self)

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _stop_stalled(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def give_up(self) -> None:
        """Closes the connection; after what is left of its last response, if the client reads that."""
        if not self.transport.get_write_buffer_size():
            return self.transport.abort()
        if self._stalled is None:
            self._stalled = self.loop.call_later(STALLED_SECONDS, self.transport.abort)
        return self.transport.close()


def _network(host: str) -> str:
    """The address of an IPv4 host, or the network of an IPv6 host, which can use all of its addresses."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4:
        return host
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _HOST_BITS), strict=False))
