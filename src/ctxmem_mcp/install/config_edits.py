"""Our entries in one config file. Every kind of file has the same five methods (`ConfigEdit`), all of them pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from ctxmem_mcp.install import json_edit, jsonc, toml_edit
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.server_entry import NAME, ServerCommand, command_words, data_dir_of, is_our_server

Role = Literal["server", "hooks"]


@dataclass(frozen=True, slots=True)
class FoundEntry:
    """An entry of ours in a config file.

    Attributes:
        where: the server's name, or the hook's event.
        command: the command line that it runs.
        environment: the environment variables that it sets.
        off: whether the file disables it.
        in_background: whether the agent goes on while the hook runs, though it has to wait for its reply.
    """

    where: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    off: bool = False
    in_background: bool = False


class ConfigEdit(Protocol):
    """How our entries in one file are added, found and removed.

    A text is the file's content; None if there is no file. Each method raises CannotEdit if the file is not what it
    should be.

    Attributes:
        role: whether the entries are servers or hooks.
        mode: the permissions of a new file, before the umask.
    """

    role: ClassVar[Role]
    mode: ClassVar[int]

    @property
    def path(self) -> Path: ...

    def put(self, text: str | None, server: ServerCommand) -> str:
        """Returns the text with our entries: new ones are added, older ones updated in place."""
        ...

    def find(self, text: str | None) -> list[FoundEntry]:
        """Returns our entries."""
        ...

    def copy(self, text: str | None, source: str) -> str:
        """Returns a text that has no entries of ours with those of the source, unchanged."""
        ...

    def remove(self, text: str, *, prune: bool) -> str | None:
        """Returns the text without our entries. prune: also without containers that are empty then."""
        ...

    def data_dir(self, text: str | None) -> str | None:
        """Returns the data folder that a registered server names; None if it names none, and for hooks."""
        ...


class Servers:
    """Servers under one key of a file, in any file format."""

    key: str
    role: ClassVar[Role] = "server"
    mode: ClassVar[int] = 0o666
    # The format's word for a mapping.
    kind: ClassVar[str]

    def find(self, text: str | None) -> list[FoundEntry]:
        servers = self._servers(text)
        return [_found_server(name, servers[name]) for name in our_names(servers)]

    def copy(self, text: str | None, source: str) -> str:
        servers, text = self._servers(source), text or ""
        for name in our_names(servers):
            text = self._put(text, (self.key, name), servers[name])
        return text

    def data_dir(self, text: str | None) -> str | None:
        servers = self._servers(text)
        known = our_name(servers)
        return None if known is None else data_dir_of(servers[known])

    def _servers(self, text: str | None) -> dict[str, Any]:
        servers = self._read(text).get(self.key, {})
        if not isinstance(servers, dict):
            raise CannotEdit(f"has {self.key!r}, which is not {self.kind}")
        return servers

    def _read(self, text: str | None) -> dict[str, Any]:
        raise NotImplementedError

    def _put(self, text: str, keys: tuple[str, ...], value: Any) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class JsonServers(Servers):
    """Servers in JSON, under one key of the file, or of the object at `within`.

    A new entry has the members of `leading` before the command, and those of `trailing` after it.
    one_list: `command` is a list that contains the arguments.
    """

    path: Path
    key: str
    leading: Mapping[str, Any] = field(default_factory=dict)
    trailing: Mapping[str, Any] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    one_list: bool = False

    kind: ClassVar[str] = "an object"

    def put(self, text: str | None, server: ServerCommand) -> str:
        servers = self._servers(text)
        known = our_name(servers)
        text = text or ""
        if known is None:
            return self._put(text, (self.key, NAME), {**self.leading, **self._command(server), **self.trailing})
        for name, value in self._command(server).items():
            if servers[known].get(name) != value:
                text = self._put(text, (self.key, known, name), value)
        return text

    def remove(self, text: str, *, prune: bool) -> str | None:
        for name in our_names(self._servers(text)):
            text = json_edit.drop(text, (*self.within, self.key, name))
            if prune and not self._servers(text):
                text = json_edit.drop(text, (*self.within, self.key))
        return text

    def _command(self, server: ServerCommand) -> dict[str, Any]:
        if self.one_list:
            return {"command": [server.command, *server.arguments]}
        return {"command": server.command, "args": server.arguments}

    def _read(self, text: str | None) -> dict[str, Any]:
        inner: Any = json_object(text)
        for key in self.within:
            inner = inner.get(key) if isinstance(inner, dict) else None
        return inner if isinstance(inner, dict) else {}

    def _put(self, text: str, keys: tuple[str, ...], value: Any) -> str:
        return json_edit.put(text, (*self.within, *keys), value)


@dataclass(frozen=True)
class TomlServers(Servers):
    """Servers in TOML, as tables under one key. A new one has the values of `trailing` after the command."""

    path: Path
    key: str
    trailing: Mapping[str, Any] = field(default_factory=dict)

    kind: ClassVar[str] = "a table"

    def put(self, text: str | None, server: ServerCommand) -> str:
        known = our_name(self._servers(text))
        new = {"command": server.command, "args": server.arguments, **({} if known else self.trailing)}
        return self._put(text or "", (self.key, known or NAME), new)

    def remove(self, text: str, *, prune: bool) -> str | None:
        for name in our_names(self._servers(text)):
            text = toml_edit.drop(text, (self.key, name))
        return text

    def _read(self, text: str | None) -> dict[str, Any]:
        return toml_edit.read(text or "")

    def _put(self, text: str, keys: tuple[str, ...], value: Any) -> str:
        return toml_edit.put(text, keys, value)


def json_object(text: str | None) -> dict[str, Any]:
    """Returns the object in a JSON file; an empty one if there is no file, or nothing in it. Raises CannotEdit."""
    if text is None or not text.strip(jsonc.BOM + " \t\r\n"):
        return {}
    try:
        value = jsonc.read(text)
    except jsonc.NotJson as error:
        raise CannotEdit(f"is not valid JSON (comments are allowed): {error}") from error
    if not isinstance(value, dict):
        raise CannotEdit("is JSON, but not an object")
    return value


def our_names(servers: Mapping[str, Any]) -> list[str]:
    """Returns the names of the entries that start this program."""
    return [name for name, entry in servers.items() if is_our_server(entry)]


def our_name(servers: Mapping[str, Any]) -> str | None:
    """Returns the name of the entry to update; None to add one.

    Raises CannotEdit if our name is taken by another server.
    """
    if NAME in servers and not is_our_server(servers[NAME]):
        raise CannotEdit(f"has a server named {NAME!r} that does not start this program; rename or remove it first")
    known = our_names(servers)
    return NAME if NAME in servers else known[0] if len(known) == 1 else None


def _found_server(name: str, entry: Mapping[str, Any]) -> FoundEntry:
    given = entry.get("env", entry.get("environment", entry.get("envs")))
    environment = {key: str(value) for key, value in given.items()} if isinstance(given, Mapping) else {}
    off = entry.get("disabled") is True or entry.get("enabled") is False
    return FoundEntry(name, tuple(command_words(entry)), environment, off)
