"""What an agent is to us: where it keeps its files, and which part of each is ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.install.config_edits import Part
from ctxmem_mcp.install.machine import Machine


def nothing(machine: Machine) -> Sequence[Part]:
    return ()


@dataclass(frozen=True, slots=True)
class Agent:
    """`traces`: folders and files of which one is there where the agent is. `servers` and `hooks`: our parts of the
    user's files, `project_...` of a project's; `others`: parts that only other programs write, which are looked at, and
    `remove_others`: what takes ours out of them. `after`: what a person does and sees next; `after_hooks`: and does and
    sees of the hooks."""

    name: str
    title: str
    traces: Callable[[Machine], Sequence[Path]]
    servers: Callable[[Machine], Sequence[Part]]
    hooks: Callable[[Machine], Sequence[Part]] = nothing
    project_servers: Callable[[Machine], Sequence[Part]] = nothing
    project_hooks: Callable[[Machine], Sequence[Part]] = nothing
    others: Callable[[Machine], Sequence[Part]] = nothing
    remove_others: str = ""
    after: str = ""
    after_hooks: str = ""

    def is_present(self, machine: Machine) -> bool:
        return any(trace.exists() for trace in self.traces(machine))

    def parts(self, machine: Machine, *, project: bool) -> list[Part]:
        """The servers' parts, then the hooks'."""
        if project:
            return [*self.project_servers(machine), *self.project_hooks(machine)]
        return [*self.servers(machine), *self.hooks(machine)]

    def steps_after(self, parts: Sequence[Part]) -> str:
        """What a person does and sees once these parts are registered."""
        with_hooks = any(part.role == "hooks" for part in parts)
        return f"{self.after} {self.after_hooks}" if with_hooks else self.after
