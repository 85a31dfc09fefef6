"""Our hooks in JSON files (`ConfigEdit`): in groups for Claude Code and most others, in a flat list for Cursor."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ctxmem_mcp.agents import OUTPUT_EVENT, WAIT_OPTION, AgentInfo, Hook
from ctxmem_mcp.install import json_edit
from ctxmem_mcp.install.agent_version import Version
from ctxmem_mcp.install.config_edits import FoundEntry, Role, json_object
from ctxmem_mcp.install.errors import CannotEdit
from ctxmem_mcp.install.server_entry import ServerCommand, find_our_call, is_our_call, is_our_hook

_HOOKS, _ARGUMENTS, _BACKGROUND = "hooks", "args", "async"


@dataclass(frozen=True)
class JsonHooks:
    """Hooks in JSON, under `hooks` and the event's name.

    Attributes:
        flat: an event has a list of hooks; else a list of groups, each with a matcher and its hooks.
        typed: a hook has `type`.
        milliseconds: the agent takes a hook's `timeout` for milliseconds.
        by_bash: the agent runs hooks in a bash, on Windows too, unless it runs them without a shell.
        version: the file's format version, added if it is missing.
        agent_version: the agent's version, if it is known. Without it, only what all versions have is registered.
        shortens_outputs: the agent waits for the hook after a call, because the reply may replace the call's output.
    """

    path: Path
    agent: AgentInfo
    flat: bool = False
    typed: bool = True
    milliseconds: bool = False
    by_bash: bool = False
    version: int | None = None
    agent_version: Version | None = None
    shortens_outputs: bool = False

    role: ClassVar[Role] = "hooks"
    mode: ClassVar[int] = 0o666

    def put(self, text: str | None, server: ServerCommand) -> str:
        text = self._with_version(text)
        self._refuse_mixed(text)
        for name, hook in self.agent.events.items():
            if name in self.events or (self.agent_version is None and self._our_hooks(text, name)):
                text = self._put_event(text, name, hook, server)
            else:
                text = self._remove_event(text, name)
        for name in [name for name in _events(text) if name not in self.agent.events]:
            text = self._remove_event(text, name)
        return text

    @property
    def events(self) -> list[str]:
        """The events that the agent's version is known to have."""
        return [name for name, hook in self.agent.events.items() if not hook.since or self._has(hook.since)]

    def _has(self, since: Version | None) -> bool:
        return since is not None and self.agent_version is not None and self.agent_version >= since

    def _has_to_wait(self, event: str) -> bool:
        """Whether the agent has to wait for the hook, which replaces a call's output."""
        return self.shortens_outputs and event == OUTPUT_EVENT

    def _is_early(self, event: str, hook: dict[str, Any], call: list[str]) -> bool:
        """Whether the agent does not wait for a hook that it has to wait for, or the hook does not know it."""
        return self._has_to_wait(event) and (hook.get(_BACKGROUND) is True or WAIT_OPTION not in call)

    def find(self, text: str | None) -> list[FoundEntry]:
        off = json_object(text).get("disableAllHooks") is True
        return [
            FoundEntry(name, tuple(call), off=off, in_background=self._is_early(name, hook, call))
            for name, entries in _events(text).items()
            for hook in self._hooks(entries)
            if (call := _find_our_call(hook))
        ]

    def copy(self, text: str | None, source: str) -> str:
        text = self._with_version(text)
        for name, entries in _events(source).items():
            for entry in self._only_ours(entries):
                text = json_edit.put(text, (_HOOKS, name, len(_events(text).get(name, []))), entry)
        return text

    def remove(self, text: str, *, prune: bool) -> str | None:
        self._refuse_mixed(text)
        for name in [name for name in _events(text) if self._our_hooks(text, name)]:
            text = self._remove_event(text, name)
            if prune and not _events(text):
                text = json_edit.drop(text, (_HOOKS,))
        return text

    def data_dir(self, text: str | None) -> str | None:
        return None

    # ------------------------------------------------------------ one event

    def _put_event(self, text: str, name: str, hook: Hook, server: ServerCommand) -> str:
        call, options = self._call(name, server), self._options(name, hook)
        paths_to_ours = self._our_hooks(text, name)
        if not paths_to_ours:
            entry = {**({"type": "command"} if self.typed else {}), **call, **options}
            matcher = {"matcher": hook.matcher} if hook.matcher else {}
            new = entry if self.flat else {**matcher, _HOOKS: [entry]}
            return json_edit.put(text, (_HOOKS, name, len(_events(text).get(name, []))), new)
        text = self._remove_event(text, name, keep=1)
        keys = self._our_hooks(text, name)[0]
        present = _get(json_object(text), keys)
        for key, value in {**call, **{key: options[key] for key in options if key not in present}}.items():
            text = _set(text, (*keys, key), value)
        if _ARGUMENTS in present and _ARGUMENTS not in call:
            text = json_edit.drop(text, (*keys, _ARGUMENTS))
        if hook.in_background and _BACKGROUND in present and _BACKGROUND not in options:
            text = json_edit.drop(text, (*keys, _BACKGROUND))
        group = _events(text)[name][keys[2]]
        if hook.matcher and not self.flat and len(group[_HOOKS]) == 1:
            text = _set(text, (*keys[:3], "matcher"), hook.matcher)
        return text

    def _call(self, name: str, server: ServerCommand) -> dict[str, Any]:
        """The members of a hook that call this program. On Windows without a shell, if the agent can do that: which
        shell it takes differs between machines, and so do their rules for quotes and backslashes."""
        options = [WAIT_OPTION] if self._has_to_wait(name) else []
        if server.system == "windows" and self._has(self.agent.arguments_since):
            return {"command": server.command, _ARGUMENTS: server.hook_arguments(self.agent.id, *options)}
        return {"command": server.hook_line(self.agent.id, *options, by_bash=self.by_bash)}

    def _options(self, name: str, hook: Hook) -> dict[str, Any]:
        timeout = hook.timeout_seconds * (1_000 if self.milliseconds else 1)
        in_background = hook.in_background and not self._has_to_wait(name)
        return {"timeout": timeout, **({_BACKGROUND: True} if in_background else {})}

    def _remove_event(self, text: str, name: str, *, keep: int = 0) -> str:
        """The text without our hooks of an event, except the first `keep`, and without containers that are then
        empty."""
        gone = self._our_hooks(text, name)[keep:]
        for keys in reversed(gone):
            alone = not self.flat and len(_events(text)[name][keys[2]][_HOOKS]) == 1
            text = json_edit.drop(text, keys[:3] if alone else keys)
        return json_edit.drop(text, (_HOOKS, name)) if gone and not _events(text)[name] else text

    def _our_hooks(self, text: str | None, name: str) -> list[tuple[Any, ...]]:
        """The key paths of our hooks of an event."""
        entries = _events(text).get(name, [])
        if self.flat:
            return [(_HOOKS, name, i) for i, entry in enumerate(entries) if _is_ours(entry)]
        return [
            (_HOOKS, name, i, _HOOKS, k)
            for i, group in enumerate(entries)
            for k, hook in enumerate(_hooks_of(group))
            if _is_ours(hook)
        ]

    def _hooks(self, entries: list[Any]) -> Iterator[dict[str, Any]]:
        """All hooks of an event, ours and others'."""
        for entry in entries:
            yield from (one for one in ([entry] if self.flat else _hooks_of(entry)) if isinstance(one, dict))

    def _refuse_mixed(self, text: str) -> None:
        """Raises CannotEdit if a command line does more than call ours: the rest is the user's, and can't be kept when
        ours is changed or removed."""
        for name, entries in _events(text).items():
            for line in (hook.get("command") for hook in self._hooks(entries) if not _is_ours(hook)):
                if find_our_call(line):
                    raise CannotEdit(
                        f"has a hook for {name} that does more than call this program, `{line}`; "
                        "put the call and the rest into separate hooks"
                    )

    def _only_ours(self, entries: list[Any]) -> Iterator[Any]:
        for entry in entries:
            if self.flat:
                yield from [entry] if _is_ours(entry) else []
            elif ours := [hook for hook in _hooks_of(entry) if _is_ours(hook)]:
                yield {**entry, _HOOKS: ours}

    def _with_version(self, text: str | None) -> str:
        if self.version is not None and "version" not in json_object(text):
            return json_edit.put(text or "", ("version",), self.version)
        return text or ""


def _events(text: str | None) -> dict[str, list[Any]]:
    """The events in a file, each with the hooks registered for it. Raises CannotEdit."""
    events = json_object(text).get(_HOOKS, {})
    if not isinstance(events, dict):
        raise CannotEdit("has 'hooks', which is not an object")
    for name, entries in events.items():
        if not isinstance(entries, list):
            raise CannotEdit(f"has 'hooks.{name}', which is not a list")
    return events


def _hooks_of(group: Any) -> list[Any]:
    hooks = group.get(_HOOKS) if isinstance(group, dict) else None
    return hooks if isinstance(hooks, list) else []


def _is_ours(hook: Any) -> bool:
    return isinstance(hook, dict) and (bool(_call_without_shell(hook)) or is_our_hook(hook.get("command")))


def _find_our_call(hook: dict[str, Any]) -> list[str]:
    return _call_without_shell(hook) or find_our_call(hook.get("command"))


def _call_without_shell(hook: dict[str, Any]) -> list[str]:
    """The words of our hook's call, if the hook is a program with a list of arguments."""
    arguments = hook.get(_ARGUMENTS)
    words = [hook.get("command"), *arguments] if isinstance(arguments, list) else []
    texts = [word for word in words if isinstance(word, str)]
    return texts if len(texts) == len(words) and is_our_call(texts) else []


def _set(text: str, keys: tuple[Any, ...], value: Any) -> str:
    holder = _get(json_object(text), keys[:-1])
    return text if keys[-1] in holder and holder[keys[-1]] == value else json_edit.put(text, keys, value)


def _get(value: Any, keys: tuple[Any, ...]) -> Any:
    for step in keys:
        value = value[step]
    return value
