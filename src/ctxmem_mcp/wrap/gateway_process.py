"""The gateway as a process of its own: `python -P -m ctxmem_mcp.wrap.gateway_process`.

It reads one line of JSON from stdin, serves on the socket that it inherits, and ends when stdin does: with the process
that started it, however that ended. On stdout it writes a line of JSON when it is ready and for each request's usage.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from dataclasses import asdict, dataclass, replace
from typing import Any

from ctxmem_mcp.settings import Settings

READY = "ready"
# Connections that the kernel queues until they are accepted.
BACKLOG = 128


@dataclass(frozen=True, slots=True)
class Order:
    """What the process is to do.

    Attributes:
        data_dir, config: the options of the command line, or None.
        upstreams: the endpoints by API: openai, anthropic, gemini, code_assist, chatgpt.
        tokens: the budget, or None for the configured one.
        socket: the file descriptor of the listening socket; None to listen on `port`.
        port: the port.
        run: the run's id, under which the agent's hooks record its sessions.
    """

    data_dir: str | None
    config: str | None
    upstreams: dict[str, str]
    tokens: int | None
    socket: int | None
    port: int
    run: str = ""

    def settings(self) -> Settings:
        """Returns the settings. The user's keys and upstreams for `serve` are not the agent's."""
        flags: dict[str, object] = {"data_dir": self.data_dir, "gateway_tokens": self.tokens}
        return replace(
            Settings.load(flags, config_path=self.config),
            gateway_memory="always",
            upstream_base_url=self._upstream("openai"),
            upstream_anthropic_url=self._upstream("anthropic"),
            upstream_gemini_url=self._upstream("gemini"),
            upstream_code_assist_url=self._upstream("code_assist"),
            upstream_chatgpt_url=self._upstream("chatgpt"),
            upstream_api_key=None,
            upstream_anthropic_api_key=None,
            upstream_gemini_api_key=None,
        )

    def _upstream(self, api: str) -> str | None:
        url = self.upstreams.get(api, "").rstrip("/")
        return url or None


def main() -> None:
    """Serves until stdin ends."""
    order = Order(**json.loads(sys.stdin.readline()))
    settings = order.settings()
    from ctxmem_mcp.serve.logs import log_to_stderr

    log_to_stderr(settings)
    _serve(settings, order)


def _serve(settings: Settings, order: Order) -> None:
    import uvicorn

    from ctxmem_mcp.http_api.gateway_app import build_gateway_app

    app = build_gateway_app(settings, lambda usage: _write(asdict(usage)), order.run)
    config = uvicorn.Config(
        app, host="127.0.0.1", port=order.port, http="h11", ws="none", backlog=BACKLOG, log_config=None,
        access_log=False, server_header=False, timeout_graceful_shutdown=settings.http_shutdown_seconds,
    )  # fmt: skip

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            _write({READY: True})

    server = Server(config)
    listening = None if order.socket is None else [socket.socket(fileno=order.socket)]
    threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    server.run(sockets=listening)


def _stop_at_end_of_input(server: Any) -> None:
    while os.read(sys.stdin.fileno(), 4_096):
        pass
    server.should_exit = True


def _write(value: dict[str, Any]) -> None:
    try:
        print(json.dumps(value), flush=True)  # noqa: T201
    except OSError:  # nobody reads it any more
        return


if __name__ == "__main__":
    main()
