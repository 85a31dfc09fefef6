"""Forwards requests to their upstream unchanged, in this process: what an agent has left if the gateway can't run."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx2

from ctxmem_mcp.http_api.gateway.endpoints import NotConfigured, endpoint_of
from ctxmem_mcp.http_api.gateway.upstream import CONNECT_SECONDS, request_headers, response_headers
from ctxmem_mcp.settings import Settings


class Forwarder(ThreadingHTTPServer):
    """A server on a socket that listens already."""

    daemon_threads = True

    def __init__(self, listening: socket.socket, settings: Settings) -> None:
        """settings: the upstreams."""
        super().__init__(listening.getsockname(), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket, self.settings = listening, settings
        timeout = httpx2.Timeout(settings.upstream_seconds, connect=CONNECT_SECONDS)
        self.client = httpx2.Client(timeout=timeout, follow_redirects=False)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """An agent that disconnects is no error; nothing may be written to its terminal."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or a kept connection waits 40 ms for each body
    server: Forwarder

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        self._forward()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def _forward(self) -> None:
        content = self._body()
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            url = endpoint_of(path, headers, self.server.settings).url
        except NotConfigured:
            return self._refuse(404)
        address = f"{url}?{query}" if query else url
        sent = request_headers(self.headers.items(), (), {})
        try:
            with self.server.client.stream(self.command, address, headers=sent, content=content) as response:
                self._relay(response)
        except httpx2.HTTPError:
            self._refuse(502)
        return None

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", "").lower():
            return b"".join(iter(self._chunk, b""))
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _chunk(self) -> bytes:
        """Reads a chunk of the request's body; the last one is empty."""
        size = int(self.rfile.readline().partition(b";")[0], 16)
        chunk = self.rfile.read(size)
        self.rfile.readline()
        return chunk

    def _relay(self, response: httpx2.Response) -> None:
        """The end of the body is the end of the connection: the upstream may not have said how long it is."""
        self.send_response_only(response.status_code)
        for name, value in response_headers(response.headers.multi_items()):
            self.send_header(name, value)
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        for part in response.iter_bytes():
            self.wfile.write(part)
            self.wfile.flush()

    def _refuse(self, status: int) -> None:
        self.send_response_only(status)
        self.send_header("content-length", "0")
        self.end_headers()
