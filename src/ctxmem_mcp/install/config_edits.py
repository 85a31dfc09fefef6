"""One file's share of ours. Each kind of file has the same five verbs, all pure:

    put      the text with ours as it is to be: added, or what is older of ours brought up to date in place
    found    ours as it stands
    carry    ours, as it stands in one text, put into another that has none of it
    without  the text without ours; `prune` takes with it what held nothing else
    folder   (a server's) the data folder that it was told to use

A text is None where there is no file. Raises Unfit where a file is not what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ctxmem_mcp.install import json_edit, jsonc, toml_edit
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.server_entry import NAME, ServerCommand, data_dir_of, is_our_server

Role = Literal["server", "hooks"]


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """One of ours as it stands: under which name, or at which event; what it runs; whether its file switches it off."""

    where: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    off: bool = False


class ConfigEdit(Protocol):
    role: ClassVar[Role]
    mode: ClassVar[int]

    @property
    def path(self) -> Path: ...
    def put(self, text: str | None, server: ServerCommand) -> str: ...
    def find(self, text: str | None) -> list[FoundEntry]: ...
    def copy(self, text: str | None, of: str) -> str: ...
    def remove(self, text: str, *, prune: bool) -> str | None: ...
    def data_dir(self, text: str | None) -> str | None: ...


class _Servers:
    """A list of servers under one key of a file, whatever the file is written in."""

    key: str
    role: ClassVar[Role] = "server"
    mode: ClassVar[int] = 0o666
    # What the format calls values by name.
    kind: ClassVar[str]

    def find(self, text: str | None) -> list[FoundEntry]:
        servers = self._servers(text)
        return [_found_server(name, servers[name]) for name in _our_names(servers)]

    def copy(self, text: str | None, of: str) -> str:
        servers, text = self._servers(of), text or ""
        for name in _our_names(servers):
            text = self._put(text, (self.key, name), servers[name])
        return text

    def data_dir(self, text: str | None) -> str | None:
        servers = self._servers(text)
        known = _our_name(servers)
        return None if known is None else data_dir_of(servers[known])

    def _servers(self, text: str | None) -> dict[str, Any]:
        servers = self._read(text).get(self.key, {})
        if not isinstance(servers, dict):
            raise CannotEdit(f"has {self.key!r}, which is no {self.kind}")
        return servers

    def _read(self, text: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _put(self, text: str, keys: tuple[str, ...], value: Any) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class JsonServers(_Servers):
    """A list of servers in JSON, under one key of the file, or of what stands at `within` in it."""

    path: Path
    key: str
    leading: Mapping[str, Any] = field(default_factory=dict)
    trailing: Mapping[str, Any] = field(default_factory=dict)
    within: tuple[str, ...] = ()

    kind: ClassVar[str] = "object"

    def put(self, text: str | None, server: ServerCommand) -> str:
        servers = self._servers(text)
        known = _our_name(servers)
        text = text or ""
        if known is None:
            new = {**self.leading, "command": server.command, "args": server.arguments, **self.trailing}
            return self._put(text, (self.key, NAME), new)
        for name, value in (("command", server.command), ("args", server.arguments)):
            if servers[known].get(name) != value:
                text = self._put(text, (self.key, known, name), value)
        return text

    def remove(self, text: str, *, prune: bool) -> str | None:
        for name in _our_names(self._servers(text)):
            text = json_edit.drop(text, (*self.within, self.key, name))
            if prune and not self._servers(text):
                text = json_edit.drop(text, (*self.within, self.key))
        return text

    def _read(self, text: str | None) -> dict[str, Any]:
        inner: Any = json_object(text)
        for key in self.within:
            inner = inner.get(key) if isinstance(inner, dict) else None
        return inner if isinstance(inner, dict) else {}

    def _put(self, text: str, keys: tuple[str, ...], value: Any) -> str:
        return json_edit.put(text, (*self.within, *keys), value)


@dataclass(frozen=True)
class TomlServers(_Servers):
    """A table of servers in TOML."""

    path: Path
    key: str
    trailing: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "table"

    def put(self, text: str | None, server: ServerCommand) -> str:
        known = _our_name(self._servers(text))
        new = {"command": server.command, "args": server.arguments, **({} if known else self.trailing)}
        return self._put(text or "", (self.key, known or NAME), new)

    def remove(self, text: str, *, prune: bool) -> str | None:
        for name in _our_names(self._servers(text)):
            text = toml_edit.drop(text, (self.key, name))
        return text

    def _read(self, text: str | None) -> dict[str, Any]:
        return toml_edit.read(text or "")

    def _put(self, text: str, keys: tuple[str, ...], value: Any) -> str:
        return toml_edit.put(text, keys, value)


def json_object(text: str | None) -> dict[str, Any]:
    """What a JSON file says; nothing where there is no file, or nothing in it. Raises Unfit."""
    if text is None or not text.strip(jsonc.BOM + " \t\r\n"):
        return {}
    try:
        value = jsonc.read(text)
    except jsonc.NotJson as error:
        raise CannotEdit(f"is not JSON, even with comments granted: {error}") from error
    if not isinstance(value, dict):
        raise CannotEdit("is JSON, but no object")
    return value


def _our_names(servers: Mapping[str, Any]) -> list[str]:
    return [name for name, entry in servers.items() if is_our_server(entry)]


def _our_name(servers: Mapping[str, Any]) -> str | None:
    """The name of the entry that is ours to bring up to date. Raises Unfit where our name is somebody else's."""
    if NAME in servers and not is_our_server(servers[NAME]):
        raise CannotEdit(f"has a server named {NAME!r} that does not start this program; rename or remove it first")
    known = _our_names(servers)
    return NAME if NAME in servers else known[0] if len(known) == 1 else None


def _found_server(name: str, entry: Mapping[str, Any]) -> FoundEntry:
    words = entry.get("args")
    arguments = [str(word) for word in words] if isinstance(words, list) else []
    given = entry.get("env")
    environment = {key: str(value) for key, value in given.items()} if isinstance(given, Mapping) else {}
    off = entry.get("disabled") is True or entry.get("enabled") is False
    return FoundEntry(name, (entry["command"], *arguments), environment, off)
