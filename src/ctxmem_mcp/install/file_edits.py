"""The edits of one file as a whole: some agents keep servers and hooks in the same file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.install.config_edits import ConfigEdit, FoundEntry
from ctxmem_mcp.install.server_entry import ServerCommand


@dataclass(frozen=True, slots=True)
class FileEdits:
    """All edits of one file, made one after the other. The methods are those of `ConfigEdit`."""

    path: Path
    edits: Sequence[ConfigEdit]

    @property
    def mode(self) -> int:
        return self.edits[0].mode

    def put(self, text: str | None, server: ServerCommand) -> str:
        for edit in self.edits:
            text = edit.put(text, server)
        return text or ""

    def find(self, text: str | None) -> list[FoundEntry]:
        return [entry for edit in self.edits for entry in edit.find(text)]

    def copy(self, text: str | None, source: str) -> str:
        for edit in self.edits:
            text = edit.copy(text, source)
        return text or ""

    def remove(self, text: str, *, prune: bool) -> str | None:
        left: str | None = text
        for edit in self.edits:
            left = left if left is None else edit.remove(left, prune=prune)
        return left


def group_by_path(edits: Sequence[ConfigEdit]) -> list[FileEdits]:
    """Returns the files of these edits, in order of their first edit."""
    paths = dict.fromkeys(edit.path for edit in edits)
    return [FileEdits(path, [edit for edit in edits if edit.path == path]) for path in paths]
