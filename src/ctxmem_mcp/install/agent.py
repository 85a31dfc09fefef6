"""What an agent is to us: where it keeps its files, and which part of each is ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ctxmem_mcp.agents import AgentInfo
from ctxmem_mcp.install.config_edits import ConfigEdit
from ctxmem_mcp.install.host_paths import HostPaths


def _no_edits(host: HostPaths) -> Sequence[ConfigEdit]:
    return ()


@dataclass(frozen=True, slots=True)
class Agent:
    """`traces`: folders and files of which one is there where the agent is. `servers` and `hooks`: our parts of the
    user's files, `project_...` of a project's; `others`: parts that only other programs write, which are looked at, and
    `remove_others`: what takes ours out of them. `after`: what a person does and sees next; `after_hooks`: and does and
    sees of the hooks."""

    info: AgentInfo
    markers: Callable[[HostPaths], Sequence[Path]]
    servers: Callable[[HostPaths], Sequence[ConfigEdit]]
    hooks: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    project_servers: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    project_hooks: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    foreign_servers: Callable[[HostPaths], Sequence[ConfigEdit]] = _no_edits
    foreign_removal_command: str = ""
    after: str = ""
    after_hooks: str = ""

    @property
    def name(self) -> str:
        return self.info.id

    @property
    def title(self) -> str:
        return self.info.title

    def is_present(self, host: HostPaths) -> bool:
        return any(marker.exists() for marker in self.markers(host))

    def edits(self, host: HostPaths, *, project: bool) -> list[ConfigEdit]:
        """The servers' parts, then the hooks'."""
        if project:
            return [*self.project_servers(host), *self.project_hooks(host)]
        return [*self.servers(host), *self.hooks(host)]

    def next_steps(self, edits: Sequence[ConfigEdit]) -> str:
        """What a person does and sees once these parts are registered."""
        with_hooks = any(edit.role == "hooks" for edit in edits)
        return f"{self.after} {self.after_hooks}" if with_hooks else self.after
