"""Files of hooks, with the verbs of config_edits.py: hooks in groups as Claude Code and Codex have them, a flat list of
them as Cursor has, a file for each event as Cline has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from ctxmem_mcp.install import json_edit
from ctxmem_mcp.install.config_edits import Found, Role, json_object
from ctxmem_mcp.install.errors import Unfit
from ctxmem_mcp.install.server_entry import HOOK_SECONDS, PROGRAM, Ours, is_our_hook, our_call_in, shlex_words

_HOOKS = "hooks"


@dataclass(frozen=True)
class Event:
    """An event that we want to hear of: which of its kinds, and for how long the agent may wait."""

    matcher: str | None = None
    seconds: int = HOOK_SECONDS


@dataclass(frozen=True)
class JsonHooks:
    """Hooks in JSON, under `hooks` and the event's name: in groups with a matcher, or `flat`."""

    path: Path
    agent: str
    events: Mapping[str, Event]
    flat: bool = False
    by_bash: bool = False
    version: int | None = None

    role: ClassVar[Role] = "hooks"
    mode: ClassVar[int] = 0o666

    def put(self, text: str | None, ours: Ours) -> str:
        text = self._opened(text)
        self._refuse_mixed(text)
        for name, event in self.events.items():
            text = self._put_event(text, name, event, ours.hook_line(self.agent, by_bash=self.by_bash))
        for name in [name for name in _lists(text) if name not in self.events]:
            text = self._take(text, name)
        return text

    def found(self, text: str | None) -> list[Found]:
        off = json_object(text).get("disableAllHooks") is True
        return [
            Found(name, tuple(call), off=off)
            for name, entries in _lists(text).items()
            for hook in self._hooks(entries)
            if (call := our_call_in(hook.get("command")))
        ]

    def carry(self, text: str | None, of: str) -> str:
        text = self._opened(text)
        for name, entries in _lists(of).items():
            for entry in self._only_ours(entries):
                text = json_edit.put(text, (_HOOKS, name, len(_lists(text).get(name, []))), entry)
        return text

    def without(self, text: str, *, prune: bool) -> str | None:
        self._refuse_mixed(text)
        for name in [name for name in _lists(text) if self._ways(text, name)]:
            text = self._take(text, name)
            if prune and not _lists(text):
                text = json_edit.drop(text, (_HOOKS,))
        return text

    def folder(self, text: str | None) -> str | None:
        return None

    # ------------------------------------------------------------ one event

    def _put_event(self, text: str, name: str, event: Event, line: str) -> str:
        ways = self._ways(text, name)
        if not ways:
            hook = {**({} if self.flat else {"type": "command"}), "command": line, "timeout": event.seconds}
            matcher = {"matcher": event.matcher} if event.matcher else {}
            new = hook if self.flat else {**matcher, _HOOKS: [hook]}
            return json_edit.put(text, (_HOOKS, name, len(_lists(text).get(name, []))), new)
        text = self._take(text, name, keep=1)
        way = self._ways(text, name)[0]
        text = _changed(text, (*way, "command"), line)
        if "timeout" not in _at(json_object(text), way):
            text = json_edit.put(text, (*way, "timeout"), event.seconds)
        group = _lists(text)[name][way[2]]
        if event.matcher and not self.flat and len(group[_HOOKS]) == 1:
            text = _changed(text, (*way[:3], "matcher"), event.matcher)
        return text

    def _take(self, text: str, name: str, *, keep: int = 0) -> str:
        """The text without our hooks of an event but the first `keep`, and without what held nothing else."""
        gone = self._ways(text, name)[keep:]
        for way in reversed(gone):
            alone = not self.flat and len(_lists(text)[name][way[2]][_HOOKS]) == 1
            text = json_edit.drop(text, way[:3] if alone else way)
        return json_edit.drop(text, (_HOOKS, name)) if gone and not _lists(text)[name] else text

    def _ways(self, text: str | None, name: str) -> list[tuple[Any, ...]]:
        """Where our hooks of an event stand."""
        entries = _lists(text).get(name, [])
        if self.flat:
            return [(_HOOKS, name, i) for i, entry in enumerate(entries) if _is_ours(entry)]
        return [
            (_HOOKS, name, i, _HOOKS, k)
            for i, group in enumerate(entries)
            for k, hook in enumerate(_hooks_of(group))
            if _is_ours(hook)
        ]

    def _hooks(self, entries: list[Any]) -> Iterator[dict[str, Any]]:
        """The hooks of an event, whoever's they are."""
        for entry in entries:
            yield from (one for one in ([entry] if self.flat else _hooks_of(entry)) if isinstance(one, dict))

    def _refuse_mixed(self, text: str) -> None:
        """A line that a person wrote around ours can't be changed or taken out without theirs. Raises Unfit."""
        for name, entries in _lists(text).items():
            for line in (hook.get("command") for hook in self._hooks(entries)):
                if our_call_in(line) and not is_our_hook(line):
                    raise Unfit(
                        f"has a hook for {name} that does more than call this program, `{line}`; "
                        "let it be the call alone, and the rest a hook of its own"
                    )

    def _only_ours(self, entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if self.flat:
                yield from [entry] if _is_ours(entry) else []
            elif ours := [hook for hook in _hooks_of(entry) if _is_ours(hook)]:
                yield {**entry, _HOOKS: ours}

    def _opened(self, text: str | None) -> str:
        if self.version is not None and "version" not in json_object(text):
            return json_edit.put(text or "", ("version",), self.version)
        return text or ""


def _lists(text: str | None) -> dict[str, list[Any]]:
    """The events of a file with what is registered for them. Raises Unfit."""
    events = json_object(text).get(_HOOKS, {})
    if not isinstance(events, dict):
        raise Unfit("has 'hooks', which is no object")
    for name, entries in events.items():
        if not isinstance(entries, list):
            raise Unfit(f"has 'hooks.{name}', which is no list")
    return events


def _hooks_of(group: Any) -> list[Any]:
    hooks = group.get(_HOOKS) if isinstance(group, dict) else None
    return hooks if isinstance(hooks, list) else []


def _is_ours(hook: Any) -> bool:
    return isinstance(hook, dict) and is_our_hook(hook.get("command"))


def _changed(text: str, way: tuple[Any, ...], value: Any) -> str:
    holder = _at(json_object(text), way[:-1])
    return text if way[-1] in holder and holder[way[-1]] == value else json_edit.put(text, way, value)


def _at(value: Any, way: tuple[Any, ...]) -> Any:
    for step in way:
        value = value[step]
    return value


@dataclass(frozen=True)
class Script:
    """A hook that is a file of its own, named for its event."""

    path: Path
    agent: str
    opening: str = field(default=f"#!/bin/sh\n# Written by `{PROGRAM} install`; `{PROGRAM} uninstall` removes it.\n")

    role: ClassVar[Role] = "hooks"
    mode: ClassVar[int] = 0o777

    def put(self, text: str | None, ours: Ours) -> str:
        if text is not None and not self._is_ours(text):
            raise Unfit(
                f"is a hook of your own; call `{ours.hook_line(self.agent)}` from it, or install with --no-hooks"
            )
        return f"{self.opening}exec {ours.hook_line(self.agent)}\n"

    def found(self, text: str | None) -> list[Found]:
        return (
            [Found(self.path.name, tuple(shlex_words(_line(text))))] if text is not None and self._is_ours(text) else []
        )

    def carry(self, text: str | None, of: str) -> str:
        return text if text is not None else of

    def without(self, text: str, *, prune: bool) -> str | None:
        return None if self._is_ours(text) else text

    def folder(self, text: str | None) -> str | None:
        return None

    def _is_ours(self, text: str) -> bool:
        lines = text.removeprefix(self.opening).rstrip("\n")
        return text.startswith(self.opening) and "\n" not in lines and is_our_hook(_line(text))


def _line(text: str) -> str:
    return text.rstrip("\n").rpartition("\n")[2].removeprefix("exec ")
