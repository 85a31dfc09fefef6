"""Cline's CLI as a user runs it, and its own transcript, read independently of the product's parser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from tests.agents.home import Home
from tests.agents.model import Json, Model
from tests.agents.packages import CLINE, installed

_TAGS = re.compile(r'\A<user_input mode="\w+">(.*)</user_input>\Z', re.DOTALL)


@contextmanager
def set_up(path: Path, model: Model) -> Iterator[Home]:
    """A home in which the scripted model is the provider. The daemon that the program leaves is ended."""
    home = Home(path, {"CLINE_TELEMETRY_DISABLED": "1"})
    try:
        options = ["-p", "openai-compatible", "-k", "not-a-real-key", "-m", "stub-model", "-b", f"{model.url}/v1"]
        home.run([installed(CLINE), "auth", *options])
        home.ctxmem("install", "cline")
        yield home
    finally:
        _end_daemon(home)


def _end_daemon(home: Home) -> None:
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if str(home.project) in process.cmdline():
                process.terminate()


def transcripts(home: Home) -> list[Path]:
    """The sessions' files, oldest first."""
    return sorted((home.path / ".cline" / "data" / "sessions").glob("*/*.messages.json"))


def session_of(file: Path) -> str:
    """The id of a session."""
    return file.name.removesuffix(".messages.json")


def words_of(file: Path) -> Iterator[str]:
    """The texts of a session: messages, the calls' arguments, the results."""
    for message in json.loads(file.read_text("utf-8"))["messages"]:
        for block in message["content"]:
            yield from _block(block)


def _block(block: Json) -> Iterator[str]:
    if block["type"] == "text":
        tagged = _TAGS.match(block["text"])
        yield tagged[1] if tagged else block["text"]
    elif block["type"] == "tool_use":
        yield _compact(block["input"])
    elif block["type"] == "tool_result":
        content = block["content"]
        yield content if isinstance(content, str) else "\n".join(map(_compact, content))


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
