"""Our hooks that are files of their own (`ConfigEdit`): a script for each event for Cline, a plugin for opencode."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from ctxmem_mcp.install.config_edits import FoundEntry, Role
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.server_entry import PROGRAM, ServerCommand, is_our_hook, shlex_words

_WRITTEN_BY = f"Written by `{PROGRAM} install`; `{PROGRAM} uninstall` removes it."
_PLUGIN = Path(__file__).with_name("opencode_plugin.js")


@dataclass(frozen=True)
class _HookFile:
    """A file that calls our hook and has nothing else in it. One that was edited since is the user's own."""

    path: Path
    agent: str

    role: ClassVar[Role] = "hooks"
    mode: ClassVar[int]

    def put(self, text: str | None, server: ServerCommand) -> str:
        if not _is_blank(text) and self._call(text or "") is None:
            line = server.hook_line(self.agent)
            raise CannotEdit(f"is a hook of your own; call `{line}` from it, or install with --no-hooks")
        return self._text(server)

    def find(self, text: str | None) -> list[FoundEntry]:
        call = None if text is None else self._call(text)
        return [] if call is None else [FoundEntry(self.path.name, call)]

    def copy(self, text: str | None, source: str) -> str:
        return source if _is_blank(text) else text or ""

    def remove(self, text: str, *, prune: bool) -> str | None:
        return text if self._call(text) is None else None

    def data_dir(self, text: str | None) -> str | None:
        return None

    def _text(self, server: ServerCommand) -> str:
        raise NotImplementedError

    def _call(self, text: str) -> tuple[str, ...] | None:
        """Returns the command line in a hook file that this program wrote; None if another program wrote it."""
        raise NotImplementedError


def _is_blank(text: str | None) -> bool:
    return text is None or not text.strip()


@dataclass(frozen=True)
class HookScript(_HookFile):
    """A shell script, named for its event."""

    mode: ClassVar[int] = 0o777
    opening: ClassVar[str] = f"#!/bin/sh\n# {_WRITTEN_BY}\n"

    def _text(self, server: ServerCommand) -> str:
        return f"{self.opening}exec {server.hook_line(self.agent)}\n"

    def _call(self, text: str) -> tuple[str, ...] | None:
        line = text.removeprefix(self.opening).rstrip("\n").removeprefix("exec ")
        is_ours = text.startswith(self.opening) and "\n" not in line and is_our_hook(line)
        return tuple(shlex_words(line)) if is_ours else None


@dataclass(frozen=True)
class OpencodePlugin(_HookFile):
    """A plugin in JavaScript: a line with a hash of the code, whatever version wrote it, the command, and the code."""

    mode: ClassVar[int] = 0o666
    start: ClassVar[str] = "const COMMAND = "

    def _text(self, server: ServerCommand) -> str:
        words = [server.command, "hook", self.agent, *server.arguments]
        code = _PLUGIN.read_text("utf-8")
        return f"{_plugin_opening(code)}\n{self.start}{json.dumps(words, ensure_ascii=False)}\n{code}"

    def _call(self, text: str) -> tuple[str, ...] | None:
        opening, _, rest = text.partition("\n")
        command, _, code = rest.partition("\n")
        if opening != _plugin_opening(code) or not command.startswith(self.start):
            return None
        try:
            return tuple(json.loads(command.removeprefix(self.start)))
        except ValueError:
            return None


def _plugin_opening(code: str) -> str:
    return f"// {_WRITTEN_BY} {hashlib.sha256(code.encode()).hexdigest()[:12]}"
