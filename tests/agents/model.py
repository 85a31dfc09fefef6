"""A model on loopback whose replies the test writes: Anthropic's messages, OpenAI's Responses and chat completions,
Gemini's contents.

A reply is a list of blocks, made by `say` and `call`. The replies to an agent's own requests come from a queue, one for
each; a request without tools (for a title, say) and one for a summary have an answer of their own.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.agents.answers import Answer, Anthropic, Chat, Gemini, Json, Responses, text_of

__all__ = ["Json", "Model", "Request", "call", "hold", "refuse", "say", "text_of"]
SUMMARY = "1. Primary request: the work that the user asked for.\n2. Pending tasks: none."
# What agents send for a compaction. Gemini CLI has its summary checked in a second request.
_SUMMARY_REQUEST = re.compile(
    r"create a detailed summary|TEXT ONLY|CONTEXT CHECKPOINT COMPACTION|handoff summary|<state_snapshot>"
    r"|Here is the conversation so far:|summary of (?:the|this|our) conversation"
)
# The names of the tool that runs a command.
_SHELL = ("Bash", "exec_command", "shell", "shell_command", "local_shell", "run_commands", "execute_command",
          "run_shell_command", "bash")  # fmt: skip

# The answer to a request without tools: a title; whose turn it is, and which model to take (Gemini CLI, Qwen Code).
_WITHOUT_TOOLS = {
    "title": "A scripted session", "isNewTopic": False, "next_speaker": "user", "reasoning": "It is the user's turn.",
    "model_choice": "flash",
}  # fmt: skip


def say(text: str) -> Json:
    """A block of text."""
    return {"say": text}


def call(tool: str, **arguments: Any) -> Json:
    """A call of a tool; `shell` stands for the agent's own, whose argument is `command`."""
    return {"call": tool, "arguments": arguments}


def hold() -> Json:
    """A pause until `Model.release` is set: the agent is in the middle of an answer."""
    return {"hold": True}


def refuse(status: int) -> Json:
    """An error in place of an answer."""
    return {"refuse": status}


@dataclass
class Request:
    """A request that the model received."""

    path: str
    headers: dict[str, str]
    body: Json
    is_main: bool


@dataclass
class Model:
    """The server. replies: what it answers next; requests: what it received."""

    replies: deque[Sequence[Json]] = field(default_factory=deque)
    requests: list[Request] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    holding: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None

    def __enter__(self) -> Model:
        model = self

        class Handler(_Handler):
            owner = model

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.release.set()
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def main_requests(self) -> list[Request]:
        """The requests of the agent's own loop."""
        return [request for request in self.requests if request.is_main]

    def answer(self, request: Request, last_text: str, tools: Sequence[str]) -> list[Json]:
        """Returns the blocks of the answer."""
        if _SUMMARY_REQUEST.search(last_text):
            return [say(f"<analysis>\nAll of it.\n</analysis>\n\n<summary>\n{SUMMARY}\n</summary>")]
        if not tools:
            return [say(json.dumps(_WITHOUT_TOOLS))]
        request.is_main = True
        blocks = list(self.replies.popleft()) if self.replies else [say("Nothing is left to do.")]
        return [_named(block, tools) for block in blocks]

    def pause(self) -> None:
        """Waits until the test lets the answer go on."""
        self.holding.set()
        self.release.wait()


def _named(block: Json, tools: Sequence[str]) -> Json:
    """Resolves the name of a called tool among those that the request offers."""
    if "call" not in block:
        return block
    names = _SHELL if block["call"] == "shell" else (block["call"],)
    found = next((tool for name in names for tool in tools if tool == name), None)
    found = found or next((tool for tool in tools if tool.endswith(names)), None)
    return {**block, "call": found or block["call"]}


class _Handler(BaseHTTPRequestHandler):
    owner: Model

    def log_message(self, format: str, *args: Any) -> None:
        return

    def do_GET(self) -> None:
        models = [{"id": name, "object": "model", "type": "model", "display_name": name} for name in ("stub-model",)]
        self._json({"object": "list", "data": models, "has_more": False})

    def do_HEAD(self) -> None:
        self._json({})

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "zstd":
            import zstandard

            raw = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
        path = self.path.partition("?")[0]
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            body = {}
        request = Request(path, {name.lower(): value for name, value in self.headers.items()}, body, False)
        self.owner.requests.append(request)
        try:
            self._respond(request)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _respond(self, request: Request) -> None:
        if request.path.endswith("/count_tokens"):
            self._json({"input_tokens": len(json.dumps(request.body)) // 4})
        elif request.path.endswith("/messages"):
            self._send(request, Anthropic(self.owner, request))
        elif request.path.endswith("/responses"):
            self._send(request, Responses(self.owner, request))
        elif request.path.endswith("/chat/completions"):
            self._send(request, Chat(self.owner, request))
        elif request.path.endswith(":countTokens"):
            self._json({"totalTokens": len(json.dumps(request.body)) // 4})
        elif request.path.endswith((":generateContent", ":streamGenerateContent")):
            self._send(request, Gemini(self.owner, request))
        else:
            self._json({}, 404)

    def _send(self, request: Request, answer: Answer) -> None:
        if refused := [block["refuse"] for block in answer.blocks if "refuse" in block]:
            error = {"type": "invalid_request_error", "message": "The request was refused."}
            self._json({"type": "error", "error": error}, refused[0])
            return
        if not (request.body.get("stream") or request.path.endswith(":streamGenerateContent")):
            self._json(answer.whole())
            return
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for event in answer.events():
            self.wfile.write(event)
            self.wfile.flush()
        self.close_connection = True

    def _json(self, value: Json, status: int = 200) -> None:
        raw = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)
